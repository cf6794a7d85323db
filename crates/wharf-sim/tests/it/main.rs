//! The simulator keeps finding nothing where nothing is wrong, and something where something is.

mod sabotage;
#[cfg(feature = "sagas")]
mod sagas;
mod seeds;

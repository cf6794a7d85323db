//! What the library adds to what is written by hand.

pub(crate) mod inbox;

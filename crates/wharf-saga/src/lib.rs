//! Usable alone, and pure: sagas by orchestration and by choreography.
//!
//! - [`definition`] is what a saga is to do: a machine in Amazon States Language, with the undo of
//!   each step beside it.
//! - [`expression`] is how data flows through it: JSONPath, JSONata, templates, conditions.
//! - [`machine`] is one saga on its way: what happened decides what happens next, and the facts
//!   that come of it are all there is to keep.
//! - [`choreography`] watches sagas that nobody orchestrates: contracts, verdicts, and the lens.
//!
//! There is no clock, socket, file or randomness here; all of them are arguments.

pub mod choreography;
pub mod definition;
pub mod expression;
pub mod machine;
#[cfg(feature = "testing")]
pub mod testing;

//! One saga on its way: decisions, the facts that come of them, and the state they add up to.
//!
//! Signatures to come: `decide(&Machine, &Saga, Input, &Env) -> Result<Decision, Refusal>`,
//! `Saga::apply(&Fact)`, `Saga::due()`, `Saga::open()`, `Saga::undo_preview()`.

mod data;
mod effect;
mod input;
mod status;

pub use data::{Data, SagaId, TaskToken};
pub use effect::{Cancel, Command, Effect, OpenTask, UndoStep};
pub use input::{Action, ChildEnd, Env, Failure, Input, Mark, Order, Outcome, Parent, Start};
pub use status::{ParkReason, Status};

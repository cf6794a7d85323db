//! One saga on its way: decisions, the facts that come of them, and the state they add up to.
//!
//! An [`Input`] is decided on against the [`Saga`] and its definition; what comes out are [`Fact`]s.
//! Facts are all there is to keep: [`Saga::apply`] folds them into the state, and
//! [`Fact::effect`] says what goes out because of them. A replay therefore decides nothing anew, and
//! a later version of the engine changes no saga that runs.
//!
//! There is no clock and no randomness here; both come with [`Env`]. Timers are part of the state:
//! [`Saga::due`] names the one moment at which [`Input::Tick`] is wanted.

mod apply;
mod branches;
mod data;
mod decide;
mod effect;
mod effects;
mod fact;
mod failing;
mod forward;
mod input;
mod nodes;
mod operator;
mod refusal;
mod resource;
mod saga;
mod status;
mod timeline;
mod token;
mod undo;
mod values;

pub use data::{Data, SagaId, TaskToken};
pub use decide::{decide, step};
pub use effect::{Cancel, Command, Effect, OpenTask, SubSaga, UndoStep};
pub use effects::Decision;
pub use fact::{Dispatched, Fact, Failed, Kept, Left, Stop, Trigger, Undone, What};
pub use input::{Action, ChildEnd, Env, Failure, Input, Mark, Order, Outcome, Parent, Start};
pub use refusal::Refusal;
pub use saga::{CurrentStep, ParkedStep, Saga};
pub use status::{ParkReason, Status};
pub use timeline::{Row, timeline};
pub use token::TokenKey;

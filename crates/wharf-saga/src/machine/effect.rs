//! What goes out of a saga: derived from facts, never decided anew.

use wharf_message::Timestamp;

use super::data::{Data, SagaId, TaskToken};
use super::status::{ParkReason, Status};

/// Something the world is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A task is to be done.
    Command(Box<Command>),
    /// A task waits for a slot of its resource: answer with [`super::Input::Admit`].
    Wanted {
        /// The visit.
        step: u32,
        /// The resource.
        resource: String,
    },
    /// Nobody waits for this task any more; its worker may stop. A hint, not a promise.
    Cancel(Cancel),
    /// A sub-saga is to be started. Its idempotency key is the effect's, so it starts once.
    StartChild(Box<Command>),
    /// A sub-saga is to be aborted; its end is still waited for.
    AbortChild(Cancel),
    /// A person is needed.
    Parked {
        /// Why.
        reason: ParkReason,
        /// The step that needs it, if it is one step.
        step: Option<u32>,
        /// The error's name.
        error: String,
        /// The explanation.
        cause: String,
    },
    /// The saga ended. A parent is to be told.
    Ended {
        /// How.
        status: Status,
        /// The output, when it completed.
        output: Data,
        /// The error's name, when it did not.
        error: Option<String>,
        /// The explanation.
        cause: Option<String>,
    },
}

/// A task for a worker: everything the worker's protocol needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The saga.
    pub saga: SagaId,
    /// Its type.
    pub saga_type: String,
    /// The visit of the state.
    pub step: u32,
    /// The state's name.
    pub step_name: String,
    /// Which attempt of the visit, from 1.
    pub attempt: u32,
    /// Which dispatch of the saga; fences stale workers.
    pub generation: u32,
    /// Who is to do it.
    pub resource: String,
    /// What with.
    pub arguments: Data,
    /// The same over all attempts: `<saga-id>/<step>`, and `<saga-id>/<step>/undo` for an undo.
    pub idempotency_key: String,
    /// Whether this undoes the step.
    pub undo: bool,
    /// When the saga gives the attempt up.
    pub deadline: Option<Timestamp>,
    /// The longest silence between heartbeats, in milliseconds.
    pub heartbeat: Option<u64>,
    /// The business case.
    pub correlation: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl Command {
    /// The token that names this dispatch.
    pub fn token(&self) -> TaskToken {
        TaskToken {
            saga: self.saga,
            step: self.step,
            generation: self.generation,
        }
    }
}

/// A dispatch that nobody waits for any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// The visit.
    pub step: u32,
    /// The dispatch.
    pub generation: u32,
    /// Who was to do it.
    pub resource: String,
}

/// A task that waits for a worker, as it was dispatched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTask {
    /// The command; to be sent again as it is after a restart.
    pub command: Command,
    /// Whether it is a sub-saga and not a worker's task.
    pub child: bool,
    /// Whether it still waits for a slot ([`Effect::Wanted`]); it was not sent then.
    pub held: bool,
    /// Whether its worker said that it has it.
    pub accepted: bool,
    /// When it was dispatched.
    pub since: Timestamp,
}

/// A sub-saga that has not told its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubSaga {
    /// What it was asked for with, but for its resource and arguments.
    pub command: Command,
    /// Whether its step wants it to abort, and goes on once it has ended.
    pub is_given_up: bool,
}

/// One undo that would happen, for "what would be undone now".
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct UndoStep {
    /// The visit.
    pub step: u32,
    /// The state's name.
    pub name: String,
    /// The resource of its undo.
    pub resource: String,
    /// Whether it is certain that there is something to undo.
    pub certain: bool,
    /// Undos of one stage run at the same time, and after those of all earlier stages.
    pub stage: u32,
}

//! From facts to effects. The same fact always has the same effects: nothing is decided here.

use super::data::{Data, SagaId};
use super::effect::{Cancel, Command, Effect, OpenTask, SubSaga};
use super::fact::{Dispatched, Fact, What};
use super::resource::{is_child, signal};
use super::saga::{Open, Phase, Saga, Step};

/// What one input made so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The facts, in order; they belong into one commit.
    pub facts: Vec<Fact>,
}

impl Decision {
    /// What goes out because of them, in order.
    pub fn effects(&self, saga: &Saga) -> Vec<Effect> {
        let effects = self.facts.iter().filter_map(|fact| fact.effect(saga));
        effects.collect()
    }
}

impl Fact {
    /// What goes out because of this fact. Of the saga only what it began with is read, so that it
    /// does not matter whether the fact was applied already.
    pub fn effect(&self, saga: &Saga) -> Option<Effect> {
        let cancel = |step: u32, generation: u32, resource: &str| {
            if generation == 0 || resource.is_empty() || signal(resource).is_some() {
                return None;
            }
            let cancel = Cancel {
                step,
                generation,
                resource: resource.to_owned(),
            };
            Some(if is_child(resource) {
                Effect::AbortChild(cancel)
            } else {
                Effect::Cancel(cancel)
            })
        };
        match &self.what {
            What::Dispatched(sent) => {
                let command = Box::new(saga.command(sent)?);
                Some(if is_child(&sent.resource) {
                    Effect::StartChild(command)
                } else {
                    Effect::Command(command)
                })
            }
            What::Held { step, resource } => Some(Effect::Wanted {
                step: *step,
                resource: resource.clone(),
            }),
            What::Failed(failed) => cancel(failed.step, failed.generation, &failed.given_up),
            What::Stopped {
                step,
                generation,
                resource,
                ..
            }
            | What::Aborting {
                step,
                generation,
                resource,
            } => cancel(*step, *generation, resource),
            What::Parked {
                step,
                reason,
                error,
                cause,
                ..
            } => Some(Effect::Parked {
                reason: *reason,
                step: *step,
                error: error.clone(),
                cause: cause.clone(),
            }),
            What::Ended {
                status,
                output,
                error,
                cause,
            } => Some(Effect::Ended {
                status: *status,
                output: output.clone().unwrap_or_default(),
                error: error.clone(),
                cause: cause.clone(),
            }),
            _ => None,
        }
    }
}

/// The idempotency key of a step's effect, or of its undo's: the same over all attempts.
pub(super) fn idempotency_key(saga: SagaId, step: u32, undo: bool) -> String {
    if undo {
        format!("{saga}/{step}/undo")
    } else {
        format!("{saga}/{step}")
    }
}

impl Saga {
    fn command(&self, sent: &Dispatched) -> Option<Command> {
        let start = self.start()?;
        Some(Command {
            saga: start.id,
            saga_type: start.saga_type.clone(),
            step: sent.step,
            step_name: sent.state.clone(),
            attempt: sent.attempt,
            generation: sent.generation,
            resource: sent.resource.clone(),
            arguments: sent.arguments.clone(),
            idempotency_key: idempotency_key(start.id, sent.step, sent.undo),
            undo: sent.undo,
            deadline: sent.timeout,
            heartbeat: sent.heartbeat,
            correlation: start.correlation.clone(),
            traceparent: start.traceparent.clone(),
        })
    }

    /// The tasks that wait for a worker, a sub-saga or a slot, for dispatch after a restart.
    pub fn open(&self) -> Vec<OpenTask> {
        if self.state.ended.is_some() {
            return Vec::new();
        }
        let steps = self.state.steps.iter();
        steps
            .filter_map(|(number, step)| self.open_task(*number, step))
            .collect()
    }

    /// Whether it waits for the end of a sub-saga.
    pub fn has_sub_sagas(&self) -> bool {
        self.state.ended.is_none() && self.state.steps.values().any(|step| step.child != 0)
    }

    /// The sub-saga of a dispatch that has not told its end.
    pub fn sub_saga(&self, number: u32, generation: u32) -> Option<SubSaga> {
        let step = self.step(number)?;
        if step.child == 0 || step.child != generation || self.state.ended.is_some() {
            return None;
        }
        let command = self.command(&Dispatched {
            step: number,
            attempt: step.child_attempt,
            generation,
            undo: step.child_undo,
            state: step.state.clone(),
            resource: String::new(),
            arguments: Data::null(),
            timeout: None,
            heartbeat: None,
        })?;
        Some(SubSaga {
            command,
            is_given_up: step.gave_up_its_child(),
        })
    }

    /// The sub-sagas that have not told their ends.
    pub fn sub_sagas(&self) -> Vec<SubSaga> {
        let steps = self.state.steps.iter();
        steps
            .filter_map(|(number, step)| self.sub_saga(*number, step.child))
            .collect()
    }

    /// The open task of one step.
    pub fn open_step(&self, number: u32) -> Option<OpenTask> {
        let step = self.step(number)?;
        self.open_task(number, step)
    }

    fn open_task(&self, number: u32, step: &Step) -> Option<OpenTask> {
        let held;
        let (open, is_held) = match &step.phase {
            Phase::Open(open) => (open.as_ref(), false),
            Phase::Held {
                resource,
                admitted: false,
            } => {
                held = Open {
                    generation: 0,
                    at: step.entered,
                    resource: resource.clone(),
                    arguments: step.input.clone(),
                    accepted: false,
                    timeout: None,
                    heartbeat: None,
                    beat: None,
                };
                (&held, true)
            }
            _ => return None,
        };
        let command = self.command(&Dispatched {
            step: number,
            attempt: step.attempt + u32::from(is_held),
            generation: open.generation,
            undo: step.undo,
            state: step.state.clone(),
            resource: open.resource.clone(),
            arguments: open.arguments.clone(),
            timeout: open.timeout,
            heartbeat: open.heartbeat,
        })?;
        Some(OpenTask {
            child: is_child(&command.resource),
            command,
            held: is_held,
            accepted: open.accepted,
            since: open.at,
        })
    }
}

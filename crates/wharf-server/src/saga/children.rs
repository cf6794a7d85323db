//! Sub-sagas in other partitions: asked for, aborted, and asked for again where either side may have
//! lost what the other said.
//!
//! What one partition tells another is no record; it is lost when either is read again. So a parent
//! asks again whenever that happened, and a sub-saga answers the same every time.

use wharf_saga::machine::{Action, ChildEnd, Command, Failure, Input, Order, Parent, SagaId};

use super::deciding::child_end;
use super::resources::{Worker, tasks};
use super::sending::{child_key, named};
use super::shard::{After, Group, Held, Shard};

impl Shard {
    /// The sub-saga that a dispatch asked for, whether or not it ever began.
    pub(super) fn child(&self, id: SagaId, step: u32, generation: u32) -> Option<SagaId> {
        let held = self.sagas.get(&id)?;
        let command = held.stored.saga.sub_saga(step, generation)?;
        self.child_of(held, &command)
    }

    fn child_of(&self, held: &Held, command: &Command) -> Option<SagaId> {
        let definition = held.definition.as_ref()?;
        let tasks = tasks(&definition.machine);
        let mut tasks = tasks.into_iter();
        let (_, task) = tasks.find(|(state, _)| *state == command.step_name)?;
        let resolved = self
            .shared
            .resources
            .resolve(&task.resource, &command.arguments);
        match resolved.map(|resolved| resolved.worker) {
            Ok(Worker::Saga(name)) => Some(SagaId::of(&named(&name).0, &child_key(command))),
            Ok(_) | Err(_) => None,
        }
    }

    /// Asks again for the sub-sagas of a partition that are waited for here.
    pub(super) fn ask_again(&self, partition: usize, after: &mut Vec<After>) {
        for id in self.ids() {
            let held = self.sagas.get(&id);
            let Some(held) = held.filter(|held| held.stored.saga.has_sub_sagas()) else {
                continue;
            };
            for task in held.stored.saga.open() {
                let child = self.child_of(held, &task.command);
                let is_there = child.is_some_and(|child| self.shared.at(child) == partition);
                if task.child && !task.held && is_there {
                    after.push(After::Child(Box::new(task.command)));
                }
            }
            self.aborts(held, after);
        }
    }

    /// Asks again for the ends of the sub-sagas that are to be aborted.
    pub(super) fn aborts(&self, held: &Held, after: &mut Vec<After>) {
        for command in held.stored.saga.aborting() {
            if let Some(child) = self.child_of(held, &command) {
                let parent = Parent {
                    saga: command.saga,
                    step: command.step,
                    generation: command.generation,
                };
                after.push(After::Abort(child, parent));
            }
        }
    }

    /// Aborts a sub-saga, or tells its parent that it is over. One that never began does not begin
    /// any more: its parent, which turned back, does not ask for it again.
    pub(super) fn abort_child(&mut self, child: SagaId, parent: &Parent, group: &mut Group) {
        let end = match self.sagas.get(&child) {
            Some(held) => child_end(&held.stored.saga),
            None => Some(ChildEnd::Aborted(Failure {
                error: "Saga.Aborted".to_owned(),
                cause: "it was never started".to_owned(),
                declared: true,
            })),
        };
        if let Some(end) = end {
            let input = Input::ChildEnded {
                step: parent.step,
                generation: parent.generation,
                end,
            };
            group.after.push(After::Send(parent.saga, input));
            return;
        }
        let order = Order {
            action: Action::Abort,
            by: format!("saga {}", parent.saga),
            reason: "the saga that waits for it is being undone".to_owned(),
        };
        if let Err(refused) = self.apply(child, Input::Operator(order), group) {
            // It is being undone already, or goes only forward; its end is told all the same.
            tracing::debug!(saga = %child, %refused, "a sub-saga is not aborted");
        }
    }
}

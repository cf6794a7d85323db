//! Sub-sagas in other partitions: asked for, aborted, and asked for again where either side may have
//! lost what the other said.
//!
//! What one partition tells another is no record; it is lost when either is read again. So a parent
//! asks again whenever that happened, and a sub-saga answers the same every time. A parent that has
//! ended remembers no sub-saga; so each sub-saga also asks whether it is still waited for, when it
//! begins and after every loss.

use wharf_saga::machine::{
    Action, ChildEnd, Command, Failure, Input, Order, Parent, Saga, SagaId, SubSaga,
};

use super::deciding::child_end;
use super::executions;
use super::held::Held;
use super::resources::{Form, Worker, tasks, undos};
use super::sending::{child_key, named};
use super::shard::{After, Group, Shard, Work};
use super::shared::Shared;

impl Shared {
    /// The saga that a task starts and whose end is its answer.
    fn started_by(&self, command: &Command) -> Option<SagaId> {
        let resolved = self
            .resources
            .resolve(&command.resource, &command.arguments)
            .ok()?;
        match (resolved.worker, resolved.form) {
            (Worker::Saga(name), Form::Plain) => {
                Some(SagaId::of(&named(&name).0, &child_key(command)))
            }
            (Worker::Saga(name), Form::Sync { .. }) => {
                Some(SagaId::of(&name, &executions::key(command)))
            }
            _ => None,
        }
    }

    /// A task that nobody waits for any more may be a saga that it started.
    pub(super) fn stop_started(&self, parent: Parent) {
        let visit = (parent.saga, parent.step, parent.generation);
        if let Some(child) = self.children.of(visit) {
            self.follow_up_with(child, Work::Abort { child, parent });
        }
    }
}

impl Shard {
    /// The sub-saga that a dispatch asked for, whether or not it ever began.
    pub(super) fn child(&self, id: SagaId, step: u32, generation: u32) -> Option<SagaId> {
        let held = self.sagas.get(&id)?;
        let sub_saga = held.look().ok()?.sub_saga(step, generation)?;
        self.child_of(held, sub_saga)
    }

    fn child_of(&self, held: &Held, sub_saga: SubSaga) -> Option<SagaId> {
        let definition = held.definition.as_ref()?;
        let mut command = sub_saga.command;
        command.resource = if command.undo {
            let mut undos = undos(&definition.machine).into_iter();
            let (_, resource) = undos.find(|(state, _)| *state == command.step_name)?;
            resource.to_owned()
        } else {
            let mut tasks = tasks(&definition.machine).into_iter();
            let (_, task) = tasks.find(|(state, _)| *state == command.step_name)?;
            task.resource.clone()
        };
        self.shared.started_by(&command)
    }

    /// Asks again for the sagas of a partition that are waited for here, and of those here whether
    /// they are waited for there.
    pub(super) fn ask_again(&self, partition: usize, after: &mut Vec<After>) {
        for id in self.ids() {
            let held = self.sagas.get(&id).filter(|held| held.is_linked());
            // One that cannot be read says so to whoever asks for it.
            let Some((held, saga)) = held.and_then(|held| Some((held, held.look().ok()?))) else {
                continue;
            };
            for task in saga.open() {
                let child = match task.held {
                    true => None,
                    false => self.shared.started_by(&task.command),
                };
                if child.is_some_and(|child| self.shared.at(child) == partition) {
                    after.push(match task.child {
                        true => After::Child(Box::new(task.command)),
                        false => After::Task(Box::new(task.command)),
                    });
                }
            }
            self.aborts(held, &saga, after);
            let parent = asks(&saga);
            let parent = parent.filter(|parent| self.shared.at(parent.saga) == partition);
            after.extend(parent.map(|parent| After::Ask(id, parent)));
        }
    }

    /// Asks again for the ends of the sub-sagas that were given up.
    pub(super) fn aborts(&self, held: &Held, saga: &Saga, after: &mut Vec<After>) {
        if !saga.has_sub_sagas() {
            return;
        }
        let sub_sagas = saga.sub_sagas().into_iter();
        for sub_saga in sub_sagas.filter(|sub_saga| sub_saga.is_given_up) {
            let token = sub_saga.command.token();
            if let Some(child) = self.child_of(held, sub_saga) {
                let parent = Parent {
                    saga: token.saga,
                    step: token.step,
                    generation: token.generation,
                };
                after.push(After::Abort(child, parent));
            }
        }
    }

    /// Aborts a sub-saga that nobody waits for: its parent gave it up, or ended, and whoever told it
    /// so may not have been heard. Of a parent that is not known nothing is known either.
    pub(super) fn wanted(&self, child: SagaId, parent: Parent, group: &mut Group) {
        let Some(held) = self.sagas.get(&parent.saga) else {
            return;
        };
        let is_waited_for = held.look().map(|saga| waits_for(&saga, &parent));
        if matches!(is_waited_for, Ok(false)) {
            group.after.push(After::Abort(child, parent));
        }
    }

    /// Aborts a sub-saga, or tells its parent that it is over. One that never began does not begin
    /// any more: its parent, which turned back, does not ask for it again.
    pub(super) fn abort_child(&mut self, child: SagaId, parent: &Parent, group: &mut Group) {
        let end = match self.sagas.get(&child) {
            Some(held) => match held.look() {
                // Somebody else's, under the name that was to be its.
                Ok(saga) if !is_child_of(&saga, parent) => return,
                Ok(saga) => child_end(&saga),
                Err(_unreadable) => None,
            },
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
            reason: "the saga that started it does not wait for it any more".to_owned(),
        };
        if let Err(refused) = self.apply(child, Input::Operator(order), group) {
            // It is being undone already, or goes only forward; its end is told all the same.
            tracing::debug!(saga = %child, %refused, "a sub-saga is not aborted");
        }
    }
}

/// The parent of a saga that has not ended.
pub(super) fn asks(saga: &Saga) -> Option<Parent> {
    let start = saga.start().filter(|_| saga.ended().is_none())?;
    start.parent.clone()
}

fn is_child_of(saga: &Saga, parent: &Parent) -> bool {
    let start = saga.start();
    let known = start.and_then(|start| start.parent.as_ref());
    known.is_some_and(|known| (known.saga, known.step) == (parent.saga, parent.step))
}

/// Whether the end of a sub-saga is the answer to a task that is open.
fn waits_for(saga: &Saga, parent: &Parent) -> bool {
    match saga.sub_saga(parent.step, parent.generation) {
        Some(sub_saga) => !sub_saga.is_given_up,
        None => {
            let open = saga
                .open_step(parent.step)
                .filter(|_| saga.ended().is_none());
            open.is_some_and(|open| open.command.generation == parent.generation)
        }
    }
}

//! What a partition does with one input: the decision, its records, and what goes out after them.
//!
//! Facts are applied to the state in memory as they are decided; should their commit fail, that
//! state is thrown away as a whole. Everything that belongs to one input goes into one commit: facts,
//! snapshot, commands on topics, the alarm, and who ordered it.

use serde_json::json;
use wharf_message::ledger::{Partition, Record};
use wharf_message::{Code, TopicName, partitioner};
use wharf_saga::definition::Definition;
use wharf_saga::machine::{
    Cancel, ChildEnd, Command, Data, Effect, Env, Failure, Input, Order, Outcome, Parent, Saga,
    SagaId, Start, Status, TaskToken, What, step,
};

use std::sync::Arc;

use super::held::Held;
use super::refusal::Refused;
use super::resources::{Form, Worker};
use super::shard::{After, GROUP_BYTES, Group, Shard};
use super::store::{self, SNAPSHOT_EVERY, Stored};
use super::view::Row;
use super::workers::topic;
use crate::clock;

/// How much follows at once from one input.
const AT_ONCE_MAX: usize = 64;
/// How many sagas are forgotten at once.
const FORGET_MAX: usize = 100;

impl Shard {
    /// Begins a saga, unless its key began one: then it must have been with the same input.
    pub(super) fn begin(
        &mut self,
        start: Start,
        definition: Arc<Definition>,
        group: &mut Group,
    ) -> Result<bool, Refused> {
        let id = start.id;
        if let Some(held) = self.sagas.get(&id) {
            let saga = held.look()?;
            let known = saga.start();
            let is_same = known.is_some_and(|known| known.input == start.input);
            if !is_same {
                let message = format!(
                    "the key {:?} of {} belongs to saga {id}, which was started with another input; \
                     take another key, or the same input",
                    start.key, start.saga_type
                );
                return Err(Refused::new(Code::SAGA_KEY_TAKEN, message));
            }
            // A parent that asks again may have missed the end.
            if let (Some(parent), Some(end)) = (&start.parent, child_end(&saga)) {
                let input = Input::ChildEnded {
                    step: parent.step,
                    generation: parent.generation,
                    end,
                };
                group.after.push(After::Send(parent.saga, input));
            }
            return Ok(false);
        }
        let is_kept = self.shared.definitions.by_hash(&start.definition).is_some();
        if start.parent.is_none() && !is_kept {
            let message = format!(
                "the definition of {} was removed meanwhile",
                start.saga_type
            );
            return Err(Refused::new(Code::SAGA_DEFINITION_UNKNOWN, message));
        }
        let open = self.sagas.len().saturating_sub(self.ended.len());
        // What a saga under way waits for has to begin, or it would never end.
        if start.parent.is_none() && open >= self.shared.open_max {
            let message = "as many sagas are under way as saga.open-max allows; start it again, with \
                           the same key, when some of them have ended";
            return Err(Refused::new(Code::SAGA_BUSY, message));
        }
        let parent = start.parent.as_ref();
        let visit = parent.map(|parent| (parent.saga, parent.step, parent.generation));
        if let Some(visit) = visit {
            self.shared.children.note(visit, id);
        }
        let parent = start.parent.clone();
        let saga_type = start.saga_type.clone();
        let held = Held::new(Stored::default(), Some(definition));
        self.sagas.insert(id, Box::new(held));
        self.awake.add(id);
        let begun = self.apply(id, Input::Start(start), group);
        if begun.is_err() {
            self.sagas.remove(&id);
            if let Some(visit) = visit {
                self.shared.children.forget(visit);
            }
        } else {
            self.shared.metrics.started(&saga_type);
            // It may have been given up while it was on its way.
            group
                .after
                .extend(parent.map(|parent| After::Ask(id, parent)));
        }
        begun.map(|()| true)
    }

    /// Decides one input of a saga and puts what comes of it into the group.
    pub(super) fn apply(
        &mut self,
        id: SagaId,
        input: Input,
        group: &mut Group,
    ) -> Result<(), Refused> {
        let now = clock::now();
        let shared = Arc::clone(&self.shared);
        let held = self.sagas.get(&id).ok_or_else(|| Refused::unknown(id))?;
        let Some(definition) = held.definition.clone() else {
            let message = format!("the definition of saga {id} is not kept any more");
            return Err(Refused::new(Code::SAGA_DEFINITION_UNKNOWN, message));
        };
        let order = match &input {
            Input::Operator(order) => Some(order.clone()),
            _ => None,
        };
        let tokens = shared.definitions.tokens();
        let env = Env {
            seed: clock::chance(),
            payload_max: shared.payload_max,
            tokens: tokens.as_ref().map(|tokens| &tokens.key),
            ..Env::at(now, 0)
        };
        let (saga, records) = self.wake(id)?;
        let input = shared.read(saga, input, now);
        let before = saga.status();
        let decision = step(&definition, saga, input, &env)?;
        if decision.facts.is_empty() {
            return Ok(());
        }
        let is_stale = match decision.facts.as_slice() {
            [fact] => matches!(fact.what, What::StaleReply { .. }),
            _ => false,
        };
        let effects = decision.effects(saga);
        let after = saga.status();
        records.seq += 1;
        records.since_snapshot += 1;
        let facts = store::facts(id, records.seq, &decision.facts, now);
        let facts = facts.map_err(|error| Refused::unavailable(&error))?;
        group.facts.push((group.records.len(), id, records.seq));
        group.push(self.place.clone(), facts);
        shared.metrics.decided(decision.facts.len());
        group.changed.insert(id);
        if let Some(order) = order {
            self.audit(id, &order, before, after, group);
        }
        for effect in effects {
            self.effect(id, effect, group);
        }
        self.note(id);
        self.limits(id);
        if is_stale {
            let message = "nobody waits for this answer: it was answered, replaced by a later \
                           attempt, or given up";
            return Err(Refused::new(Code::SAGA_TOKEN_UNKNOWN, message));
        }
        Ok(())
    }

    /// Ends a group: one snapshot and one row for each saga that changed.
    pub(super) fn close(&mut self, group: &mut Group) {
        let now = clock::now();
        for id in std::mem::take(&mut group.changed) {
            let held = self.sagas.get_mut(&id);
            let Some((saga, records)) = held.and_then(|held| held.awake_with_records()) else {
                continue;
            };
            let status = saga.status();
            let rests = status.is_end() || status == Status::Parked;
            if rests || records.since_snapshot >= SNAPSHOT_EVERY {
                match store::snapshot(id, records.seq, saga, now) {
                    Ok(snapshot) => {
                        group.push(self.place.clone(), snapshot);
                        records.since_snapshot = 0;
                        for gone in store::shorten(id, records, now) {
                            group.push(self.place.clone(), gone);
                        }
                    }
                    Err(error) => tracing::error!(saga = %id, error, "a saga has no snapshot"),
                }
            }
            group.rows.extend(Row::of(saga, &mut self.names));
        }
    }

    /// What goes out.
    fn effect(&mut self, id: SagaId, effect: Effect, group: &mut Group) {
        match effect {
            Effect::Command(command) => self.dispatch(*command, group),
            Effect::StartChild(command) => group.after.push(After::Child(command)),
            // Who is admitted is decided over all sagas, once the state is there.
            Effect::Wanted { .. } => {}
            Effect::Cancel(Cancel {
                step, generation, ..
            }) => {
                let token = TaskToken {
                    saga: id,
                    step,
                    generation,
                };
                group.after.push(After::Cancel(token));
            }
            Effect::AbortChild(Cancel {
                step, generation, ..
            }) => {
                let known = self.shared.children.of((id, step, generation));
                if let Some(child) = known.or_else(|| self.child(id, step, generation)) {
                    let parent = Parent {
                        saga: id,
                        step,
                        generation,
                    };
                    group.after.push(After::Abort(child, parent));
                }
            }
            Effect::Parked {
                reason,
                step,
                error,
                cause,
            } => {
                let step = step.map(|step| (step, self.step_name(id, step)));
                self.alarm(id, &reason.to_string(), step, &error, &cause, group);
            }
            Effect::Ended { status, .. } => {
                let Some(saga) = self.sagas.get(&id).and_then(|held| held.awake()) else {
                    return;
                };
                let Some(start) = saga.start() else {
                    return;
                };
                self.shared.metrics.ended(&start.saga_type, status);
                if let (Some(parent), Some(end)) = (&start.parent, child_end(saga)) {
                    let input = Input::ChildEnded {
                        step: parent.step,
                        generation: parent.generation,
                        end,
                    };
                    group.after.push(After::Send(parent.saga, input));
                    let visit = (parent.saga, parent.step, parent.generation);
                    self.shared.children.forget(visit);
                }
            }
        }
    }

    fn step_name(&self, id: SagaId, step: u32) -> String {
        let saga = self.sagas.get(&id).and_then(|held| held.awake());
        let steps = saga.map(Saga::current).unwrap_or_default();
        let found = steps.into_iter().find(|current| current.step == step);
        found.map(|step| step.name).unwrap_or_default()
    }

    /// A task goes to its worker: in this commit, or after it.
    fn dispatch(&self, command: Command, group: &mut Group) {
        let resolved = self
            .shared
            .resources
            .resolve(&command.resource, &command.arguments);
        let now = clock::now();
        match resolved {
            Ok(resolved) => {
                if let Worker::Topic(topic) = &resolved.worker {
                    let arguments = resolved.arguments(&command.arguments);
                    let sent = topic::command(&command, &arguments, now);
                    let Some(count) = self.shared.topics.partitions(topic) else {
                        let cause = format!("the topic {topic} is not there; create it");
                        group.at_once(failed(&command, "Wharf.TopicUnknown", cause));
                        return;
                    };
                    let key = command.saga.to_string();
                    group.push(place(topic, &key, count), sent);
                    if resolved.form == Form::Publish {
                        let output = json!({ "MessageId": command.token().to_string() });
                        group.at_once(succeeded(&command, output));
                    }
                    return;
                }
                group.after.push(After::Task(Box::new(command)));
            }
            Err(cause) => group.at_once(failed(&command, "Wharf.ResourceUnmapped", cause)),
        }
    }

    /// What nobody outside has a part in is decided within the same commit: after a crash in between,
    /// nobody could tell a task that went to its worker from one that never did.
    pub(super) fn settle(&mut self, group: &mut Group) {
        for _ in 0..AT_ONCE_MAX {
            let Some((id, input)) = group.at_once.pop_front() else {
                return;
            };
            if let Err(refused) = self.apply(id, input, group) {
                tracing::debug!(%refused, "a follow-up was refused");
            }
        }
        // A machine that fails in circles waits for its turn.
        let rest = group.at_once.drain(..);
        group
            .after
            .extend(rest.map(|(id, input)| After::Send(id, input)));
    }

    /// Who ordered what and why, in the same commit as what came of it.
    fn audit(&self, id: SagaId, order: &Order, before: Status, after: Status, group: &mut Group) {
        let saga = self.sagas.get(&id).and_then(|held| held.awake());
        let start = saga.and_then(Saga::start);
        let entry = json!({
            "at": clock::now().to_rfc3339(),
            "by": order.by,
            "reason": order.reason,
            "what": order.action,
            "saga": id.to_string(),
            "type": start.map(|start| start.saga_type.as_str()),
            "before": before,
            "after": after,
        });
        let place = Partition {
            topic: self.shared.names.audit.clone(),
            index: 0,
        };
        let value = entry.to_string().into_bytes();
        group.push(
            place,
            store::record(id.to_string(), Some(value), clock::now()),
        );
    }

    /// A person is needed: a record in the same commit, then the webhook.
    fn alarm(
        &self,
        id: SagaId,
        reason: &str,
        step: Option<(u32, String)>,
        error: &str,
        cause: &str,
        group: &mut Group,
    ) {
        let saga = self.sagas.get(&id).and_then(|held| held.awake());
        let start = saga.and_then(Saga::start);
        let (number, name) = step.unzip();
        let alarm = json!({
            "at": clock::now().to_rfc3339(),
            "code": Code::SAGA_PARKED.to_string(),
            "saga": id.to_string(),
            "type": start.map(|start| start.saga_type.as_str()),
            "correlation_id": start.and_then(|start| start.correlation.as_deref()),
            "reason": reason,
            "step": number,
            "step_name": name,
            "error": error,
            "cause": cause,
        });
        let place = Partition {
            topic: self.shared.names.alarms.clone(),
            index: 0,
        };
        let text = alarm.to_string();
        let value = Some(text.clone().into_bytes());
        group.push(place, store::record(id.to_string(), value, clock::now()));
        group.after.push(After::Alarm(text));
    }

    /// Tells the limits where a saga is, and admits who may go on.
    pub(super) fn limits(&self, id: SagaId) {
        let Some(held) = self.sagas.get(&id) else {
            return;
        };
        if !held.is_limited {
            return;
        }
        let (Some(saga), Some(definition)) = (held.awake(), &held.definition) else {
            return;
        };
        let Some(start) = saga.start() else {
            return;
        };
        let limits = definition_limits(definition);
        let current = saga.current();
        for (state, limit) in limits {
            let of = |is_held: bool| -> Vec<u32> {
                let here = current
                    .iter()
                    .filter(|step| step.name == state && !step.undo);
                let here = here.filter(|step| (step.doing == "held") == is_held);
                here.map(|step| step.step).collect()
            };
            let limited = (start.saga_type.clone(), state.to_owned());
            let admitted = self
                .shared
                .slots
                .update(&limited, limit, id, &of(true), &of(false));
            for (saga, step) in admitted {
                self.shared.follow_up(saga, Input::Admit { step });
            }
        }
    }

    /// Forgets sagas that ended long ago, or of which there are too many; whether more of them wait.
    pub(super) fn sweep(&mut self, group: &mut Group) -> bool {
        let now = clock::now();
        let keep = self.shared.keep;
        for _ in 0..FORGET_MAX {
            let Some((ended, id)) = self.ended.first().copied() else {
                return false;
            };
            let held = self.sagas.get(&id);
            if held.is_none_or(|held| !held.is_ended) {
                // It was taken up again.
                self.ended.remove(&(ended, id));
                continue;
            }
            let age = u128::try_from(now.as_millis() - ended).unwrap_or(0);
            let is_old = keep.is_some_and(|keep| age >= keep.as_millis());
            if !is_old && self.ended.len() <= self.shared.keep_max {
                return false;
            }
            self.ended.remove(&(ended, id));
            let Some(held) = self.sagas.remove(&id) else {
                continue;
            };
            for gone in store::tombstones(id, &held.records, now) {
                group.push(self.place.clone(), gone);
            }
            group.forgotten.push(id);
            if group.bytes > GROUP_BYTES {
                break;
            }
        }
        true
    }
}

impl Group {
    /// An answer that is known already.
    fn at_once(&mut self, answer: After) {
        match answer {
            After::Send(saga, input) => self.at_once.push_back((saga, input)),
            other => self.after.push(other),
        }
    }

    pub(super) fn push(&mut self, place: Partition, record: Record) {
        let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        self.bytes += length(&record.key) + length(&record.value) + 100;
        self.records.push((place, record));
    }
}

/// Whether some step has a limit.
pub(super) fn is_limited(definition: &Definition) -> bool {
    !definition_limits(definition).is_empty()
}

/// The steps that have a limit.
fn definition_limits(definition: &Definition) -> Vec<(&str, usize)> {
    let tasks = super::resources::tasks(&definition.machine).into_iter();
    tasks
        .filter_map(|(state, task)| {
            let limit = usize::try_from(task.concurrency_limit?).ok()?;
            Some((state, limit))
        })
        .collect()
}

/// How a sub-saga ended, if it did.
pub(super) fn child_end(saga: &Saga) -> Option<ChildEnd> {
    let failure = || {
        let (error, cause) = saga.error().unwrap_or(("States.TaskFailed", ""));
        Failure {
            error: error.to_owned(),
            cause: cause.to_owned(),
            // It was undone as a whole, so there is nothing of it to undo.
            declared: true,
        }
    };
    match saga.status() {
        Status::Completed => Some(ChildEnd::Completed(
            saga.output().cloned().unwrap_or_default(),
        )),
        Status::Compensated => Some(ChildEnd::Compensated(failure())),
        Status::AbortedByOperator => Some(ChildEnd::Aborted(failure())),
        Status::Running | Status::Compensating | Status::Parked => None,
    }
}

/// The partition of a topic for a key.
pub(super) fn place(topic: &TopicName, key: &str, count: i32) -> Partition {
    let count = usize::try_from(count).unwrap_or(1);
    let index = partitioner::partition(key.as_bytes(), count);
    Partition {
        topic: topic.clone(),
        index: i32::try_from(index).unwrap_or(0),
    }
}

/// A task that could not be given to anybody failed.
pub(super) fn failed(command: &Command, error: &str, cause: String) -> After {
    let failure = Failure {
        error: error.to_owned(),
        cause,
        declared: false,
    };
    answered(command, Outcome::Failure(failure))
}

/// A task that is done with being sent.
pub(super) fn succeeded(command: &Command, output: serde_json::Value) -> After {
    answered(command, Outcome::Success(Data::from(output)))
}

fn answered(command: &Command, outcome: Outcome) -> After {
    let input = Input::Reply {
        step: command.step,
        generation: command.generation,
        outcome,
    };
    After::Send(command.saga, input)
}

//! People and programs around the sagas: who starts them, who looks at them, who orders what.
//!
//! A person who says that a step is done, or undone, has looked, and made sure of it at the
//! participant.

use bytes::Bytes;
use serde_json::{Value, json};
use wharf_message::TopicName;
use wharf_message::ledger::Record;
use wharf_saga::machine::{Action, Data, Mark, Order, ParkedStep, SagaId};
use wharf_server::saga::NewSaga;

use super::ledger::Weather;
use super::node::{lock, plain_input};
use super::workers::Work;
use super::{Event, Simulation, TRANSFER, definitions::Transfer};
use crate::plan::pick;

/// Whose records start sagas.
const STARTS: &str = "_wharf.saga-starts";

/// A saga that somebody wants.
#[derive(Clone, Debug)]
pub(super) struct Case {
    saga_type: &'static str,
    key: String,
    input: Value,
}

impl Simulation {
    /// Plans the rough time.
    pub(super) fn prepare(&mut self) {
        let rough = u64::try_from(self.mix.rough).unwrap_or(0);
        for number in 0..self.mix.sagas {
            let saga_type = *pick(&self.mix.types, &mut self.random);
            let is_plain = saga_type == super::RANDOM;
            let input = match is_plain {
                true => plain_input(number),
                false => Transfer::draw(&mut self.random).write(),
            };
            let case = Case {
                saga_type,
                key: format!("key-{number}"),
                input,
            };
            let at = self.random.below(rough / 2);
            let times = 1 + self.random.below(4);
            for time in 0..times {
                let spread = *pick(&[0, 1, 2_000], &mut self.random);
                let after = at + self.random.below(spread + 1);
                if time > 0 {
                    self.report.count("starts repeated", 1);
                }
                self.plan(after, Event::Start(self.sagas.len()));
            }
            self.sagas.push(case);
        }
        let mix = self.mix.clone();
        for _ in 0..mix.crashes {
            let (after, in_order) = (self.random.below(rough), self.random.percent(20));
            let back_in = i64::try_from(self.random.below(3_000)).unwrap_or(0);
            self.plan(after, Event::End { in_order, back_in });
        }
        for _ in 0..mix.weathers {
            let weather = Weather {
                sync_max: *pick(&[0, 5, 100, 2_000], &mut self.random),
                is_full: self.random.percent(20),
                unknown_percent: *pick(&[0, 0, 5, 30], &mut self.random),
                refused_percent: *pick(&[0, 0, 5, 30], &mut self.random),
            };
            let (after, lasts) = (self.random.below(rough), self.random.below(6_000));
            self.plan(after, Event::Weather(weather));
            self.plan(after + lasts, Event::Weather(Weather::of(mix.sync_max)));
        }
        for _ in 0..mix.jumps {
            let millis = *pick(&[-30_000, -3_000, -50, 50, 3_000, 30_000], &mut self.random);
            let after = self.random.below(rough);
            self.plan(after, Event::Jump(millis));
        }
        for _ in 0..mix.orders {
            let after = self.random.below(rough);
            self.plan(after, Event::Order);
        }
        for _ in 0..mix.replies {
            let after = self.random.below(rough);
            self.plan(after, Event::Reply);
        }
        for _ in 0..8 {
            let (look, compact) = (self.random.below(rough), self.random.below(rough));
            self.plan(look, Event::Look);
            self.plan(compact, Event::Compact);
        }
        for _ in 0..mix.deploys {
            let saga_type = *pick(&mix.types, &mut self.random);
            let after = self.random.below(rough);
            self.plan(after, Event::Deploy(saga_type));
        }
    }

    /// Somebody starts a saga, perhaps not the first to do so.
    pub(super) fn start_case(&mut self, number: usize) {
        let Some(case) = self.sagas.get(number).cloned() else {
            return;
        };
        let mut input = case.input.clone();
        // Money is not changed on its way.
        if case.saga_type == super::RANDOM && self.random.percent(10) {
            input = plain_input(1_000);
        }
        if self.random.percent(25) {
            return self.start_by_record(&case, &input);
        }
        let Some(node) = self.node.as_ref().filter(|node| node.is_ready()) else {
            // It is tried again when the node is there.
            return self.plan(700, Event::Start(number));
        };
        node.start_saga(NewSaga {
            saga_type: case.saga_type.to_owned(),
            key: Some(case.key),
            input,
            ..NewSaga::default()
        });
    }

    fn start_by_record(&mut self, case: &Case, input: &Value) {
        let header = |name: &'static str, value: &str| {
            let value = Bytes::copy_from_slice(value.as_bytes());
            (Bytes::from_static(name.as_bytes()), Some(value))
        };
        let record = Record {
            key: Some(Bytes::from(case.key.clone())),
            value: Some(Bytes::from(input.to_string())),
            headers: vec![
                header("saga-type", case.saga_type),
                header("idempotency-key", &case.key),
            ],
            ..Record::default()
        };
        if let Ok(topic) = TopicName::new(STARTS)
            && self.ledger.append(&topic, record)
        {
            self.report.count("starts by a record", 1);
        }
    }

    /// Somebody looks at every saga, and at the list.
    pub(super) fn look(&mut self) -> Result<(), super::Broken> {
        let ids: Vec<_> = lock(&self.outside.watch).sagas.keys().copied().collect();
        if let Some(node) = self.node.as_ref().filter(|node| node.is_ready()) {
            self.report.count("sagas looked at", ids.len() as u64);
            node.look(ids);
        }
        self.judge_while_well()
    }

    /// A person orders something, in a hurry.
    pub(super) fn order(&mut self) {
        let (id, is_transfer, parked) = {
            let watch = lock(&self.outside.watch);
            let at = self.random.index(watch.sagas.len().max(1));
            let Some((id, seen)) = watch.sagas.iter().nth(at) else {
                return;
            };
            let start = seen.saga.start();
            let is_transfer = start.is_some_and(|start| start.saga_type == TRANSFER);
            (*id, is_transfer, seen.saga.parked())
        };
        let action = match self.random.below(10) {
            0 | 1 => Action::Pause,
            2 | 3 => Action::Resume,
            4 => Action::Abort,
            5 => Action::Redrive,
            6 if !is_transfer => Action::Skip {
                step: None,
                output: Data::from(json!({ "skipped": true })),
            },
            _ => match parked.first() {
                Some(parked) => self.mend(id, parked),
                None => Action::Retry { step: None },
            },
        };
        self.say(id, action);
    }

    fn say(&mut self, id: SagaId, action: Action) {
        let Some(node) = self.node.as_ref().filter(|node| node.is_ready()) else {
            return;
        };
        self.orders += 1;
        self.report.count("orders", 1);
        let order = Order {
            action,
            by: "ann".to_owned(),
            reason: format!("reason {}", self.orders),
        };
        node.order(id, order);
    }

    /// What is to be done about a parked step, after it was seen to at the participant.
    fn mend(&mut self, id: SagaId, parked: &ParkedStep) -> Action {
        let step = Some(parked.step);
        let key = format!("{id}/{}", parked.step);
        let is_unknown = parked.error == "Saga.OutcomeUnknown";
        let is_there = self.workers.effect(&key).0 > 0;
        match (parked.undo, is_unknown) {
            // Whether it is to be undone is to be found out.
            (_, true) if is_there => self.completed(step),
            (_, true) => {
                self.workers.undo_by_hand(&key);
                let mark = Mark::Compensated;
                Action::Mark { step, mark }
            }
            (true, false) if self.random.coin() => {
                self.workers.undo_by_hand(&key);
                let mark = Mark::Compensated;
                Action::Mark { step, mark }
            }
            (false, false) if self.random.percent(30) && self.is_work(id, parked.step) => {
                self.workers.do_by_hand(&key, &parked.name, &parked.input);
                self.completed(step)
            }
            _ => Action::Retry { step },
        }
    }

    fn completed(&self, step: Option<u32>) -> Action {
        let output = Data::from(json!({ "by": "hand" }));
        let mark = Mark::Completed { output };
        Action::Mark { step, mark }
    }

    /// Whether a step went to a participant.
    fn is_work(&self, id: SagaId, step: u32) -> bool {
        let watch = lock(&self.outside.watch);
        let seen = watch.sagas.get(&id);
        seen.is_some_and(|seen| seen.checks.visits.is_task(step))
    }

    /// People see to everything that waits for them, and workers read again what they lost.
    pub(super) fn repair(&mut self) {
        let open: Vec<_> = {
            let watch = lock(&self.outside.watch);
            let open = watch.sagas.iter();
            let open = open.filter(|(_, seen)| !seen.saga.status().is_end());
            open.map(|(id, seen)| {
                let is_halted = seen.saga.is_paused() || seen.saga.is_overdue();
                (*id, is_halted, seen.saga.parked(), seen.saga.open())
            })
            .collect()
        };
        for (id, is_halted, parked, tasks) in open {
            if is_halted {
                self.say(id, Action::Resume);
            }
            if let Some(parked) = parked.first() {
                let action = self.mend(id, parked);
                self.say(id, action);
            }
            for task in tasks {
                let name = (id, task.command.step, task.command.generation);
                if let Some(sent) = self.desk.idle(name) {
                    self.plan_work(1, Work::Deliver(sent));
                }
            }
        }
    }
}

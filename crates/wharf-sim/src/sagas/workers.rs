//! The way of a task: from its topic or its handler to a participant, and of the answer back.
//!
//! Whatever can go wrong on it does: a worker dies before the effect, after it, and after its answer;
//! answers are late, doubled, overtake each other and are lost. A command that is lost with its
//! worker is read again, as from any topic.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::oneshot;
use wharf_message::TopicName;
use wharf_message::ledger::Record;
use wharf_saga::machine::{Data, Failure, Outcome, SagaId, TaskToken};

use super::node::lock;
use super::participants::{Said, Will};
use super::watch::Sent;
use super::{Event, Simulation};

/// Where workers answer.
const REPLIES: &str = "_wharf.saga-replies";

/// The name of one dispatch.
type Name = (SagaId, u32, u32);

/// What happens to a task.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// A worker gets it.
    Deliver(Sent),
    /// Its answer arrives.
    Answer(Sent, Said),
}

/// What is known of tasks on their way.
#[derive(Default)]
pub(super) struct Desk {
    /// Handlers that wait for what to say.
    calls: BTreeMap<Name, oneshot::Sender<Outcome>>,
    /// Tasks that went through a topic, newest generation last.
    sent: BTreeMap<Name, Sent>,
    /// Events on their way for a task.
    under_way: BTreeMap<Name, u32>,
}

fn name(sent: &Sent) -> Name {
    (sent.saga, sent.step, sent.generation)
}

impl Desk {
    /// The process of the handlers is gone.
    pub(super) fn forget_calls(&mut self) {
        self.calls.clear();
    }

    /// A dispatch that was made at some time, if there is one.
    pub(super) fn some(&self, at: usize) -> Option<&Sent> {
        let at = at % self.sent.len().max(1);
        self.sent.values().nth(at)
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    /// The task, if nothing about it is on its way.
    pub(super) fn idle(&self, name: Name) -> Option<Sent> {
        let is_idle = self.under_way.get(&name).copied().unwrap_or(0) == 0;
        self.sent.get(&name).filter(|_| is_idle).cloned()
    }
}

impl Simulation {
    /// Takes the tasks that were handed out since.
    pub(super) fn take_work(&mut self) {
        for (_, record) in self.ledger.fresh() {
            if let Some(sent) = Sent::read(&record) {
                self.hand_out(sent);
            }
        }
        let calls = std::mem::take(&mut *lock(&self.outside.calls));
        for call in calls {
            self.desk.calls.insert(name(&call.sent), call.answer);
            self.hand_out(call.sent);
        }
    }

    fn hand_out(&mut self, sent: Sent) {
        self.report.count("tasks handed out", 1);
        self.desk.sent.insert(name(&sent), sent.clone());
        let after = self.delay();
        self.plan_work(after, Work::Deliver(sent));
    }

    fn delay(&mut self) -> u64 {
        let most = if self.is_calm { 20 } else { self.mix.slow };
        // Most are quick, whatever the slowest are.
        let most = if self.random.percent(70) {
            most.min(50)
        } else {
            most
        };
        self.random.below(most + 1)
    }

    pub(super) fn plan_work(&mut self, after: u64, work: Work) {
        let (Work::Deliver(sent) | Work::Answer(sent, _)) = &work;
        *self.desk.under_way.entry(name(sent)).or_default() += 1;
        self.plan(after, Event::Work(work));
    }

    pub(super) fn work(&mut self, work: Work) {
        let (Work::Deliver(sent) | Work::Answer(sent, _)) = &work;
        if let Some(count) = self.desk.under_way.get_mut(&name(sent)) {
            *count = count.saturating_sub(1);
        }
        match work {
            Work::Deliver(sent) => self.deliver(sent),
            Work::Answer(sent, said) => self.answer(&sent, said),
        }
    }

    fn dies(&mut self, moment: &'static str) -> bool {
        let dies = !self.is_calm && self.random.percent(self.mix.dead_percent);
        if dies {
            self.report.count(moment, 1);
        }
        dies
    }

    fn deliver(&mut self, sent: Sent) {
        if self.dies("workers dead before the effect") {
            return self.again(sent);
        }
        let will = self.will();
        if !self.is_calm && self.random.percent(10) {
            let sign = if self.random.coin() {
                Said::Alive
            } else {
                Said::Accepted
            };
            self.answer(&sent, sign);
        }
        let Some(said) = self.workers.handle(&sent, will) else {
            return;
        };
        if self.dies("workers dead after the effect") {
            return self.again(sent);
        }
        let after = self.delay();
        if !self.is_calm && self.random.percent(5) {
            self.report.count("answers lost", 1);
            return;
        }
        if !self.is_calm && self.random.percent(10) {
            self.report.count("answers sent twice", 1);
            let later = after + self.delay();
            self.plan_work(later, Work::Answer(sent.clone(), said));
        }
        self.plan_work(after, Work::Answer(sent.clone(), said));
        if self.dies("workers dead after the answer") {
            self.again(sent);
        }
    }

    /// The command is read again by the next worker.
    fn again(&mut self, sent: Sent) {
        let after = 500 + self.delay();
        self.plan_work(after, Work::Deliver(sent));
    }

    fn will(&mut self) -> Will {
        if self.is_calm || !self.random.percent(self.mix.bad_percent) {
            return Will::Do;
        }
        match self.random.below(3) {
            0 => Will::Decline,
            1 => Will::BreakBefore,
            _ => Will::BreakAfter,
        }
    }

    fn answer(&mut self, sent: &Sent, said: Said) {
        if let Some(answer) = self.desk.calls.remove(&name(sent)) {
            // A handler says one thing, when it is done.
            match said {
                Said::Alive | Said::Accepted => _ = self.desk.calls.insert(name(sent), answer),
                said => drop(answer.send(outcome(said))),
            }
            return;
        }
        if self.is_handler(sent) {
            return;
        }
        let record = reply(sent, said);
        if let Ok(topic) = TopicName::new(REPLIES) {
            self.ledger.append(&topic, record);
        }
    }

    /// Whether a task is done in the process, where an answer without a call goes nowhere.
    fn is_handler(&self, sent: &Sent) -> bool {
        let watch = lock(&self.outside.watch);
        let Some(seen) = watch.sagas.get(&sent.saga) else {
            return false;
        };
        let open = seen.saga.open_step(sent.step);
        open.is_some_and(|open| open.command.resource.starts_with("wharf:handler:"))
    }

    /// Somebody answers a dispatch of long ago, by a call.
    pub(super) fn reply_late(&mut self) {
        let at = self.random.index(self.desk.len().max(1));
        let (Some(sent), Some(node)) = (self.desk.some(at).cloned(), &self.node) else {
            return;
        };
        let token = TaskToken {
            saga: sent.saga,
            step: sent.step,
            generation: sent.generation,
        };
        // It says what its worker would say now.
        if let Some(said) = self.workers.handle(&sent, Will::Do) {
            node.reply(token, outcome(said));
        }
    }
}

/// What a worker says, as the engine hears it.
fn outcome(said: Said) -> Outcome {
    let failure = |error: &str, declared| {
        Outcome::Failure(Failure {
            error: error.to_owned(),
            cause: String::new(),
            declared,
        })
    };
    match said {
        Said::Done => Outcome::Success(Data::from(json!({ "ok": true }))),
        Said::Declined => failure("Declined", true),
        Said::Broke => failure("Broken", false),
        Said::Alive => Outcome::Heartbeat,
        Said::Accepted => Outcome::Accepted,
    }
}

/// The same as a record.
fn reply(sent: &Sent, said: Said) -> Record {
    let (word, error, value) = match said {
        Said::Done => ("SUCCESS", None, r#"{"ok":true}"#),
        Said::Declined => ("BUSINESS_FAILURE", Some("Declined"), ""),
        Said::Broke => ("RETRYABLE", Some("Broken"), ""),
        Said::Alive => ("HEARTBEAT", None, ""),
        Said::Accepted => ("ACCEPTED", None, ""),
    };
    let mut headers = vec![
        ("saga-id", sent.saga.to_string()),
        ("step", sent.step.to_string()),
        ("generation", sent.generation.to_string()),
        ("saga-reply", word.to_owned()),
    ];
    headers.extend(error.map(|error| ("saga-error", error.to_owned())));
    let headers = headers.into_iter().map(|(name, value)| {
        let name = Bytes::from_static(name.as_bytes());
        (name, Some(Bytes::from(value)))
    });
    Record {
        key: Some(Bytes::from(sent.saga.to_string())),
        value: Some(Bytes::from_static(value.as_bytes())),
        headers: headers.collect(),
        ..Record::default()
    }
}

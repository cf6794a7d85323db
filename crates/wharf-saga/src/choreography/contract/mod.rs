//! A contract: what follows what within how long and from whom, what undoes what, where it ends.
//!
//! - `parse` reads it and says all that is wrong at once; `expect` is the little language of what is
//!   expected.
//! - [`check`] explores every path that the rules allow and finds what cannot work.
//! - [`draw`] shows it.
//!
//! Events have numbers here: their index in [`Contract::events`].

pub mod check;
pub mod draw;
mod expect;
mod parse;
mod read;
pub(crate) mod slot;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::correlation::Correlation;

/// Something wrong, or doubtful, in a contract.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// Where: the path into the document, as `/rules/0/expect`.
    pub path: String,
    /// What is wrong, and what to do.
    pub sentence: String,
}

impl Problem {
    pub(crate) fn new(path: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => formatter.write_str(&self.sentence),
            false => write!(formatter, "{}: {}", self.path, self.sentence),
        }
    }
}

/// How an instance ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// With everything done.
    Completed,
    /// With everything undone.
    Compensated,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its type.
    pub name: String,
    /// The topic it is in.
    pub topic: String,
    /// The service it comes from.
    pub from: Option<String>,
    /// The event that a service could not handle and set aside: this is that record, in the topic of its
    /// dead letters.
    pub dead_letter_of: Option<usize>,
    /// The event that it undoes.
    pub undoes: Option<usize>,
    /// The event that undoes it.
    pub undo: Option<usize>,
    /// Whether it changes nothing that would have to be undone.
    pub is_notice: bool,
    /// Whether instances end with it, and how.
    pub end: Option<End>,
}

/// What a rule expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// One of these events, decided by one service.
    OneOf(Vec<usize>),
    /// Each of these events.
    AllOf(Vec<usize>),
    /// The undo of everything that was done and has one.
    Compensation,
}

/// What shall follow an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The event.
    pub on: usize,
    /// What shall follow.
    pub expect: Expect,
    /// Within how long.
    pub within: Duration,
    /// The consumer group that reads the event and answers it, where that is said.
    pub group: Option<String>,
    /// Its place in the document.
    pub path: String,
}

impl Rule {
    /// The events it names.
    pub fn events(&self) -> &[usize] {
        match &self.expect {
            Expect::OneOf(events) | Expect::AllOf(events) => events,
            Expect::Compensation => &[],
        }
    }
}

/// A contract that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// The name.
    pub name: String,
    /// What it is about.
    pub description: Option<String>,
    /// What correlates its events.
    pub correlation: Correlation,
    /// Its events.
    pub events: Vec<Event>,
    /// The events that an instance begins with.
    pub starts: Vec<usize>,
    /// The rules.
    pub rules: Vec<Rule>,
    /// After this event nothing is undone any more.
    pub pivot: Option<usize>,
    /// By how much records of one instance may be out of order between topics.
    pub reorder: Duration,
    /// How long everything that was done may take to be undone, once something was.
    pub undo_within: Duration,
    /// How long an instance may take, from its first event to its last.
    pub lifetime: Duration,
    /// Whether other events of the same saga in the contract's topics are no part of it.
    pub ignores_others: bool,
}

impl Contract {
    /// Reads one from YAML or JSON.
    ///
    /// # Errors
    /// All problems at once, each with its path.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        parse::parse(text)
    }

    /// The topics of its events, by name.
    pub fn topics(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self
            .events
            .iter()
            .map(|event| event.topic.as_str())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The groups that answer its events, by name.
    pub fn groups(&self) -> Vec<&str> {
        let slots = slot::slots(self);
        let groups = slots
            .iter()
            .filter_map(|slot| self.group(slot.rule, &slot.events));
        let mut all: Vec<&str> = groups.collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The group that answers a rule with one of these events: what is said, or else the service that
    /// they come from, which reads as the group of its own name.
    pub(crate) fn group(&self, rule: usize, events: &[usize]) -> Option<&str> {
        let said = self.rules[rule].group.as_deref();
        said.or_else(|| self.events[*events.first()?].from.as_deref())
    }

    /// The services that its events come from, by name.
    pub fn services(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self
            .events
            .iter()
            .filter_map(|event| event.from.as_deref())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The type that an event's records name: a dead letter's is that of what it was.
    pub fn kind(&self, event: &Event) -> String {
        let original = event.dead_letter_of.and_then(|of| self.events.get(of));
        original.unwrap_or(event).name.clone()
    }

    /// The name of an event.
    pub fn event(&self, number: usize) -> &str {
        self.events.get(number).map_or("", |event| &event.name)
    }

    pub(crate) fn is_end(&self, event: usize, end: End) -> bool {
        self.events
            .get(event)
            .is_some_and(|event| event.end == Some(end))
    }

    /// Whether a rule is of the way back: it asks for an undo, or for the end that comes of it.
    pub(crate) fn is_back(&self, events: &[usize]) -> bool {
        let back = |event: &usize| {
            let event = &self.events[*event];
            event.undoes.is_some() || event.end == Some(End::Compensated)
        };
        events.iter().any(back)
    }
}

//! Promise: what the broker acknowledged besides records (topics, their settings, groups' offsets,
//! transactions)
//! is there after every restart, and nothing else is; producer ids are given once.
//!
//! Each such thing is a register: a call in flight adds what it may become, an answer or a look after
//! a restart says what it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkers::{Broken, broken};

const PROMISE: &str = "acknowledged topics, settings and offsets survive";
const IDS: &str = "a producer id is given once";

/// Something that has one value at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Register {
    /// Whether a topic exists.
    Presence { topic: String },
    /// Its `retention.ms`.
    Setting { topic: String },
    /// A group's offset in one of its partitions, with the metadata.
    Offset {
        topic: String,
        group: String,
        partition: i32,
    },
    /// What of a transaction counts.
    Transaction { topic: String, number: u64 },
}

impl Register {
    pub(super) fn topic(&self) -> &str {
        match self {
            Self::Presence { topic }
            | Self::Setting { topic }
            | Self::Offset { topic, .. }
            | Self::Transaction { topic, .. } => topic,
        }
    }
}

/// A register's value; `None`: there is none.
pub(super) type Value = Option<String>;

/// What every register may be.
#[derive(Debug, Default)]
pub(super) struct Registers {
    possible: BTreeMap<Register, BTreeSet<Value>>,
    producer_ids: BTreeSet<i64>,
}

impl Registers {
    /// A call that may change it begins.
    pub(super) fn begins(&mut self, register: &Register, value: Value) {
        let possible = self.possible.entry(register.clone());
        possible.or_insert_with(|| [None].into()).insert(value);
    }

    /// It is this now: acknowledged, or seen after a restart.
    pub(super) fn is(&mut self, register: &Register, value: Value) {
        self.possible.insert(register.clone(), [value].into());
    }

    /// Whether it has a value, whatever became of calls in flight.
    pub(super) fn is_certainly_there(&self, register: &Register) -> bool {
        self.possible
            .get(register)
            .is_some_and(|possible| !possible.contains(&None))
    }

    /// Nothing of a topic is left but the knowledge that it is gone.
    pub(super) fn forget(&mut self, topic: &str) {
        self.possible.retain(|register, _| {
            register.topic() != topic || matches!(register, Register::Presence { .. })
        });
    }

    /// Compares every register with what `look` finds; returns how many there were.
    pub(super) fn check(
        &mut self,
        mut look: impl FnMut(&Register) -> Value,
    ) -> Result<u64, Broken> {
        let mut count = 0;
        // Presence comes first: what belongs to a topic that is gone goes with it.
        let known: Vec<Register> = self.possible.keys().cloned().collect();
        for register in known {
            let Some(possible) = self.possible.get(&register) else {
                continue;
            };
            let found = look(&register);
            if !possible.contains(&found) {
                return broken(
                    PROMISE,
                    format!("{register:?} is {found:?}, not in {possible:?}"),
                );
            }
            if matches!(register, Register::Presence { .. }) && found.is_none() {
                self.forget(register.topic());
            }
            self.is(&register, found);
            count += 1;
        }
        Ok(count)
    }

    /// A producer was given an id.
    pub(super) fn producer(&mut self, id: i64) -> Result<(), Broken> {
        if self.producer_ids.insert(id) {
            return Ok(());
        }
        broken(IDS, format!("{id} was given twice"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_acknowledged_must_be_found_and_one_in_flight_may_be() {
        let register = Register::Setting {
            topic: "t".to_owned(),
        };
        let value = |text: &str| Some(text.to_owned());
        let mut registers = Registers::default();
        registers.begins(&register, value("1"));
        registers.is(&register, value("1"));
        registers.begins(&register, value("2"));
        registers.check(|_| value("1")).unwrap();
        registers.check(|_| value("2")).unwrap_err();
        registers.check(|_| None).unwrap_err();
        registers.begins(&register, value("3"));
        registers.check(|_| value("3")).unwrap();
    }

    #[test]
    fn an_id_given_twice_is_found() {
        let mut registers = Registers::default();
        registers.producer(7).unwrap();
        registers.producer(8).unwrap();
        registers.producer(7).unwrap_err();
    }
}

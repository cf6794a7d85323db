//! Judging instances by their contract, while their events come in.
//!
//! `judge` is what an instance comes to at a moment, from its events alone: no matter in which order
//! they were read. [`Monitor`] keeps the instances of one contract and says when a verdict changes.

mod judge;
mod monitor;
mod view;

use std::fmt;

use serde::{Deserialize, Serialize};
use wharf_message::Timestamp;

pub use monitor::{Limits, Monitor};
pub use view::{Change, Counts, Dropped, InstanceView, Step, Summary};

/// What an instance has come to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It is on its way, within its times.
    #[default]
    Running,
    /// It ended, and everything was done.
    Completed,
    /// It ended, and everything that was done was undone.
    Compensated,
    /// An event that should have come has not.
    Stuck,
    /// Some of what was done was undone, and some was not in time.
    HalfCompensated,
    /// One step has happened more often than it may.
    Duplicated,
    /// Something was undone that was never done.
    Orphan,
    /// An event came that is not allowed there.
    Diverged,
}

impl Kind {
    /// All of them; later ones are worse than earlier ones.
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Completed,
        Self::Compensated,
        Self::Stuck,
        Self::HalfCompensated,
        Self::Duplicated,
        Self::Orphan,
        Self::Diverged,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Stuck => "stuck",
            Self::HalfCompensated => "half-compensated",
            Self::Duplicated => "duplicated",
            Self::Orphan => "orphan",
            Self::Diverged => "diverged",
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether somebody has to look after it.
    pub fn is_bad(self) -> bool {
        self >= Self::Stuck
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            partition,
            offset,
        } = self;
        write!(formatter, "{topic}-{partition}@{offset}")
    }
}

/// Whether the event before a missing one was read by who should have answered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    tag = "what"
)]
pub enum Consumption {
    /// The group has not come so far.
    NeverConsumed {
        /// The group.
        group: String,
        /// The next offset that it wants.
        committed: i64,
    },
    /// The group was there, and what should have followed did not come.
    ConsumedWithoutSuccessor {
        /// The group.
        group: String,
    },
    /// The group has committed nothing for the partition.
    NothingCommitted {
        /// The group.
        group: String,
    },
    /// The contract does not say which group reads it.
    Unknown,
}

/// One thing that is wrong with an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    tag = "finding"
)]
pub enum Finding {
    /// An event that should have come has not.
    Missing {
        /// One of these.
        expected: Vec<String>,
        /// After this event.
        after: String,
        /// Where that is.
        position: Position,
        /// When it should have come at the latest.
        due: String,
        /// Whether the event before it was consumed.
        consumption: Consumption,
    },
    /// Something done was not undone in time.
    NotUndone {
        /// What was done.
        done: String,
        /// What should have undone it.
        undo: String,
        /// When it should have come at the latest.
        due: String,
    },
    /// Something done that was undone, where another thing was not.
    Undone {
        /// What was done.
        done: String,
        /// What undid it.
        undo: String,
    },
    /// A step has happened once more, by another message.
    Again {
        /// The event.
        event: String,
        /// Where the further one is.
        position: Position,
        /// The further message's id, if it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// An undo of something that was never done.
    NeverDone {
        /// The undo.
        undo: String,
        /// What it undoes.
        done: String,
        /// Where the undo is.
        position: Position,
    },
    /// An event that is not allowed there.
    Unexpected {
        /// The event.
        event: String,
        /// Where it is.
        position: Position,
        /// Why it is not allowed.
        why: String,
    },
}

impl Finding {
    /// What an instance is that has it, unless it has something worse.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Missing { .. } | Self::NotUndone { .. } => Kind::Stuck,
            Self::Undone { .. } => Kind::HalfCompensated,
            Self::Again { .. } => Kind::Duplicated,
            Self::NeverDone { .. } => Kind::Orphan,
            Self::Unexpected { .. } => Kind::Diverged,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing {
                expected,
                after,
                position,
                due,
                consumption,
            } => {
                let expected = expected.join(" or ");
                write!(
                    formatter,
                    "{expected} has not come after {after} ({position}) by {due}: "
                )?;
                match consumption {
                    Consumption::NeverConsumed { group, committed } => write!(
                        formatter,
                        "the group {group} never consumed it and is at offset {committed}"
                    ),
                    Consumption::ConsumedWithoutSuccessor { group } => write!(
                        formatter,
                        "the group {group} consumed it, and its successor never came"
                    ),
                    Consumption::NothingCommitted { group } => write!(
                        formatter,
                        "the group {group} has never consumed anything of that partition"
                    ),
                    Consumption::Unknown => {
                        formatter.write_str("the contract does not say which group reads it")
                    }
                }
            }
            Self::NotUndone { done, undo, due } => {
                write!(formatter, "{done} was not undone by {undo} by {due}")
            }
            Self::Undone { done, undo } => write!(formatter, "{done} was undone by {undo}"),
            Self::Again {
                event,
                position,
                id,
            } => {
                let id = id.as_deref().unwrap_or("without an id");
                write!(formatter, "{event} has happened again ({position}, {id})")
            }
            Self::NeverDone {
                undo,
                done,
                position,
            } => write!(
                formatter,
                "{undo} ({position}) undoes {done}, which was never done"
            ),
            Self::Unexpected {
                event,
                position,
                why,
            } => write!(formatter, "{event} ({position}) is not allowed: {why}"),
        }
    }
}

/// What an instance has come to, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The worst of it.
    pub verdict: Kind,
    /// All that is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// When it will be worse if nothing comes.
    #[serde(skip)]
    pub due: Option<Timestamp>,
}

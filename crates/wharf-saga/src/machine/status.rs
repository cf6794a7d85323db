//! Where a saga stands, in the words people use.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a saga stands. `paused` is a flag beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Going forward.
    Running,
    /// Undoing what was done.
    Compensating,
    /// A person is needed; see [`ParkReason`].
    Parked,
    /// Ended: done.
    Completed,
    /// Ended: undone, or nothing was there to undo.
    Compensated,
    /// Ended: undone because an operator said so.
    AbortedByOperator,
}

impl Status {
    /// Whether the saga is over.
    pub fn is_end(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Compensated | Self::AbortedByOperator
        )
    }

    /// As records and people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Compensating => "COMPENSATING",
            Self::Parked => "PARKED",
            Self::Completed => "COMPLETED",
            Self::Compensated => "COMPENSATED",
            Self::AbortedByOperator => "ABORTED_BY_OPERATOR",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why a saga needs a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkReason {
    /// A step failed for good where nothing may be undone: behind the pivot, or by an error that
    /// `CompensateOn` does not name.
    Step,
    /// An undo failed for good, or may not be tried.
    Compensation,
    /// The deadline passed and the saga is not to be undone by itself.
    Deadline,
    /// An expression of an undo could not be evaluated.
    Expression,
}

impl fmt::Display for ParkReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Step => "step",
            Self::Compensation => "compensation",
            Self::Deadline => "deadline",
            Self::Expression => "expression",
        })
    }
}

//! What an expression sees, what it may cost, and how it fails.

use std::fmt;

use serde_json::{Map, Value};
use wharf_message::Timestamp;

/// What an expression sees.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `$states.input`; in JSONPath what `$` stands for in the field that is evaluated: the state's
    /// input, the result in `ResultSelector`, and so on.
    pub input: &'a Value,
    /// `$states.result`, where there is one.
    pub result: Option<&'a Value>,
    /// `$states.errorOutput`, where there is one.
    pub error_output: Option<&'a Value>,
    /// `$states.context`; in JSONPath `$$`.
    pub context: &'a Value,
    /// The variables that were assigned: `$name`.
    pub variables: &'a Map<String, Value>,
    /// What `$now()` and `$millis()` say.
    pub now: Timestamp,
    /// What everything random comes from. Two fields with the same seed draw the same numbers, so
    /// every field deserves its own.
    pub seed: u64,
}

/// What one evaluation may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Small pieces of work: a node that is visited, a call, a few bytes that are copied.
    pub steps: u64,
    /// How deep expressions and values may be nested.
    pub depth: usize,
    /// How large the outcome may be, as JSON.
    pub bytes: usize,
}

impl Default for Budget {
    /// A million steps, 100 levels, 256 KiB (the limit of AWS).
    fn default() -> Self {
        Self {
            steps: 1_000_000,
            depth: 100,
            bytes: 256 * 1024,
        }
    }
}

/// An evaluation that failed, as a saga sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}: {cause}")]
pub struct Failure {
    /// The name of the error, as `Retry` and `Catch` know it.
    pub error: &'static str,
    /// What went wrong, for people.
    pub cause: String,
}

impl Failure {
    /// A JSONata expression failed or gave nothing.
    pub const QUERY: &'static str = "States.QueryEvaluationError";
    /// A path of a template found nothing.
    pub const PARAMETER: &'static str = "States.ParameterPathFailure";
    /// `ResultPath` does not fit the input.
    pub const RESULT_PATH: &'static str = "States.ResultPathMatchFailure";
    /// An intrinsic function failed.
    pub const INTRINSIC: &'static str = "States.IntrinsicFailure";
    /// The outcome is larger than it may be.
    pub const DATA_LIMIT: &'static str = "States.DataLimitExceeded";
    /// Anything else, such as an `InputPath` that finds nothing.
    pub const RUNTIME: &'static str = "States.Runtime";

    pub(super) fn new(error: &'static str, cause: impl Into<String>) -> Self {
        let cause = cause.into();
        Self { error, cause }
    }
}

/// An expression that is not written right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syntax {
    /// Where in a value of several expressions, as a JSON pointer; empty for a single one.
    pub pointer: String,
    /// The character of the expression at which it goes wrong, from 0.
    pub at: usize,
    /// What is wrong with it.
    pub what: String,
}

impl Syntax {
    pub(super) fn new(at: usize, what: impl Into<String>) -> Self {
        let (pointer, what) = (String::new(), what.into());
        Self { pointer, at, what }
    }
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at character {})", self.what, self.at)
    }
}

impl std::error::Error for Syntax {}

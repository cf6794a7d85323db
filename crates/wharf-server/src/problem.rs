//! Errors as a person meets them: what happened, why, what to do, and the code of the page.
//!
//! Never a `Debug` dump, and never a problem without a way forward.

use std::error::Error as StdError;
use std::fmt;

use wharf_message::Code;

/// An error in three sentences, with the code of its page where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The page under `docs/errors/`; `None` when nobody would act on it differently.
    pub code: Option<Code>,
    /// What happened.
    pub what: String,
    /// Why it happened, as far as it is known.
    pub why: String,
    /// What the reader can do about it.
    pub fix: String,
}

impl Problem {
    /// A problem that has a page.
    pub fn new(
        code: Code,
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            code: Some(code),
            what: what.into(),
            why: why.into(),
            fix: fix.into(),
        }
    }

    /// A problem without a page of its own.
    pub fn plain(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            code: None,
            what: what.into(),
            why: why.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.code {
            write!(formatter, "{code}: ")?;
        }
        write!(formatter, "{}: {}", self.what, self.why)
    }
}

impl StdError for Problem {}

/// An error and everything that caused it, on one line.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

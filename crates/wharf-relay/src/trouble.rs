//! What keeps a relay from going on, and what to do about it.

use std::fmt;

use wharf_message::Code;

/// What kind of trouble it is, and so what the relay does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TroubleKind {
    /// Something cannot be reached or is starting: tried again with growing delays.
    Unavailable,
    /// Another relay serves this source: this one stands by and asks again every second or so, so that
    /// it takes over within ten seconds.
    Standby,
    /// Somebody has to change something (a grant, a setting, a table): tried again every few seconds,
    /// so that it goes on by itself once that is done.
    Refused,
}

/// What keeps a relay from going on. Nothing is lost by it: what was not confirmed comes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What kind.
    pub kind: TroubleKind,
    /// The error code, which has a page.
    pub code: Code,
    /// What happened and why, in one sentence.
    pub what: String,
    /// The statement or the step that mends it, if there is one.
    pub fix: Option<String>,
}

impl Trouble {
    /// Trouble that passes by itself, or when a server is back.
    pub fn unavailable(code: Code, what: impl Into<String>) -> Self {
        Self::new(TroubleKind::Unavailable, code, what)
    }

    /// Another relay is at work.
    pub fn standby(code: Code, what: impl Into<String>) -> Self {
        Self::new(TroubleKind::Standby, code, what)
    }

    /// Somebody has to do something.
    pub fn refused(code: Code, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..Self::new(TroubleKind::Refused, code, what)
        }
    }

    fn new(kind: TroubleKind, code: Code, what: impl Into<String>) -> Self {
        Self {
            kind,
            code,
            what: what.into(),
            fix: None,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.what)?;
        if let Some(fix) = &self.fix {
            write!(formatter, "; to mend it: {fix}")?;
        }
        write!(formatter, " ({})", self.code)
    }
}

impl std::error::Error for Trouble {}

//! What checks and lints have to say about a schema, and the forms that pipelines read it in:
//! SARIF 2.1.0, JUnit, GitHub's annotations.
//!
//! The same findings give the same bytes. Texts of strangers are always escaped.

mod change;
mod github;
mod junit;
mod locate;
mod sarif;

use serde::{Deserialize, Serialize};

pub use change::{Change, Shown, changes};
pub use github::github;
pub use junit::{Case, junit};
pub use locate::line_of;
pub use sarif::{Described, sarif};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// It will hurt later.
    Warning,
    /// It breaks something.
    Error,
}

impl Severity {
    /// `note`, `warning` or `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing found at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule or the kind of difference.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence.
    pub message: String,
    /// The file, as it was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The place in the schema: a JSON pointer, or names with dots between them.
    pub path: String,
    /// More lines, such as a witness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A text as XML has it in an attribute or between tags.
pub(crate) fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            // XML 1.0 has no other control characters, not even escaped.
            control if control.is_control() && control != '\t' => escaped.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

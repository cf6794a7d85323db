//! A difference as people and programs are told of it: with its sentence and its witness in words.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Finding, Severity, line_of};
use crate::compat::{Comparison, Difference, Direction, Outcome, Witness};
use crate::model::SchemaType;

/// A difference in one direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The kind, as Confluent's clients know it.
    pub kind: String,
    /// Whether the reader still reads what the writer writes.
    pub is_compatible: bool,
    /// Where, in the reader's schema.
    pub path: String,
    /// One sentence.
    pub sentence: String,
    /// What Confluent gives as `additionalInfo`.
    pub additional: String,
    /// A record that shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witness: Option<Shown>,
}

/// A witness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// Who writes the record: `old` or `new`.
    pub writer: String,
    /// The record.
    pub record: Value,
    /// Its payload, in hexadecimal digits.
    pub payload: String,
    /// Why the other one cannot read it, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the other one reads instead, if it reads something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads: Option<Value>,
}

impl Change {
    /// Of a difference in this direction.
    pub fn of(difference: &Difference, direction: Direction) -> Self {
        Self {
            kind: difference.kind.to_owned(),
            is_compatible: difference.is_compatible,
            path: difference.path.clone(),
            sentence: difference.sentence(direction),
            additional: difference.additional.clone(),
            witness: difference
                .witness
                .as_ref()
                .map(|witness| Shown::of(witness, direction)),
        }
    }

    /// The finding for a file that holds the new schema.
    pub fn finding(&self, direction: Direction, kind: SchemaType, new_text: &str) -> Finding {
        Finding {
            rule: self.kind.clone(),
            severity: match self.is_compatible {
                true => Severity::Note,
                false => Severity::Error,
            },
            message: self.sentence.clone(),
            file: None,
            // A path of the old schema has no line in the new one.
            line: (direction == Direction::Backward).then(|| line_of(kind, new_text, &self.path)),
            path: self.path.clone(),
            detail: self.witness.as_ref().map(|shown| shown.lines().join("\n")),
        }
    }
}

/// All differences of a comparison.
pub fn changes(comparison: &Comparison) -> Vec<Change> {
    let change = |difference| Change::of(difference, comparison.direction);
    comparison.differences.iter().map(change).collect()
}

impl Shown {
    fn of(witness: &Witness, direction: Direction) -> Self {
        let (error, reads) = match &witness.outcome {
            Outcome::Unreadable(error) => (Some(error.clone()), None),
            Outcome::ReadsDifferently(reads) => (None, Some(reads.clone())),
        };
        Self {
            writer: match direction {
                Direction::Backward => "old",
                Direction::Forward => "new",
            }
            .to_owned(),
            record: witness.record.clone(),
            payload: witness.payload.clone(),
            error,
            reads,
        }
    }

    /// In words, a line each.
    pub fn lines(&self) -> Vec<String> {
        let reader = match self.writer.as_str() {
            "old" => "new",
            _ => "old",
        };
        let mut lines = vec![format!(
            "witness: the {} schema writes {}",
            self.writer, self.record
        )];
        // What is text is there already.
        let text = self.record.to_string();
        let text: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        if !self.payload.is_empty() && self.payload != text {
            lines.push(format!("as bytes: {}", self.payload));
        }
        match (&self.error, &self.reads) {
            (Some(error), _) => lines.push(format!("the {reader} schema cannot read it: {error}")),
            (None, Some(reads)) => lines.push(format!("the {reader} schema reads it as {reads}")),
            (None, None) => {}
        }
        lines
    }
}

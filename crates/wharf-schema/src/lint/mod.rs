//! Rules for schemas that are legal today and hurt later. Deterministic: a rule looks at the text
//! alone (and, where it says so, at the version before it), never at data.
//!
//! Each rule has an id that stays, a severity, and a page in `docs/reference/schema-lint.md`, which
//! is made from [`RULES`].

mod avro;
mod json;
mod protobuf;
mod rules;

use std::collections::BTreeSet;

use crate::findings::{Finding, Severity, line_of};
use crate::model::SchemaType;
use crate::{Invalid, Limits};

pub use rules::{RULES, Rule, markdown};

/// Which rules are looked at.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Only these, where there are any.
    pub only: BTreeSet<String>,
    /// Not these.
    pub allowed: BTreeSet<String>,
}

impl Choice {
    fn has(&self, id: &str) -> bool {
        (self.only.is_empty() || self.only.contains(id)) && !self.allowed.contains(id)
    }

    /// The first name that is no rule's, if one is.
    pub fn unknown(&self) -> Option<&str> {
        let mut names = self.only.iter().chain(&self.allowed);
        names
            .find(|name| RULES.iter().all(|rule| rule.id != **name))
            .map(String::as_str)
    }
}

/// What a rule of one kind reports into.
struct Found<'a> {
    choice: &'a Choice,
    limits: &'a Limits,
    places: Vec<(&'static Rule, String, String)>,
    nodes: usize,
}

impl Found<'_> {
    /// Reports a rule at a path.
    fn at(&mut self, id: &'static str, path: &str, message: String) {
        let Some(rule) = RULES.iter().find(|rule| rule.id == id) else {
            debug_assert!(false, "{id} is not in the list of rules");
            return;
        };
        if self.choice.has(id) && self.places.len() < self.limits.incompatibilities_max {
            self.places.push((rule, path.to_owned(), message));
        }
    }

    /// Counts one more thing looked at, at this depth.
    fn enter(&mut self, depth: usize) -> Result<(), Invalid> {
        self.nodes += 1;
        if depth > self.limits.depth_max || self.nodes > self.limits.nodes_max {
            return Err(Invalid::new(format!(
                "the schema is too large to be looked through: at most {} things, {} deep",
                self.limits.nodes_max, self.limits.depth_max
            )));
        }
        Ok(())
    }
}

/// Looks through a text that was parsed before (so that it is a schema of its kind). `previous` is
/// the text of the version before it, for the rules that compare.
pub fn lint(
    kind: SchemaType,
    text: &str,
    previous: Option<&str>,
    choice: &Choice,
    limits: &Limits,
) -> Result<Vec<Finding>, Invalid> {
    let mut found = Found {
        choice,
        limits,
        places: Vec::new(),
        nodes: 0,
    };
    match kind {
        SchemaType::Avro => avro::look(text, &mut found)?,
        SchemaType::Json => json::look(text, &mut found)?,
        SchemaType::Protobuf => protobuf::look(text, previous, &mut found)?,
    }
    let finding = |(rule, path, message): (&Rule, String, String)| Finding {
        rule: rule.id.to_owned(),
        severity: rule.severity,
        message,
        file: None,
        line: Some(line_of(kind, text, &path)),
        path,
        detail: None,
    };
    let mut findings: Vec<Finding> = found.places.into_iter().map(finding).collect();
    findings.sort_by(|a, b| (a.line, &a.path, &a.rule).cmp(&(b.line, &b.path, &b.rule)));
    Ok(findings)
}

/// The worst there is among findings.
pub fn worst(findings: &[Finding]) -> Option<Severity> {
    findings.iter().map(|finding| finding.severity).max()
}

#[cfg(test)]
mod tests;

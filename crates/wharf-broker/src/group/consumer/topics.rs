//! The topics a group may read: what exists, what patterns select, and whether that changed.
//!
//! A pattern selects a topic when it matches the whole name; internal topics are never selected.
//! Patterns are those of RE2 over ASCII: no look-around, no back-references, so that matching takes
//! time in proportion to the name, whatever a client sends. Their compiled size is bounded.

use std::collections::{BTreeMap, BTreeSet};

use regex::bytes::{Regex, RegexBuilder};
use uuid::Uuid;

use crate::group::machine::refusal;
use crate::topics::Topics;
use crate::{Error, ErrorKind};

/// The longest pattern in bytes.
const PATTERN_BYTES_MAX: usize = 16 << 10;
/// The most memory one compiled pattern may take.
const PATTERN_SIZE_MAX: usize = 1 << 20;

/// A topic as far as groups are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::group) struct TopicSize {
    pub(in crate::group) id: Uuid,
    pub(in crate::group) partitions: i32,
}

/// The topics as they are now.
pub(in crate::group) trait Catalog {
    /// Changes whenever a topic is created, deleted or gets partitions.
    fn version(&self) -> u64;
    /// The topic of this name.
    fn by_name(&self, name: &str) -> Option<TopicSize>;
    /// The name of this topic.
    fn name_of(&self, id: Uuid) -> Option<String>;
    /// The names of all topics that patterns may select.
    fn selectable(&self) -> Vec<String>;
}

impl Catalog for Topics {
    fn version(&self) -> u64 {
        self.lookup().version()
    }

    fn by_name(&self, name: &str) -> Option<TopicSize> {
        self.lookup().named(name).map(|topic| TopicSize {
            id: topic.id,
            partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
        })
    }

    fn name_of(&self, id: Uuid) -> Option<String> {
        self.lookup()
            .with_id(id)
            .map(|topic| topic.name.to_string())
    }

    fn selectable(&self) -> Vec<String> {
        let lookup = self.lookup();
        let names = lookup.names().filter(|name| !name.is_internal());
        names.map(ToString::to_string).collect()
    }
}

/// The patterns of a group's members, with what each selects.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns(BTreeMap<String, Selection>);

#[derive(Clone, Debug)]
struct Selection {
    regex: Regex,
    topics: BTreeSet<String>,
}

impl Patterns {
    /// Takes a pattern in; says what is wrong with it if it is none.
    pub(super) fn add(&mut self, pattern: &str, catalog: &dyn Catalog) -> Result<(), Error> {
        if !self.0.contains_key(pattern) {
            let mut selection = Selection {
                regex: compile(pattern)?,
                topics: BTreeSet::new(),
            };
            selection.select(&catalog.selectable());
            self.0.insert(pattern.to_owned(), selection);
        }
        Ok(())
    }

    /// Drops the patterns that nobody uses.
    pub(super) fn retain(&mut self, is_used: impl Fn(&str) -> bool) {
        self.0.retain(|pattern, _| is_used(pattern));
    }

    /// Looks again at which topics there are.
    pub(super) fn refresh(&mut self, catalog: &dyn Catalog) {
        if !self.0.is_empty() {
            let names = catalog.selectable();
            for selection in self.0.values_mut() {
                selection.select(&names);
            }
        }
    }

    /// The topics that a pattern selects.
    pub(super) fn topics(&self, pattern: &str) -> impl Iterator<Item = &str> {
        let selection = self.0.get(pattern);
        selection
            .into_iter()
            .flat_map(|selection| selection.topics.iter().map(String::as_str))
    }
}

impl Selection {
    fn select(&mut self, names: &[String]) {
        let matching = names
            .iter()
            .filter(|name| self.regex.is_match(name.as_bytes()));
        self.topics = matching.cloned().collect();
    }
}

/// Compiled so that it matches whole names only.
fn compile(pattern: &str) -> Result<Regex, Error> {
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .unicode(false)
            .size_limit(PATTERN_SIZE_MAX)
            .dfa_size_limit(PATTERN_SIZE_MAX)
            .build()
    };
    let invalid = |reason: String| {
        let kind = ErrorKind::InvalidRegularExpression;
        Error::new(kind, format!("{}: {reason}", refusal(kind).message))
    };
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(invalid(format!(
            "it is longer than {PATTERN_BYTES_MAX} bytes"
        )));
    }
    // First alone, so that it cannot close the brackets that are put around it.
    build(pattern)
        .and_then(|_| build(&format!(r"\A(?:{pattern})\z")))
        .map_err(|error| invalid(error.to_string()))
}

/// Changes with the topics that are subscribed to, their ids and their numbers of partitions
/// (64-bit FNV-1a).
pub(super) fn fingerprint(sizes: &BTreeMap<Uuid, i32>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (id, partitions) in sizes {
        for byte in id
            .as_bytes()
            .iter()
            .copied()
            .chain(partitions.to_be_bytes())
        {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_selects_by_the_whole_name() {
        let selects =
            |pattern: &str, name: &str| compile(pattern).unwrap().is_match(name.as_bytes());
        assert!(selects("^orders.*", "orders-eu"));
        assert!(selects("orders|bills", "bills"));
        assert!(selects("a|ab", "ab"));
        assert!(!selects("^orders", "orders-eu"));
        assert!(!selects("a|b", "ab"));
        assert!(selects(r"t-\d+", "t-17"));
    }

    #[test]
    fn what_is_no_pattern_or_too_large_a_one_is_refused_by_name() {
        let longest = "a".repeat(PATTERN_BYTES_MAX + 1);
        for pattern in [
            "(",
            "a)|(b",
            "[z-a]",
            r"(a)\1",
            "(?=a)",
            "((a{999}){999}){9}",
            &longest,
        ] {
            let error = compile(pattern).unwrap_err();
            assert_eq!(
                error.kind,
                ErrorKind::InvalidRegularExpression,
                "{pattern:.20}"
            );
        }
    }
}

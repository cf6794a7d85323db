//! The proposed schema against every version, in both directions, each compared once.

use std::collections::BTreeMap;

use super::evidence::Evidence;
use super::report::{Compared, LevelVerdict};
use crate::compat::{Comparison, Direction};
use crate::findings::{Change, changes};
use crate::model::Level;
use crate::{Invalid, Limits, Parsed};

/// All comparisons.
#[derive(Debug)]
pub(super) struct Pairs {
    /// The proposed schema.
    pub(super) new: Parsed,
    /// By version, as far as they could be parsed.
    pub(super) pairs: BTreeMap<i32, Pair>,
    /// Versions that no longer parse; a sentence each.
    pub(super) unparsed: Vec<String>,
}

/// One version.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) id: i32,
    pub(super) old: Parsed,
    pub(super) text: String,
    /// Whether a level compares with it at all.
    pub(super) is_compared: bool,
    pub(super) backward: Vec<Change>,
    pub(super) forward: Vec<Change>,
}

/// Those that break.
pub(super) fn breaks(changes: &[Change]) -> impl Iterator<Item = &Change> {
    changes.iter().filter(|change| !change.is_compatible)
}

/// Whether none breaks.
pub(super) fn holds(changes: &[Change]) -> bool {
    breaks(changes).next().is_none()
}

impl Pair {
    /// Whether the proposed schema reads what this version wrote.
    pub(super) fn is_readable(&self) -> bool {
        holds(&self.backward)
    }
}

impl Pairs {
    pub(super) fn compare(evidence: &Evidence, limits: &Limits) -> Result<Self, Invalid> {
        let proposed = &evidence.proposed;
        let new = Parsed::parse(
            proposed.kind,
            &proposed.text,
            &proposed.dependencies,
            limits,
        )?;
        let policy = evidence.rule.policy;
        let mut pairs = BTreeMap::new();
        let mut unparsed = Vec::new();
        for version in &evidence.versions {
            let old =
                Parsed::parse_stored(version.kind, &version.text, &version.dependencies, limits);
            let old = match old {
                Ok(old) => old,
                Err(error) => {
                    let number = version.version;
                    unparsed.push(format!("version {number} cannot be parsed: {error}"));
                    continue;
                }
            };
            let told = |direction, differences| {
                changes(&Comparison {
                    version: version.version,
                    direction,
                    differences,
                })
            };
            let backward = told(Direction::Backward, new.reads(&old, policy, limits)?);
            let forward = told(Direction::Forward, old.reads(&new, policy, limits)?);
            let pair = Pair {
                id: version.id,
                old,
                text: version.text.clone(),
                is_compared: version.compared && !version.deleted,
                backward,
                forward,
            };
            pairs.insert(version.version, pair);
        }
        Ok(Self {
            new,
            pairs,
            unparsed,
        })
    }

    /// The newest version that is compared with.
    pub(super) fn latest(&self) -> Option<(i32, &Pair)> {
        let mut newest = self.pairs.iter().rev();
        newest
            .find(|(_, pair)| pair.is_compared)
            .map(|(version, pair)| (*version, pair))
    }

    /// The version with this id.
    pub(super) fn of_id(&self, id: i32) -> Option<(i32, &Pair)> {
        let mut newest = self.pairs.iter().rev();
        newest
            .find(|(_, pair)| pair.id == id)
            .map(|(version, pair)| (*version, pair))
    }

    /// The versions that a level compares with, newest first.
    pub(super) fn wanted(&self, level: Level) -> Vec<(i32, &Pair)> {
        let compared = self.pairs.iter().rev().filter(|(_, pair)| pair.is_compared);
        let depth = match level.is_transitive() {
            true => usize::MAX,
            false => 1,
        };
        match level {
            Level::None => Vec::new(),
            _ => compared
                .take(depth)
                .map(|(version, pair)| (*version, pair))
                .collect(),
        }
    }

    /// What each level says.
    pub(super) fn verdicts(&self, holding: Level) -> Vec<LevelVerdict> {
        let verdict = |level: Level| {
            let wanted = self.wanted(level);
            let mut count = 0;
            for (_, pair) in &wanted {
                if level.is_backward() {
                    count += breaks(&pair.backward).count();
                }
                if level.is_forward() {
                    count += breaks(&pair.forward).count();
                }
            }
            LevelVerdict {
                level,
                holds: level == holding,
                is_compatible: count == 0,
                incompatibilities: count,
                versions: wanted.into_iter().map(|(version, _)| version).collect(),
            }
        };
        Level::ALL.into_iter().map(verdict).collect()
    }

    /// Every pair, newest version first.
    pub(super) fn compared(&self, level: Level) -> Vec<Compared> {
        let wanted: Vec<i32> = self
            .wanted(level)
            .into_iter()
            .map(|(version, _)| version)
            .collect();
        let mut compared = Vec::new();
        for (version, pair) in self.pairs.iter().rev() {
            let is_wanted = wanted.contains(version);
            for (direction, differences, asked) in [
                (Direction::Backward, &pair.backward, level.is_backward()),
                (Direction::Forward, &pair.forward, level.is_forward()),
            ] {
                compared.push(Compared {
                    version: *version,
                    direction: direction.into(),
                    is_wanted: is_wanted && asked,
                    differences: differences.clone(),
                });
            }
        }
        compared
    }
}

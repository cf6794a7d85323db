//! Who reads the subject's records, and what the change does to each: as it runs now, and with the
//! records it has yet to read once it has the new schema.
//!
//! A consumer that the broker saw and no catalogue has comes first: reading files alone misses it.

use std::collections::{BTreeMap, BTreeSet};

use super::counted;
use super::evidence::{Declared, Evidence, Fetch, Group, Topic};
use super::field::{field_at, meets};
use super::pairs::{Pairs, breaks, holds};
use super::report::{Affected, Consumer, Fact, Grade, Unread};
use super::retained::unread;
use crate::compat::{Comparison, Direction};
use crate::findings::{Change, changes};
use crate::{Limits, Parsed};

/// How many breaks a sentence names.
const NAMED_MAX: usize = 3;

/// What is known of one consumer before anything is concluded.
#[derive(Default)]
struct Known<'a> {
    groups: Vec<(&'a Topic, &'a Group)>,
    declared: Vec<&'a Declared>,
    fetches: Vec<&'a Fetch>,
}

/// All of them, in the order of the report.
pub(super) fn consumers(evidence: &Evidence, pairs: &Pairs, limits: &Limits) -> Vec<Consumer> {
    let mut known: BTreeMap<String, Known<'_>> = BTreeMap::new();
    for topic in &evidence.topics {
        for group in &topic.groups {
            let entry = known.entry(group.name.clone()).or_default();
            entry.groups.push((topic, group));
        }
    }
    for declared in evidence.catalogue.iter().flatten() {
        let name = declared.group.as_ref().unwrap_or(&declared.consumer);
        known
            .entry(name.clone())
            .or_default()
            .declared
            .push(declared);
    }
    for fetch in &evidence.fetches {
        let name = whose(&known, fetch).unwrap_or_else(|| fetch.client.clone());
        known.entry(name).or_default().fetches.push(fetch);
    }
    let judge = |(name, known): (&String, &Known<'_>)| {
        Judge {
            evidence,
            pairs,
            limits,
            known,
        }
        .consumer(name)
    };
    let mut consumers: Vec<Consumer> = known.iter().map(judge).collect();
    consumers.sort_by(|a, b| {
        let key = |consumer: &Consumer| {
            (
                !consumer.is_unlisted,
                consumer.group.is_none(),
                consumer.affected,
                std::cmp::Reverse(consumer.grade),
                consumer.name.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    consumers
}

/// The consumer that a client of the registry belongs to: a member says the same name, or the names
/// are of one family.
fn whose(known: &BTreeMap<String, Known<'_>>, fetch: &Fetch) -> Option<String> {
    let is_member = |known: &Known<'_>| {
        let mut members = known.groups.iter().flat_map(|(_, group)| &group.members);
        members.any(|member| member.client_id == fetch.client)
    };
    let by_member = known.iter().find(|(_, known)| is_member(known));
    let by_family = || {
        known
            .iter()
            .find(|(name, _)| is_family(name, &fetch.client))
    };
    by_member.or_else(by_family).map(|(name, _)| name.clone())
}

/// Whether one name begins with the other, up to a separator.
fn is_family(a: &str, b: &str) -> bool {
    let (short, long) = match a.len() <= b.len() {
        true => (a, b),
        false => (b, a),
    };
    let rest = long.strip_prefix(short);
    !short.is_empty()
        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_', '.', '/', ' ']))
}

struct Judge<'a> {
    evidence: &'a Evidence,
    pairs: &'a Pairs,
    limits: &'a Limits,
    known: &'a Known<'a>,
}

/// A conclusion: affected or not, how well that is known, and why.
struct Conclusion {
    affected: Affected,
    grade: Grade,
    why: Vec<String>,
}

impl Judge<'_> {
    fn consumer(&self, name: &str) -> Consumer {
        let unread = self.unread();
        let conclusion = self.conclude(&unread);
        let mut facts = self.facts();
        facts.sort_by(|a, b| (b.grade, &a.sentence).cmp(&(a.grade, &b.sentence)));
        let declared = self.known.declared.first();
        let seen = !self.known.groups.is_empty() || !self.known.fetches.is_empty();
        let offsets = self
            .known
            .groups
            .iter()
            .flat_map(|(_, group)| &group.offsets);
        let commits = offsets.filter_map(|committed| committed.at);
        let fetches = self.known.fetches.iter().map(|fetch| fetch.at);
        Consumer {
            name: declared.map_or_else(|| name.to_owned(), |it| it.consumer.clone()),
            group: self
                .known
                .groups
                .first()
                .map(|(_, group)| group.name.clone()),
            owner: declared.and_then(|it| it.owner.clone()),
            is_unlisted: seen && declared.is_none(),
            affected: conclusion.affected,
            grade: conclusion.grade,
            why: conclusion.why,
            evidence: facts,
            newest: commits.chain(fetches).max(),
            unread,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        for (topic, group) in &self.known.groups {
            facts.push(Fact {
                grade: Grade::Observed,
                sentence: seen(topic, group),
            });
        }
        for fetch in &self.known.fetches {
            let version = self.pairs.of_id(fetch.id).map(|(version, _)| version);
            let schema = match version {
                Some(version) => format!("version {version} (id {})", fetch.id),
                None => format!("id {}", fetch.id),
            };
            let own = self.known.groups.iter().any(|(_, group)| {
                let mut members = group.members.iter();
                members.any(|member| member.client_id == fetch.client)
            });
            let times = counted(fetch.count, "time");
            facts.push(Fact {
                grade: match own || self.known.groups.is_empty() && self.known.declared.is_empty() {
                    true => Grade::Observed,
                    false => Grade::Inferred,
                },
                sentence: format!("{} asked the registry for {schema}, {times}", fetch.client),
            });
        }
        for declared in &self.known.declared {
            let reads = match &declared.fields {
                Some(fields) if fields.is_empty() => "reads no field".to_owned(),
                Some(fields) => format!("reads {}", fields.join(", ")),
                None => "reads it; which fields is not said".to_owned(),
            };
            facts.push(Fact {
                grade: Grade::Declared,
                sentence: format!(
                    "{} says that {} {reads}",
                    declared.source, declared.consumer
                ),
            });
            if let Some(reader) = &declared.reader {
                facts.push(Fact {
                    grade: Grade::Proved,
                    sentence: format!(
                        "it reads with {}, which was run against the change",
                        reader.name
                    ),
                });
            }
        }
        facts
    }

    /// What the group has yet to read, by schema id.
    fn unread(&self) -> Vec<Unread> {
        let mut all = Vec::new();
        for (topic, group) in &self.known.groups {
            let runs = topic
                .partitions
                .iter()
                .flat_map(|partition| &partition.runs);
            let ids: BTreeSet<Option<i32>> = runs.map(|run| run.id).collect();
            for id in ids {
                let (records, is_exact) = unread(topic, group, id);
                if records == 0 {
                    continue;
                }
                let version = id.and_then(|id| self.pairs.of_id(id));
                all.push(Unread {
                    topic: topic.name.clone(),
                    version: version.map(|(version, _)| version),
                    id,
                    records,
                    is_exact,
                    is_readable: version.map(|(_, pair)| pair.is_readable()),
                });
            }
        }
        all
    }

    fn conclude(&self, unread: &[Unread]) -> Conclusion {
        if self.known.groups.is_empty() && self.known.declared.is_empty() {
            return Conclusion {
                affected: Affected::Unknown,
                grade: Grade::Inferred,
                why: vec![
                    "it asked for the schema; whether it reads the topic was not seen".to_owned(),
                ],
            };
        }
        let mut declared = self.known.declared.iter();
        // Who reads with a schema of its own does not take the proposed one.
        if let Some(reader) = declared.find_map(|it| it.reader.as_ref()) {
            return self.by_its_schema(reader);
        }
        let mut conclusion = self.by_the_latest();
        let unreadable = |waiting: &&Unread| waiting.is_readable == Some(false);
        for waiting in unread.iter().filter(unreadable) {
            let version = waiting.version.unwrap_or_default();
            let Some(pair) = self.pairs.pairs.get(&version) else {
                continue;
            };
            let met = self.met(breaks(&pair.backward), &self.evidence.proposed.text);
            if met.is_empty() {
                continue;
            }
            let most = if waiting.is_exact { "" } else { "at most " };
            conclusion.why.push(format!(
                "once it reads with the proposed schema, it cannot read {most}{} of version {version} that it has yet to read in {}: {}",
                counted(waiting.records, "record"),
                waiting.topic,
                named(&met)
            ));
            conclusion.affected = Affected::Yes;
            conclusion.grade = conclusion.grade.max(Grade::Observed);
        }
        conclusion
    }

    /// Those of the changes that the consumer meets with the fields it says it reads; all of them if
    /// it does not say. `reader` is the text that the changes' paths are in.
    fn met<'c>(&self, changes: impl Iterator<Item = &'c Change>, reader: &str) -> Vec<&'c Change> {
        let kind = self.evidence.proposed.kind;
        let fields = self.fields();
        let is_met = |change: &&Change| {
            let changed = field_at(kind, reader, &change.path);
            fields.is_none_or(|fields| meets(fields, changed.as_deref()))
        };
        changes.filter(is_met).collect()
    }

    fn fields(&self) -> Option<&Vec<String>> {
        let mut declared = self.known.declared.iter();
        declared.find_map(|it| it.fields.as_ref())
    }

    /// It says with which schema it reads, so that schema is asked.
    fn by_its_schema(&self, reader: &super::evidence::Reader) -> Conclusion {
        let parsed = Parsed::parse(reader.kind, &reader.text, &[], self.limits);
        let read = parsed.and_then(|parsed| {
            parsed.reads(&self.pairs.new, self.evidence.rule.policy, self.limits)
        });
        let differences = match read {
            Ok(differences) => differences,
            Err(error) => {
                let why = format!("its schema {} cannot be compared: {error}", reader.name);
                return Conclusion {
                    affected: Affected::Unknown,
                    grade: Grade::NoEvidence,
                    why: vec![why],
                };
            }
        };
        let differences = changes(&Comparison {
            version: 0,
            direction: Direction::Forward,
            differences,
        });
        let broken: Vec<&Change> = breaks(&differences).collect();
        match broken.as_slice() {
            [] => Conclusion {
                affected: Affected::No,
                grade: Grade::Proved,
                why: vec![format!(
                    "its schema {} reads what the proposed one writes",
                    reader.name
                )],
            },
            broken => Conclusion {
                affected: Affected::Yes,
                grade: Grade::Proved,
                why: vec![format!(
                    "its schema {} cannot read what the proposed one writes: {}",
                    reader.name,
                    named(broken)
                )],
            },
        }
    }

    /// It is taken to read with the latest version, as long as nothing says otherwise.
    fn by_the_latest(&self) -> Conclusion {
        let grade = self.grade();
        let Some((version, pair)) = self.pairs.latest() else {
            return Conclusion {
                affected: Affected::No,
                grade,
                why: vec!["there is no version yet that it could read with".to_owned()],
            };
        };
        if holds(&pair.forward) {
            return Conclusion {
                affected: Affected::No,
                grade,
                why: vec![format!(
                    "version {version} reads what the proposed schema writes"
                )],
            };
        }
        let met = self.met(breaks(&pair.forward), &pair.text);
        if self.fields().is_none() {
            return without_fields(version, &met, grade);
        }
        match met.as_slice() {
            [] => Conclusion {
                affected: Affected::No,
                grade: Grade::Declared,
                why: vec![
                    "what it says it reads stays as it is; a reader that insists on the whole of the latest version would fail".to_owned(),
                ],
            },
            met => Conclusion {
                affected: Affected::Yes,
                grade: Grade::Declared.max(grade),
                why: vec![format!(
                    "it reads what changes; with version {version} it cannot read what the proposed schema writes: {}",
                    named(met)
                )],
            },
        }
    }

    /// How well it is known that it reads at all.
    fn grade(&self) -> Grade {
        let facts = self.facts();
        facts
            .iter()
            .map(|fact| fact.grade)
            .max()
            .unwrap_or(Grade::NoEvidence)
    }
}

fn without_fields(version: i32, broken: &[&Change], grade: Grade) -> Conclusion {
    if grade < Grade::Declared {
        return Conclusion {
            affected: Affected::Unknown,
            grade: Grade::NoEvidence,
            why: vec!["nothing says what it reads".to_owned()],
        };
    }
    Conclusion {
        affected: Affected::Yes,
        grade,
        why: vec![format!(
            "nothing says which fields it reads; with version {version} it cannot read what the proposed schema writes: {}",
            named(broken)
        )],
    }
}

fn seen(topic: &Topic, group: &Group) -> String {
    let sum = |of: fn(&super::evidence::Partition) -> i64| {
        let partitions = topic.partitions.iter();
        partitions.map(of).sum::<i64>()
    };
    let (end, start) = (
        sum(|partition| partition.end),
        sum(|partition| partition.start),
    );
    let mut committed = Vec::new();
    let mut behind = 0;
    for partition in &topic.partitions {
        let mut offsets = group.offsets.iter();
        if let Some(at) = offsets.find(|at| at.partition == partition.partition) {
            committed.push(partition.partition);
            behind += (partition.end - at.offset).max(0);
        }
    }
    let clients: BTreeSet<&str> = group
        .members
        .iter()
        .map(|member| member.client_id.as_str())
        .collect();
    let members = match clients.len() {
        0 => "no members now".to_owned(),
        _ => {
            let clients: Vec<&str> = clients.into_iter().collect();
            let count = counted(group.members.len(), "member");
            format!("{count} now ({})", clients.join(", "))
        }
    };
    let offsets = match committed.len() {
        0 => "no offsets committed".to_owned(),
        partitions => format!(
            "offsets committed in {} of {}, {} behind the end",
            partitions,
            counted(topic.partitions.len(), "partition"),
            counted(u64::try_from(behind).unwrap_or_default(), "record")
        ),
    };
    let retained = u64::try_from(end - start).unwrap_or_default();
    format!(
        "the group {} reads {} ({} retained): {members}, {offsets}",
        group.name,
        topic.name,
        counted(retained, "record")
    )
}

/// The first few by name.
fn named(broken: &[&Change]) -> String {
    let mut names: Vec<String> = broken
        .iter()
        .take(NAMED_MAX)
        .map(|change| match change.path.as_str() {
            "" | "/" => change.kind.clone(),
            path => format!("{} at {path}", change.kind),
        })
        .collect();
    if broken.len() > NAMED_MAX {
        names.push(format!("and {} more", broken.len() - NAMED_MAX));
    }
    names.join(", ")
}

//! What is retained of each version, who has yet to read it, when it is out of reach, and whether a
//! hard delete would leave records that nobody can read.

use super::counted;
use super::evidence::{Evidence, Group, Run, Topic};
use super::pairs::{Pairs, breaks};
use super::report::{Place, Retained, Safety, Transitive};

/// How many records of a run are at or after an offset: at most so many, and whether exactly.
pub(super) fn from_offset(run: &Run, offset: i64) -> (u64, bool) {
    if offset <= run.first {
        return (run.records, true);
    }
    if offset > run.last {
        return (0, true);
    }
    let left = u64::try_from(run.last - offset + 1).unwrap_or_default();
    let all = u64::try_from(run.last - run.first + 1).unwrap_or_default();
    // Where a run has no gaps, each offset is a record.
    (left.min(run.records), all == run.records)
}

/// How many records with this id a group has yet to read in a topic. Partitions without a committed
/// offset are not counted.
pub(super) fn unread(topic: &Topic, group: &Group, id: Option<i32>) -> (u64, bool) {
    let (mut records, mut exact) = (0, true);
    for partition in &topic.partitions {
        let mut offsets = group.offsets.iter();
        let Some(committed) = offsets.find(|at| at.partition == partition.partition) else {
            continue;
        };
        for run in partition.runs.iter().filter(|run| run.id == id) {
            let (more, is_exact) = from_offset(run, committed.offset);
            records += more;
            exact &= is_exact;
        }
    }
    (records, exact)
}

/// Each version of the subject, newest first.
pub(super) fn retained(evidence: &Evidence, pairs: &Pairs) -> Vec<Retained> {
    let versions = pairs.pairs.iter().rev();
    versions
        .map(|(version, pair)| {
            let deleted = evidence
                .versions
                .iter()
                .any(|other| other.version == *version && other.deleted);
            of_version(evidence, *version, pair.id, deleted, pair.is_readable())
        })
        .collect()
}

fn of_version(
    evidence: &Evidence,
    version: i32,
    id: i32,
    deleted: bool,
    is_readable: bool,
) -> Retained {
    let mut places = Vec::new();
    let mut unread_by = Vec::new();
    let (mut oldest, mut newest) = (None::<i64>, None::<i64>);
    for topic in &evidence.topics {
        for partition in &topic.partitions {
            let of_id = |run: &&Run| run.id == Some(id);
            let runs: Vec<&Run> = partition.runs.iter().filter(of_id).collect();
            let first = runs.iter().map(|run| run.first).min();
            let last = runs.iter().map(|run| run.last).max();
            let (Some(first), Some(last)) = (first, last) else {
                continue;
            };
            let run_oldest = runs.iter().map(|run| run.oldest).min();
            oldest = [oldest, run_oldest].into_iter().flatten().min();
            newest = newest.max(runs.iter().map(|run| run.newest).max());
            places.push(Place {
                topic: topic.name.clone(),
                partition: partition.partition,
                records: runs.iter().map(|run| run.records).sum(),
                first,
                last,
            });
        }
        for group in &topic.groups {
            if unread(topic, group, Some(id)).0 > 0 {
                unread_by.push(group.name.clone());
            }
        }
    }
    unread_by.sort();
    unread_by.dedup();
    let records = places.iter().map(|place| place.records).sum();
    let (reach, unreachable_at) = reach(evidence, records, newest, &unread_by);
    Retained {
        version,
        id,
        deleted,
        records,
        places,
        oldest,
        newest,
        is_readable,
        hard_delete: hard_delete(evidence, version, id, records, deleted),
        unread_by,
        reach,
        unreachable_at,
    }
}

fn is_scanned(evidence: &Evidence) -> bool {
    let mut partitions = evidence.topics.iter().flat_map(|topic| &topic.partitions);
    !evidence.topics.is_empty() && partitions.all(|partition| partition.scanned_to >= partition.end)
}

fn reach(
    evidence: &Evidence,
    records: u64,
    newest: Option<i64>,
    unread_by: &[String],
) -> (String, Option<i64>) {
    if !is_scanned(evidence) && records == 0 {
        return (
            "not known: not everything was looked through".to_owned(),
            None,
        );
    }
    let Some(newest) = newest.filter(|_| records > 0) else {
        return ("out of reach: no record of it is retained".to_owned(), None);
    };
    let waiting = match unread_by {
        [] => "every group has read past it; only a replay meets it".to_owned(),
        groups => format!("{} yet to read some", have(groups)),
    };
    let compacted = evidence.topics.iter().any(|topic| topic.is_compacted);
    if compacted {
        let rest = "a compacted topic keeps the newest record of each key for ever";
        return (format!("{waiting}; {rest}"), None);
    }
    let kept = evidence.topics.iter().map(|topic| topic.retention_ms);
    // Without a limit in one topic there is none for all.
    let longest = kept.collect::<Option<Vec<i64>>>();
    match longest.and_then(|all| all.into_iter().max()) {
        None => (format!("{waiting}; retention never removes it"), None),
        Some(retention) => {
            let at = newest.saturating_add(retention);
            let rest =
                "out of reach once its newest record is past retention, if nobody writes it again";
            (format!("{waiting}; {rest}"), Some(at))
        }
    }
}

/// `a has`, `a and b have`.
fn have(names: &[String]) -> String {
    match names {
        [one] => format!("{one} has"),
        many => format!("{} have", many.join(", ")),
    }
}

fn hard_delete(evidence: &Evidence, version: i32, id: i32, records: u64, deleted: bool) -> Safety {
    let mut reasons = Vec::new();
    if records > 0 {
        let records = counted(records, "retained record");
        reasons.push(format!("{records} could no longer be read"));
    }
    for user in evidence
        .referrers
        .iter()
        .filter(|user| user.uses == version)
    {
        let (subject, number) = (&user.subject, user.version);
        reasons.push(format!("{subject} version {number} refers to it"));
    }
    let live = evidence.versions.iter().filter(|other| !other.deleted);
    if live.map(|other| other.version).max() == Some(version) && !deleted {
        reasons.push("it is the latest version, which producers write".to_owned());
    }
    let shared = evidence.versions.iter().find(|other| other.id == id);
    let shared = shared.map(|other| other.shared_with.as_slice());
    if let Some(subjects @ [_, ..]) = shared {
        let subjects = subjects.join(", ");
        reasons.push(format!(
            "its id stays readable through {subjects}, whose topics were not looked through"
        ));
    }
    if !reasons.is_empty() {
        return Safety {
            is_safe: Some(false),
            reasons,
        };
    }
    if is_scanned(evidence) {
        return Safety {
            is_safe: Some(true),
            reasons: vec!["no retained record names it and no schema refers to it".to_owned()],
        };
    }
    Safety {
        is_safe: None,
        reasons: vec!["not everything was looked through".to_owned()],
    }
}

/// Whether what is retained makes the versions before the latest matter.
pub(super) fn transitive(evidence: &Evidence, pairs: &Pairs, retained: &[Retained]) -> Transitive {
    let level = evidence.rule.level;
    let wanted: Vec<i32> = pairs
        .wanted(level)
        .into_iter()
        .map(|(version, _)| version)
        .collect();
    let broken = retained.iter().filter(|version| {
        version.records > 0 && !version.is_readable && !wanted.contains(&version.version)
    });
    let broken: Vec<&Retained> = broken.collect();
    if let Some(worst) = broken.first() {
        let kind = pairs
            .pairs
            .get(&worst.version)
            .and_then(|pair| breaks(&pair.backward).next())
            .map(|change| change.kind.clone());
        let numbers: Vec<String> = broken
            .iter()
            .map(|version| {
                let records = counted(version.records, "record");
                format!("{records} of version {}", version.version)
            })
            .collect();
        return Transitive {
            matters: Some(true),
            sentence: format!(
                "yes: {} retained, which the proposed schema cannot read ({}), and {level} does not compare with them",
                numbers.join(", "),
                kind.unwrap_or_default()
            ),
        };
    }
    if !is_scanned(evidence) {
        return Transitive {
            matters: None,
            sentence: "not known: not everything retained was looked through".to_owned(),
        };
    }
    let older = retained
        .iter()
        .any(|version| version.records > 0 && !wanted.contains(&version.version));
    let sentence = match (older, level.is_transitive()) {
        (_, true) => "the level compares with every version already",
        (true, false) => "no: older versions are retained, and the proposed schema reads them all",
        (false, false) => "no: no record is retained of a version that the level leaves out",
    };
    Transitive {
        matters: Some(false),
        sentence: sentence.to_owned(),
    }
}

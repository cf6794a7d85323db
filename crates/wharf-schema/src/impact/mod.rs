//! Who is affected by a change of a schema, from evidence: what the engines say, what the broker
//! saw, what a catalogue declares. Pure and deterministic: the same [`Evidence`] gives the same bytes.
//!
//! What is not known is said, and never shown as safe.

mod catalogue;
mod consumers;
mod evidence;
mod expand;
mod field;
mod pairs;
mod render;
mod report;
mod retained;
mod steps;

use crate::{Invalid, Limits};

pub use catalogue::{Catalogue, Entry, Reads};
pub use evidence::{
    Committed, Declared, Evidence, Fetch, Group, Member, Partition, Proposed, Reader, Referrer,
    Rule, Run, Topic, Version,
};
pub use render::{findings, markdown, text};
pub use report::{
    Affected, Compared, Consumer, Decision, DirectionName, Fact, First, Generated, Grade,
    LevelVerdict, Order, Place, Report, Retained, Safety, Step, Transitive, Unread,
};

use pairs::Pairs;

/// The report on a change. Fails when the proposed schema is none, or too large to be compared.
pub fn report(evidence: &Evidence, limits: &Limits) -> Result<Report, Invalid> {
    let pairs = Pairs::compare(evidence, limits)?;
    let consumers = consumers::consumers(evidence, &pairs, limits);
    let retained = retained::retained(evidence, &pairs);
    let transitive = retained::transitive(evidence, &pairs, &retained);
    let order = steps::order(evidence, &pairs, &consumers, &retained);
    let steps = steps::steps(evidence, &pairs, &order, limits);
    let verdicts = pairs.verdicts(evidence.rule.level);
    let mut references = evidence.referrers.clone();
    references.sort();
    let mut neighbours = evidence.neighbours.clone();
    neighbours.sort();
    Ok(Report {
        format: 1,
        taken_at: evidence.taken_at,
        subject: evidence.proposed.subject.clone(),
        file: evidence.proposed.file.clone(),
        kind: evidence.proposed.kind,
        decision: decision(evidence, &verdicts, &consumers, &order),
        rule: evidence.rule.clone(),
        verdicts,
        comparisons: pairs.compared(evidence.rule.level),
        retained,
        transitive,
        order,
        steps,
        references,
        neighbours,
        gaps: gaps(evidence, &pairs, &consumers),
        consumers,
    })
}

fn decision(
    evidence: &Evidence,
    verdicts: &[LevelVerdict],
    consumers: &[Consumer],
    order: &Order,
) -> Decision {
    let mut holding = verdicts.iter().filter(|verdict| verdict.holds);
    let is_refused = holding.any(|verdict| !verdict.is_compatible);
    let affected = consumers
        .iter()
        .filter(|consumer| consumer.affected == Affected::Yes)
        .count();
    let unknown = consumers
        .iter()
        .filter(|consumer| consumer.affected == Affected::Unknown)
        .count();
    let level = evidence.rule.level;
    let registry = match (is_refused, evidence.versions.is_empty()) {
        (true, _) => format!("the registry refuses it ({level})"),
        (false, true) => "the registry accepts it: the subject is new".to_owned(),
        (false, false) => format!("the registry accepts it ({level})"),
    };
    let known = consumers.len();
    let people = match (affected, unknown, known) {
        (0, 0, 0) => "nobody is known to read it".to_owned(),
        (0, 0, _) => format!(
            "none of the {} known is affected",
            counted(known, "consumer")
        ),
        (affected, 0, _) => format!("{affected} of {} affected", counted(known, "consumer")),
        (affected, unknown, _) => format!(
            "{affected} of {} affected, and nothing is known of {unknown}",
            counted(known, "consumer")
        ),
    };
    let breaks = is_refused || affected > 0;
    let order = match (breaks, order.first) {
        (true, First::Consumers) if !is_refused => "; consumers must be deployed first",
        (true, First::Producers) if !is_refused => "; producers must be deployed first",
        (true, First::Neither) => "; no order of deployment avoids it",
        _ => "",
    };
    Decision {
        breaks,
        is_refused,
        sentence: format!("{registry}, {people}{order}"),
    }
}

fn gaps(evidence: &Evidence, pairs: &Pairs, consumers: &[Consumer]) -> Vec<String> {
    let mut gaps = evidence.missing.clone();
    if evidence.catalogue.is_none() {
        gaps.push("no catalogue was given, so nothing says what consumers read".to_owned());
    }
    if evidence.topics.is_empty() {
        gaps.push(
            "no topic of this subject was found, so there is no evidence of who reads and of what is retained"
                .to_owned(),
        );
    }
    for topic in &evidence.topics {
        for partition in &topic.partitions {
            let (scanned, end) = (partition.scanned_to, partition.end);
            if scanned < end {
                gaps.push(format!(
                    "{} partition {}: scanned up to offset {scanned} of {end}; what follows is not counted",
                    topic.name, partition.partition
                ));
            }
        }
    }
    gaps.extend(pairs.unparsed.iter().cloned());
    let blind = |consumer: &&Consumer| consumer.grade == Grade::NoEvidence;
    for consumer in consumers.iter().filter(blind) {
        gaps.push(format!(
            "nothing shows what {} reads or whether it runs",
            consumer.name
        ));
    }
    gaps
}

/// `1 consumer`, `2 consumers`.
fn counted(number: impl Into<CountOf>, word: &str) -> String {
    let CountOf(number) = number.into();
    match number {
        1 => format!("1 {word}"),
        other => format!("{other} {word}s"),
    }
}

struct CountOf(u64);

impl From<u64> for CountOf {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<usize> for CountOf {
    fn from(number: usize) -> Self {
        Self(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;

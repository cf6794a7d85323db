//! Reports on a change of an order, from evidence that is written down here.

use insta::assert_snapshot;

use super::*;
use crate::compat::Policy;
use crate::findings::sarif;
use crate::model::{Level, SchemaType};

const FIRST: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
  {"name": "number", "type": "string"},
  {"name": "total_cents", "type": "long"}
]}"#;
const SECOND: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
  {"name": "number", "type": "string"},
  {"name": "total_cents", "type": "long"},
  {"name": "card", "type": "string", "default": ""}
]}"#;
/// The total becomes a text with its currency.
const BREAKING: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
  {"name": "number", "type": "string"},
  {"name": "total", "type": "string"},
  {"name": "card", "type": "string", "default": ""}
]}"#;
/// A field that may be left out.
const GROWN: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
  {"name": "number", "type": "string"},
  {"name": "total_cents", "type": "long"},
  {"name": "card", "type": "string", "default": ""},
  {"name": "note", "type": ["null", "string"], "default": null}
]}"#;
const NUMBER_ONLY: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
  {"name": "number", "type": "string"}
]}"#;

/// 2026-11-22T12:00:00Z.
const NOON: i64 = 1_795_348_800_000;

fn version(version: i32, id: i32, text: &str) -> Version {
    Version {
        version,
        id,
        kind: SchemaType::Avro,
        text: text.to_owned(),
        dependencies: Vec::new(),
        deleted: false,
        compared: true,
        shared_with: Vec::new(),
    }
}

fn group(name: &str, clients: &[&str], offsets: [i64; 2]) -> Group {
    let members = clients.iter().map(|client| Member {
        client_id: (*client).to_owned(),
        host: "10.0.0.7".to_owned(),
    });
    let committed = (0..).zip(offsets).map(|(partition, offset)| Committed {
        partition,
        offset,
        at: Some(NOON - 60_000),
    });
    Group {
        name: name.to_owned(),
        state: if clients.is_empty() {
            "Empty"
        } else {
            "Stable"
        }
        .to_owned(),
        members: members.collect(),
        offsets: committed.collect(),
    }
}

fn run(id: i32, first: i64, last: i64) -> Run {
    Run {
        id: Some(id),
        first,
        last,
        records: u64::try_from(last - first + 1).unwrap(),
        oldest: NOON - 86_400_000,
        newest: NOON - 3_600_000,
    }
}

fn declared(consumer: &str, fields: Option<&[&str]>) -> Declared {
    let fields = fields.map(|fields| fields.iter().map(|field| (*field).to_owned()).collect());
    Declared {
        consumer: consumer.to_owned(),
        group: Some(consumer.to_owned()),
        owner: Some("team-stock".to_owned()),
        fields,
        reader: None,
        source: "catalogue.yaml".to_owned(),
    }
}

fn evidence(proposed: &str) -> Evidence {
    let partition = |partition, runs: Vec<Run>| Partition {
        partition,
        start: 0,
        end: 100,
        scanned_to: 100,
        runs,
    };
    let mut billing = declared("billing", None);
    billing.reader = Some(Reader {
        kind: SchemaType::Avro,
        text: NUMBER_ONLY.to_owned(),
        name: "billing/order.avsc".to_owned(),
    });
    Evidence {
        taken_at: NOON,
        proposed: Proposed {
            subject: "orders-value".to_owned(),
            kind: SchemaType::Avro,
            text: proposed.to_owned(),
            dependencies: Vec::new(),
            file: Some("schemas/order.avsc".to_owned()),
        },
        rule: Rule {
            level: Level::Backward,
            level_from: "the global configuration".to_owned(),
            policy: Policy::Strict,
            policy_from: "the default".to_owned(),
            group: None,
        },
        versions: vec![version(1, 4, FIRST), version(2, 7, SECOND)],
        topics: vec![Topic {
            name: "orders".to_owned(),
            retention_ms: Some(604_800_000),
            is_compacted: false,
            validation: Some("reject".to_owned()),
            partitions: vec![
                partition(0, vec![run(4, 0, 59), run(7, 60, 99)]),
                partition(1, vec![run(7, 0, 99)]),
            ],
            groups: vec![
                group("inventory", &["inventory-1", "inventory-2"], [100, 100]),
                group("audit-export", &["export"], [50, 100]),
                group("billing", &["billing"], [100, 90]),
            ],
        }],
        catalogue: Some(vec![
            declared("inventory", Some(&["number", "card"])),
            billing,
            declared("analytics", Some(&["total_cents"])),
        ]),
        fetches: vec![Fetch {
            id: 7,
            client: "export".to_owned(),
            at: NOON - 30_000,
            count: 2,
        }],
        referrers: vec![Referrer {
            subject: "baskets-value".to_owned(),
            version: 1,
            uses: 1,
        }],
        neighbours: vec!["orders-key".to_owned()],
        missing: Vec::new(),
    }
}

fn of(evidence: &Evidence) -> Report {
    report(evidence, &Limits::default()).unwrap()
}

#[test]
fn a_breaking_change_as_text() {
    assert_snapshot!(text(&of(&evidence(BREAKING))));
}

#[test]
fn a_breaking_change_as_markdown() {
    assert_snapshot!(markdown(&of(&evidence(BREAKING))));
}

#[test]
fn a_breaking_change_as_json_which_reads_back() {
    let report = of(&evidence(BREAKING));
    let json = serde_json::to_string_pretty(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    assert_snapshot!(json);
}

#[test]
fn a_breaking_change_as_sarif() {
    let report = of(&evidence(BREAKING));
    assert_snapshot!(sarif(&findings(&report, BREAKING), &[]));
}

#[test]
fn a_harmless_change_as_text() {
    let report = of(&evidence(GROWN));
    assert!(!report.decision.breaks);
    assert_eq!(report.order.first, First::Any);
    assert_snapshot!(text(&report));
}

#[test]
fn the_same_evidence_gives_the_same_bytes_in_whatever_order_it_comes() {
    let evidence = evidence(BREAKING);
    let mut shuffled = evidence.clone();
    shuffled.topics[0].groups.reverse();
    shuffled.catalogue.as_mut().unwrap().reverse();
    shuffled.neighbours.reverse();
    let json = |evidence| serde_json::to_string(&of(evidence)).unwrap();
    assert_eq!(json(&evidence), json(&shuffled));
    assert_eq!(json(&evidence), json(&evidence));
}

#[test]
fn who_is_in_traffic_and_in_no_catalogue_comes_first() {
    let report = of(&evidence(BREAKING));
    let first = &report.consumers[0];
    assert_eq!(
        (first.name.as_str(), first.is_unlisted),
        ("audit-export", true)
    );
    assert_eq!(
        (first.affected, first.grade),
        (Affected::Yes, Grade::Observed)
    );
    let unread: Vec<_> = first
        .unread
        .iter()
        .map(|it| (it.version, it.records))
        .collect();
    assert_eq!(unread, [(Some(1), 10), (Some(2), 40)]);
    assert!(report.consumers[1..].iter().all(|it| !it.is_unlisted));
}

#[test]
fn what_a_consumer_reads_decides_and_how_it_is_known_is_said() {
    let report = of(&evidence(BREAKING));
    let of = |name: &str| {
        let consumer = report.consumers.iter().find(|it| it.name == name).unwrap();
        (consumer.affected, consumer.grade)
    };
    // It reads only what stays.
    assert_eq!(of("inventory"), (Affected::No, Grade::Declared));
    // Its own schema reads what comes, and what it has yet to read.
    assert_eq!(of("billing"), (Affected::No, Grade::Proved));
    // It reads what goes, and was never seen.
    assert_eq!(of("analytics"), (Affected::Yes, Grade::Declared));
}

#[test]
fn a_consumer_of_which_nothing_is_known_is_never_shown_as_safe() {
    let mut evidence = evidence(BREAKING);
    evidence.topics.clear();
    evidence.catalogue = None;
    evidence.fetches.clear();
    let report = of(&evidence);
    assert_eq!(report.consumers, []);
    assert!(report.gaps.iter().any(|gap| gap.contains("no catalogue")));
    assert!(report.gaps.iter().any(|gap| gap.contains("no topic")));
    assert_eq!(report.transitive.matters, None);
    let safety = report.retained.iter().find(|version| version.version == 2);
    assert_eq!(safety.unwrap().hard_delete.is_safe, Some(false));
}

#[test]
fn a_scan_that_stopped_early_is_said_and_nothing_is_called_safe() {
    let mut evidence = evidence(GROWN);
    evidence.topics[0].partitions[1].scanned_to = 40;
    evidence.versions.insert(0, version(0, 1, FIRST));
    let report = of(&evidence);
    assert!(
        report
            .gaps
            .iter()
            .any(|gap| gap.contains("scanned up to offset 40 of 100"))
    );
    let oldest = report.retained.last().unwrap();
    assert_eq!((oldest.records, oldest.hard_delete.is_safe), (0, None));
    evidence.topics[0].partitions[1].scanned_to = 100;
    let report = of(&evidence);
    assert_eq!(
        report.retained.last().unwrap().hard_delete.is_safe,
        Some(true)
    );
}

#[test]
fn what_is_retained_beyond_the_level_matters_only_if_it_cannot_be_read() {
    // Version 1 has no card, version 2 has one by default; this one demands it.
    let demands = SECOND.replace(", \"default\": \"\"", "");
    let mut evidence = evidence(&demands);
    let report = of(&evidence);
    assert!(!report.decision.is_refused);
    assert_eq!(report.transitive.matters, Some(true));
    assert!(
        report
            .transitive
            .sentence
            .contains("60 records of version 1")
    );
    assert_eq!(report.order.first, First::Producers);
    for partition in &mut evidence.topics[0].partitions {
        partition.runs.retain(|run| run.id != Some(4));
    }
    let report = of(&evidence);
    assert_eq!(report.transitive.matters, Some(false));
    assert_eq!(report.order.first, First::Any);
}

#[test]
fn the_schema_in_between_is_one_that_the_engine_accepts() {
    let report = of(&evidence(BREAKING));
    let step = report
        .steps
        .iter()
        .find(|step| step.schema.is_some())
        .unwrap();
    let generated = step.schema.as_ref().unwrap();
    let mut again = evidence(&generated.text);
    again.rule.level = Level::Full;
    assert!(!of(&again).decision.is_refused, "{}", generated.text);
    assert!(generated.text.contains("\"total\"") && generated.text.contains("\"total_cents\""));
}

#[test]
fn unread_records_are_exact_where_offsets_have_no_gaps() {
    use super::retained::from_offset;
    let whole = run(1, 10, 19);
    assert_eq!(from_offset(&whole, 0), (10, true));
    assert_eq!(from_offset(&whole, 15), (5, true));
    assert_eq!(from_offset(&whole, 20), (0, true));
    let compacted = Run {
        records: 3,
        ..whole
    };
    assert_eq!(from_offset(&compacted, 15), (3, false));
}

#[test]
fn hostile_names_stay_within_their_cells_and_lines() {
    let mut evidence = evidence(BREAKING);
    evidence.topics[0].groups[1].name = "a|b`c\n<script>".to_owned();
    let page = markdown(&of(&evidence));
    // Within a span of code it is text.
    let outside = page.replace("`a\\|b'c'<script>`", "");
    assert!(!outside.contains("<script>"), "{page}");
    let is_row = |line: &&str| line.starts_with("| `a");
    let row = page.lines().find(is_row).unwrap();
    assert_eq!(row.replace("\\|", "").matches('|').count(), 6, "{row}");
}

//! Levels: who reads whom, and which versions are looked at.

use wharf_schema::compat::{Comparison, Direction, Policy, check};
use wharf_schema::model::{Level, SchemaType};
use wharf_schema::{Limits, Parsed};

fn avro(fields: &str) -> Parsed {
    let text = format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
    Parsed::parse(SchemaType::Avro, &text, &[], &Limits::default()).unwrap()
}

const A: &str = r#"{"name":"a","type":"int"}"#;
const B: &str = r#"{"name":"b","type":"int","default":0}"#;
const C: &str = r#"{"name":"c","type":"int"}"#;

fn compared(level: Level, new: &Parsed, older: &[(i32, Parsed)]) -> Vec<Comparison> {
    check(level, Policy::Strict, new, older, &Limits::default()).unwrap()
}

#[test]
fn a_level_says_who_reads_whom_and_which_versions_are_looked_at() {
    use Direction::{Backward, Forward};
    let older = [(1, avro(C)), (4, avro(A))];
    let new = avro(&format!("{A},{B}"));
    for (level, expected) in [
        (Level::None, vec![]),
        (Level::Backward, vec![(4, Backward, true)]),
        (
            Level::BackwardTransitive,
            vec![(4, Backward, true), (1, Backward, false)],
        ),
        (Level::Forward, vec![(4, Forward, true)]),
        (
            Level::ForwardTransitive,
            vec![(4, Forward, true), (1, Forward, false)],
        ),
        (Level::Full, vec![(4, Backward, true), (4, Forward, true)]),
        (
            Level::FullTransitive,
            vec![
                (4, Backward, true),
                (4, Forward, true),
                (1, Backward, false),
                (1, Forward, false),
            ],
        ),
    ] {
        let found = compared(level, &new, &older).into_iter().map(|comparison| {
            let reads = comparison.incompatibilities().next().is_none();
            (comparison.version, comparison.direction, reads)
        });
        assert_eq!(found.collect::<Vec<_>>(), expected, "{level}");
    }
}

#[test]
fn another_kind_of_schema_is_incompatible() {
    let json = Parsed::parse(SchemaType::Json, "{}", &[], &Limits::default()).unwrap();
    let found = compared(Level::Backward, &json, &[(1, avro(A))]);
    assert_eq!(found.len(), 1);
    let differences = &found[0].differences;
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].kind, "SCHEMA_TYPE_CHANGED");
    assert!(!differences[0].is_compatible);
    assert!(compared(Level::None, &json, &[(1, avro(A))]).is_empty());
}

//! What Apache Avro for Java says, recorded: texts, fingerprints, incompatibilities
//! and what a reader makes of a payload.

use serde_json::Value;
use wharf_schema::Limits;
use wharf_schema::avro::Schema;
use wharf_schema::compat::Policy;

use super::bytes_of;

/// Made by `tests/data/RecordAvro.java` with Apache Avro 1.12.1.
const RECORDED: &str = include_str!("../../data/avro-java.jsonl");

fn parse(line: &Value, key: &str) -> Option<Schema> {
    Schema::parse(line[key].as_str().unwrap(), &[], &Limits::default()).ok()
}

#[test]
fn java_says_the_same_of_every_recorded_pair() {
    let mut payloads = 0;
    for line in RECORDED.lines() {
        let java: Value = serde_json::from_str(line).unwrap();
        let pair = (parse(&java, "reader"), parse(&java, "writer"));
        let (Some(reader), Some(writer)) = pair else {
            assert_eq!(java["refused"], true, "{line}");
            continue;
        };
        assert_eq!(java["refused"], Value::Null, "{line}");
        assert_eq!(reader.canonical(), java["canonical"].as_str().unwrap());
        assert_eq!(reader.parsing_form(), java["form"].as_str().unwrap());
        let rabin = reader.rabin_fingerprint().cast_signed().to_string();
        assert_eq!(rabin, java["rabin"].as_str().unwrap(), "{line}");
        let found = reader.reads(&writer, Policy::Strict, &Limits::default());
        let ours = found.unwrap();
        let theirs: Vec<[String; 3]> = serde_json::from_value(java["found"].clone()).unwrap();
        for [kind, path, additional] in &theirs {
            // A type that Java met first while it tried a union's branch keeps its path from there.
            let same = ours.iter().any(|it| {
                it.kind == kind && it.additional == *additional && it.path.ends_with(path.as_str())
            });
            assert!(same, "{kind} {path} {additional}: {line}");
        }
        // Within a type that holds itself Java takes for granted that the type fits; we say of each
        // branch whether it is read.
        let more = ours.iter().filter(|it| it.kind != "MISSING_UNION_BRANCH");
        assert!(more.count() <= theirs.len(), "{line}");
        assert_eq!(ours.is_empty(), theirs.is_empty(), "{line}");
        if let Some(payload) = java["payload"].as_str() {
            let record = reader.read(&writer, &bytes_of(payload)).unwrap();
            let read = bytes_of(java["read"].as_str().unwrap());
            assert_eq!(reader.encode(&record).unwrap(), read, "{line}");
            payloads += 1;
        }
    }
    assert!(payloads > 0, "nothing was read");
}

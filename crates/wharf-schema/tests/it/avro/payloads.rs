//! Payloads: the form of records, what one schema reads of another, and bytes that are hostile.

use serde_json::json;
use wharf_schema::avro::Schema;
use wharf_schema::{Dependency, Limits};

use super::{bytes_of, schema};

#[test]
fn a_unions_value_carries_the_name_of_its_branch() {
    let text = r#"{"type":"record","name":"n.R","fields":[
        {"name":"u","type":["null","int",{"type":"record","name":"I","fields":[]}]},
        {"name":"b","type":"bytes"}]}"#;
    let schema = schema(text);
    for (record, hex) in [
        (json!({"u": null, "b": "\u{0}\u{ff}"}), "000400ff"),
        (json!({"u": {"int": -2}, "b": ""}), "020300"),
        (json!({"u": {"n.I": {}}, "b": ""}), "0400"),
    ] {
        assert_eq!(schema.encode(&record).unwrap(), bytes_of(hex));
        assert_eq!(schema.decode(&bytes_of(hex)).unwrap(), record);
    }
}

#[test]
fn a_record_that_does_not_fit_is_refused_with_its_place() {
    let schema = schema(
        r#"{"type":"record","name":"R","fields":[
        {"name":"a","type":{"type":"array","items":"int"}},
        {"name":"d","type":["null","long"],"default":null}]}"#,
    );
    assert_eq!(schema.encode(&json!({"a": []})).unwrap(), [0, 0]);
    for (record, words) in [
        (json!({"a": [1, "x"]}), "is no int, at /a/1"),
        (
            json!({"a": [2_147_483_648_i64]}),
            "2147483648 is no int, at /a/0",
        ),
        (json!({}), "the field a is missing"),
        (json!({"a": [], "z": 1}), "R has no field z"),
        (
            json!({"a": [], "d": 7}),
            "branch's name as its one key, at /d",
        ),
        (json!({"a": [], "d": {"int": 7}}), "no branch int, at /d"),
        (json!(7), "is no R, at /"),
    ] {
        let what = schema.encode(&record).unwrap_err().what;
        assert!(what.contains(words), "{record}: {what}");
    }
}

#[test]
fn numbers_that_json_lacks_are_words_and_floats_keep_their_digits() {
    let schema = schema(r#"{"type":"array","items":["float","double"]}"#);
    let record =
        json!([{"float": 0.1}, {"float": "NaN"}, {"double": "-Infinity"}, {"double": 0.1}]);
    let payload = schema.encode(&record).unwrap();
    assert_eq!(schema.decode(&payload).unwrap(), record);
}

#[test]
fn a_reader_gets_defaults_promotions_aliases_and_its_own_order() {
    let writer = schema(
        r#"{"type":"record","name":"R","fields":[
        {"name":"gone","type":{"type":"map","values":"bytes"}},
        {"name":"old","type":"int"},
        {"name":"s","type":"bytes"},
        {"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}}]}"#,
    );
    let reader = schema(
        r#"{"type":"record","name":"R","fields":[
        {"name":"e","type":["null",{"type":"enum","name":"E","symbols":["U","A"],"default":"U"}]},
        {"name":"new","aliases":["old"],"type":["string","double"]},
        {"name":"s","type":"string"},
        {"name":"d","type":["null","long"],"default":5}]}"#,
    );
    let record = json!({"gone": {"k": "v"}, "old": 3, "s": "text", "e": "B"});
    let payload = writer.encode(&record).unwrap();
    let read = json!({"e": {"E": "U"}, "new": {"double": 3.0}, "s": "text", "d": {"long": 5}});
    assert_eq!(reader.read(&writer, &payload).unwrap(), read);
}

#[test]
fn payloads_that_announce_more_than_they_hold_are_refused_at_once() {
    let nulls = schema(r#"{"type":"array","items":"null"}"#);
    let huge = bytes_of("feffffffffffffffff01");
    assert!(nulls.decode(&huge).unwrap_err().what.contains("far more"));
    let empty = schema(r#"{"type":"array","items":{"type":"record","name":"E","fields":[]}}"#);
    assert!(empty.decode(&huge).unwrap_err().what.contains("far more"));
    let string = schema("\"string\"");
    assert!(string.decode(&huge).unwrap_err().what.contains("are left"));
    assert!(
        string
            .decode(&[1])
            .unwrap_err()
            .what
            .contains("a length is -1")
    );
    assert!(
        string
            .decode(&[0, 0])
            .unwrap_err()
            .what
            .contains("left over")
    );
    assert!(
        string
            .decode(&[])
            .unwrap_err()
            .what
            .contains("ends too early")
    );
    assert!(
        string
            .decode(&[2, 0xff])
            .unwrap_err()
            .what
            .contains("not UTF-8")
    );
}

#[test]
fn defaults_cannot_be_multiplied_without_end() {
    let default = "x".repeat(1 << 16);
    let reader = schema(&format!(
        r#"{{"type":"array","items":{{"type":"record","name":"E","fields":[
            {{"name":"d","type":"string","default":"{default}"}}]}}}}"#
    ));
    let writer = schema(r#"{"type":"array","items":{"type":"record","name":"E","fields":[]}}"#);
    // A block of 100,000 records without a byte.
    let payload = bytes_of("c09a0c00");
    assert!(writer.decode(&payload).is_ok());
    let error = reader.read(&writer, &payload).unwrap_err();
    assert!(error.what.contains("far more"), "{error}");
}

#[test]
fn a_payload_of_a_recursive_type_is_read_to_a_depth_and_not_beyond() {
    let list =
        schema(r#"{"type":"record","name":"L","fields":[{"name":"n","type":["null","L"]}]}"#);
    let chain = |length: usize| [vec![2; length], vec![0]].concat();
    let record = list.decode(&chain(160)).unwrap();
    assert_eq!(list.encode(&record).unwrap(), chain(160));
    assert_eq!(list.read(&list, &chain(160)).unwrap(), record);
    for error in [
        list.decode(&chain(100_000)),
        list.read(&list, &chain(100_000)),
    ] {
        let error = error.unwrap_err();
        assert!(error.what.contains("nested deeper"), "{error}");
    }
}

#[test]
fn types_of_references_are_read_and_written() {
    let item = Dependency {
        name: "shop.Item".to_owned(),
        text: r#"{"type":"record","name":"shop.Item","fields":[{"name":"sku","type":"string"}]}"#
            .to_owned(),
    };
    let text = r#"{"type":"record","name":"shop.Order","fields":[{"name":"item","type":"Item"}]}"#;
    let order = Schema::parse(text, &[item], &Limits::default()).unwrap();
    let record = json!({"item": {"sku": "a"}});
    assert_eq!(
        order.decode(&order.encode(&record).unwrap()).unwrap(),
        record
    );
}

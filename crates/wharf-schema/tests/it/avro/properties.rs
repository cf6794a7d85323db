//! What must hold for any schema, any change of it and any record.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use wharf_schema::Limits;
use wharf_schema::avro::Schema;
use wharf_schema::compat::{Difference, Outcome, Policy};

use super::bytes_of;
use super::generate::{self, Dice};

/// How many records of a compatible writer are read.
const RECORDS: usize = 8;

fn parse(text: &Value) -> Option<Schema> {
    Schema::parse(&text.to_string(), &[], &Limits::default()).ok()
}

fn differences(reader: &Schema, writer: &Schema) -> Vec<Difference> {
    reader
        .reads(writer, Policy::Strict, &Limits::default())
        .unwrap()
}

/// Every witness fails, and a compatible writer's records are all read.
fn check_pair(reader: &Schema, writer: &Schema, text: &Value, dice: &mut Dice<'_>) {
    let found = differences(reader, writer);
    for difference in &found {
        let witness = difference.witness.as_ref();
        let witness = witness.unwrap_or_else(|| panic!("no witness of {difference:?}"));
        let payload = writer.encode(&witness.record).unwrap();
        assert_eq!(bytes_of(&witness.payload), payload);
        let failure = reader.read(writer, &payload).unwrap_err();
        assert_eq!(witness.outcome, Outcome::Unreadable(failure.what));
    }
    if found.is_empty() {
        for _ in 0..RECORDS {
            let record = generate::record(text, dice);
            let payload = writer.encode(&record).unwrap();
            reader.read(writer, &payload).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_compatible_reader_reads_every_record_and_each_difference_has_a_witness_that_fails(
        choices in vec(any::<u8>(), 0..120),
        changes in vec(any::<u8>(), 0..24),
        records in vec(any::<u8>(), 200),
    ) {
        let old = generate::schema(&mut Dice(&choices));
        let new = generate::change(&old, &mut Dice(&changes));
        let (Some(old_schema), Some(new_schema)) = (parse(&old), parse(&new)) else {
            return Ok(());
        };
        if !generate::is_inhabited(&new) {
            return Ok(());
        }
        let dice = &mut Dice(&records);
        check_pair(&new_schema, &old_schema, &old, dice);
        check_pair(&old_schema, &new_schema, &new, dice);
    }

    #[test]
    fn a_record_comes_back_from_its_payload(
        choices in vec(any::<u8>(), 0..120),
        records in vec(any::<u8>(), 60),
    ) {
        let text = generate::schema(&mut Dice(&choices));
        let schema = parse(&text).unwrap();
        let record = generate::record(&text, &mut Dice(&records));
        let payload = schema.encode(&record).unwrap();
        prop_assert_eq!(&schema.decode(&payload).unwrap(), &record);
        prop_assert_eq!(&schema.read(&schema, &payload).unwrap(), &record);
    }

    #[test]
    fn a_canonical_text_is_its_own_canonical_text_and_reads_the_same(
        choices in vec(any::<u8>(), 0..120),
    ) {
        let schema = parse(&generate::schema(&mut Dice(&choices))).unwrap();
        let again = Schema::parse(&schema.canonical(), &[], &Limits::default()).unwrap();
        prop_assert_eq!(again.canonical(), schema.canonical());
        prop_assert_eq!(again.parsing_form(), schema.parsing_form());
        prop_assert!(differences(&schema, &again).is_empty());
        let normalized = Schema::parse(&schema.normalized(), &[], &Limits::default()).unwrap();
        prop_assert_eq!(normalized.normalized(), schema.normalized());
        prop_assert_eq!(normalized.parsing_form(), schema.parsing_form());
    }

    #[test]
    fn any_bytes_are_a_payload_or_an_error(
        choices in vec(any::<u8>(), 0..120),
        changes in vec(any::<u8>(), 0..24),
        payload in vec(any::<u8>(), 0..60),
    ) {
        let text = generate::schema(&mut Dice(&choices));
        let schema = parse(&text).unwrap();
        if let Ok(record) = schema.decode(&payload) {
            schema.encode(&record).unwrap();
        }
        if let Some(reader) = parse(&generate::change(&text, &mut Dice(&changes))) {
            let _either = reader.read(&schema, &payload);
        }
    }
}

/// The crate apache-avro, where it takes the schema: what it reads and writes.
fn crates_bytes(schema: &Value, payload: &[u8]) -> Option<Vec<u8>> {
    let schema = apache_avro::Schema::parse_str(&schema.to_string()).ok()?;
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let value = reader.read_value(&mut &*payload).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    Some(writer.write_value_to_vec(value).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_crate_apache_avro_reads_what_we_write_and_writes_the_same(
        choices in vec(any::<u8>(), 0..120),
        records in vec(any::<u8>(), 60),
    ) {
        let text = generate::schema(&mut Dice(&choices));
        let record = generate::record(&text, &mut Dice(&records));
        let payload = parse(&text).unwrap().encode(&record).unwrap();
        if let Some(bytes) = crates_bytes(&text, &payload) {
            prop_assert_eq!(bytes, payload, "{} {}", text, record);
        }
    }
}

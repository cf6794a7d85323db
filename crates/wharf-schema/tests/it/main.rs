//! The crate from outside.
#![expect(clippy::unwrap_used, reason = "test binary")]

mod avro;
mod levels;
mod protobuf;

#[test]
fn every_level_is_read_as_it_is_written() {
    for level in wharf_schema::model::Level::ALL {
        assert_eq!(level.as_str().parse(), Ok(level));
    }
}

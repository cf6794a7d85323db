//! Files that every schema may import without a reference: `google/protobuf`, `google/type`, and
//! Confluent's own two.
//!
//! Names, numbers and types are those that everybody has; a schema that brings a file of the same
//! name among its references gets its own.

use std::collections::HashMap;
use std::sync::OnceLock;

use prost_reflect::DescriptorPool;
use prost_reflect::prost_types::FileDescriptorProto;

/// A well-known file by its import path.
pub(super) fn file(path: &str) -> Option<FileDescriptorProto> {
    static PARSED: OnceLock<HashMap<&'static str, FileDescriptorProto>> = OnceLock::new();
    if let Some(file) = PARSED.get_or_init(parsed).get(path) {
        return Some(file.clone());
    }
    let pool = DescriptorPool::global();
    let file = pool.get_file_by_name(path)?;
    path.starts_with("google/protobuf/")
        .then(|| FileDescriptorProto {
            source_code_info: None,
            ..file.file_descriptor_proto().clone()
        })
}

/// Whether a path is one of these.
pub(super) fn is_known(path: &str) -> bool {
    TEXTS.iter().any(|(name, _)| *name == path)
        || path.starts_with("google/protobuf/")
            && DescriptorPool::global().get_file_by_name(path).is_some()
}

fn parsed() -> HashMap<&'static str, FileDescriptorProto> {
    let each = TEXTS.iter().filter_map(|(name, text)| {
        let mut file: FileDescriptorProto =
            protox::file::File::from_source(name, text).ok()?.into();
        file.source_code_info = None;
        Some((*name, file))
    });
    each.collect()
}

const TEXTS: [(&str, &str); 19] = [
    (
        "confluent/meta.proto",
        r#"syntax = "proto3"; package confluent;
        import "google/protobuf/descriptor.proto";
        option go_package = "../confluent"; option java_package = "io.confluent.protobuf"; option java_outer_classname = "MetaProto";
        message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; }
        extend google.protobuf.FileOptions { Meta file_meta = 1088; }
        extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
        extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
        extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
        extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }"#,
    ),
    (
        "confluent/type/decimal.proto",
        r#"syntax = "proto3"; package confluent.type;
        message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }"#,
    ),
    (
        "google/type/calendar_period.proto",
        r#"syntax = "proto3"; package google.type;
        enum CalendarPeriod { CALENDAR_PERIOD_UNSPECIFIED = 0; DAY = 1; WEEK = 2; FORTNIGHT = 3; MONTH = 4; QUARTER = 5; HALF = 6; YEAR = 7; }"#,
    ),
    (
        "google/type/color.proto",
        r#"syntax = "proto3"; package google.type; import "google/protobuf/wrappers.proto";
        message Color { float red = 1; float green = 2; float blue = 3; google.protobuf.FloatValue alpha = 4; }"#,
    ),
    (
        "google/type/date.proto",
        r#"syntax = "proto3"; package google.type;
        message Date { int32 year = 1; int32 month = 2; int32 day = 3; }"#,
    ),
    (
        "google/type/datetime.proto",
        r#"syntax = "proto3"; package google.type; import "google/protobuf/duration.proto";
        message DateTime { int32 year = 1; int32 month = 2; int32 day = 3; int32 hours = 4; int32 minutes = 5; int32 seconds = 6; int32 nanos = 7;
          oneof time_offset { google.protobuf.Duration utc_offset = 8; TimeZone time_zone = 9; } }
        message TimeZone { string id = 1; string version = 2; }"#,
    ),
    (
        "google/type/dayofweek.proto",
        r#"syntax = "proto3"; package google.type;
        enum DayOfWeek { DAY_OF_WEEK_UNSPECIFIED = 0; MONDAY = 1; TUESDAY = 2; WEDNESDAY = 3; THURSDAY = 4; FRIDAY = 5; SATURDAY = 6; SUNDAY = 7; }"#,
    ),
    (
        "google/type/decimal.proto",
        r#"syntax = "proto3"; package google.type; message Decimal { string value = 1; }"#,
    ),
    (
        "google/type/expr.proto",
        r#"syntax = "proto3"; package google.type;
        message Expr { string expression = 1; string title = 2; string description = 3; string location = 4; }"#,
    ),
    (
        "google/type/fraction.proto",
        r#"syntax = "proto3"; package google.type; message Fraction { int64 numerator = 1; int64 denominator = 2; }"#,
    ),
    (
        "google/type/interval.proto",
        r#"syntax = "proto3"; package google.type; import "google/protobuf/timestamp.proto";
        message Interval { google.protobuf.Timestamp start_time = 1; google.protobuf.Timestamp end_time = 2; }"#,
    ),
    (
        "google/type/latlng.proto",
        r#"syntax = "proto3"; package google.type; message LatLng { double latitude = 1; double longitude = 2; }"#,
    ),
    (
        "google/type/localized_text.proto",
        r#"syntax = "proto3"; package google.type; message LocalizedText { string text = 1; string language_code = 2; }"#,
    ),
    (
        "google/type/money.proto",
        r#"syntax = "proto3"; package google.type; message Money { string currency_code = 1; int64 units = 2; int32 nanos = 3; }"#,
    ),
    (
        "google/type/month.proto",
        r#"syntax = "proto3"; package google.type;
        enum Month { MONTH_UNSPECIFIED = 0; JANUARY = 1; FEBRUARY = 2; MARCH = 3; APRIL = 4; MAY = 5; JUNE = 6; JULY = 7; AUGUST = 8; SEPTEMBER = 9; OCTOBER = 10; NOVEMBER = 11; DECEMBER = 12; }"#,
    ),
    (
        "google/type/phone_number.proto",
        r#"syntax = "proto3"; package google.type;
        message PhoneNumber { message ShortCode { string region_code = 1; string number = 2; }
          oneof kind { string e164_number = 1; ShortCode short_code = 2; } string extension = 3; }"#,
    ),
    (
        "google/type/postal_address.proto",
        r#"syntax = "proto3"; package google.type;
        message PostalAddress { int32 revision = 1; string region_code = 2; string language_code = 3; string postal_code = 4; string sorting_code = 5;
          string administrative_area = 6; string locality = 7; string sublocality = 8; repeated string address_lines = 9; repeated string recipients = 10; string organization = 11; }"#,
    ),
    (
        "google/type/quaternion.proto",
        r#"syntax = "proto3"; package google.type; message Quaternion { double x = 1; double y = 2; double z = 3; double w = 4; }"#,
    ),
    (
        "google/type/timeofday.proto",
        r#"syntax = "proto3"; package google.type; message TimeOfDay { int32 hours = 1; int32 minutes = 2; int32 seconds = 3; int32 nanos = 4; }"#,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, protobuf::Schema};

    #[test]
    fn every_well_known_file_can_be_imported() {
        let google = [
            "any",
            "duration",
            "empty",
            "field_mask",
            "struct",
            "timestamp",
            "wrappers",
        ];
        let google = google.map(|name| format!("google/protobuf/{name}.proto"));
        for path in TEXTS
            .iter()
            .map(|(path, _)| (*path).to_owned())
            .chain(google)
        {
            assert!(is_known(&path));
            let text = format!("syntax = \"proto3\"; import \"{path}\"; message A {{}}");
            Schema::parse(&text, &[], &Limits::default()).expect(&path);
        }
        assert!(!is_known("google/type/dates.proto"));
    }
}

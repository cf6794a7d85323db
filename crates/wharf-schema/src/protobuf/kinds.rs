//! The kinds of difference: Confluent's, and those of our own that warn of what its verdict allows.
//!
//! Ours are always compatible: they are read by people and change no verdict.

use crate::compat::Difference;

/// What a difference is, from the older (the writer's) schema to the newer (the reader's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    non_camel_case_types,
    reason = "the names are the vocabulary that clients know"
)]
pub(super) enum DifferenceKind {
    PACKAGE_CHANGED,
    MESSAGE_ADDED,
    MESSAGE_REMOVED,
    MESSAGE_MOVED,
    ENUM_ADDED,
    ENUM_REMOVED,
    ENUM_CONST_ADDED,
    ENUM_CONST_CHANGED,
    ENUM_CONST_REMOVED,
    FIELD_ADDED,
    FIELD_REMOVED,
    FIELD_NAME_CHANGED,
    FIELD_KIND_CHANGED,
    FIELD_SCALAR_KIND_CHANGED,
    FIELD_NAMED_TYPE_CHANGED,
    FIELD_NUMERIC_LABEL_CHANGED,
    FIELD_STRING_OR_BYTES_LABEL_CHANGED,
    REQUIRED_FIELD_ADDED,
    REQUIRED_FIELD_REMOVED,
    ONEOF_ADDED,
    ONEOF_REMOVED,
    ONEOF_FIELD_ADDED,
    ONEOF_FIELD_REMOVED,
    ONEOF_FIELD_MOVED_TO_TOP_LEVEL,
    MULTIPLE_FIELDS_MOVED_TO_ONEOF,
    FIELD_MOVED_TO_EXISTING_ONEOF,
    // Ours.
    FIELD_NUMBER_REUSED,
    FIELD_NUMBER_WAS_RESERVED,
    FIELD_NUMBER_NOT_RESERVED,
    FIELD_JSON_NAME_CHANGED,
    FIELD_SCALAR_TYPE_CHANGED,
    FIELD_CARDINALITY_CHANGED,
    FIELD_REQUIRED_CHANGED,
    ENUM_CONST_NUMBER_CHANGED,
}

use DifferenceKind as Kind;

impl Kind {
    /// Its name and whether readers still read.
    fn name(self) -> (&'static str, bool) {
        macro_rules! names {
            ($($kind:ident $is_compatible:literal),+ $(,)?) => {
                match self { $(Kind::$kind => (stringify!($kind), $is_compatible),)+ }
            };
        }
        names!(
            PACKAGE_CHANGED false,
            MESSAGE_ADDED true,
            MESSAGE_REMOVED false,
            MESSAGE_MOVED true,
            ENUM_ADDED true,
            ENUM_REMOVED true,
            ENUM_CONST_ADDED true,
            ENUM_CONST_CHANGED true,
            ENUM_CONST_REMOVED true,
            FIELD_ADDED true,
            FIELD_REMOVED true,
            FIELD_NAME_CHANGED true,
            FIELD_KIND_CHANGED false,
            FIELD_SCALAR_KIND_CHANGED false,
            FIELD_NAMED_TYPE_CHANGED false,
            FIELD_NUMERIC_LABEL_CHANGED false,
            FIELD_STRING_OR_BYTES_LABEL_CHANGED true,
            REQUIRED_FIELD_ADDED false,
            REQUIRED_FIELD_REMOVED false,
            ONEOF_ADDED true,
            ONEOF_REMOVED true,
            ONEOF_FIELD_ADDED true,
            ONEOF_FIELD_REMOVED false,
            ONEOF_FIELD_MOVED_TO_TOP_LEVEL true,
            MULTIPLE_FIELDS_MOVED_TO_ONEOF false,
            FIELD_MOVED_TO_EXISTING_ONEOF false,
            FIELD_NUMBER_REUSED true,
            FIELD_NUMBER_WAS_RESERVED true,
            FIELD_NUMBER_NOT_RESERVED true,
            FIELD_JSON_NAME_CHANGED true,
            FIELD_SCALAR_TYPE_CHANGED true,
            FIELD_CARDINALITY_CHANGED true,
            FIELD_REQUIRED_CHANGED true,
            ENUM_CONST_NUMBER_CHANGED true,
        )
    }

    /// Whether readers still read.
    pub(super) fn is_compatible(self) -> bool {
        self.name().1
    }

    /// The difference at a place: Confluent's path, such as `#/Order/3`, and the dotted name of the
    /// type and field. `detail` says what was and what is, where there is more to say.
    pub(super) fn at(self, place: &str, path: String, detail: &str) -> Difference {
        let (kind, is_compatible) = self.name();
        Difference {
            kind,
            is_compatible,
            path,
            message: self.sentence(place, detail),
            additional: String::new(),
            witness: None,
        }
    }

    /// Confluent has a sentence for each incompatible kind; it is what its clients show.
    fn sentence(self, at: &str, detail: &str) -> String {
        match self {
            Kind::PACKAGE_CHANGED => format!(
                "The package at '{at}' in the {{new}} schema does not match the package in the {{old}} schema"
            ),
            Kind::MESSAGE_REMOVED => format!(
                "The {{new}} schema is missing a MESSAGE type at path '{at}' in the {{old}} schema"
            ),
            Kind::FIELD_KIND_CHANGED => format!(
                "The type of a field at path '{at}' in the {{new}} schema does not match the {{old}} schema"
            ),
            Kind::FIELD_SCALAR_KIND_CHANGED => format!(
                "The kind of a SCALAR field at path '{at}' in the {{new}} schema does not match its kind in the {{old}} schema"
            ),
            Kind::FIELD_NAMED_TYPE_CHANGED => format!(
                "The type of a MESSAGE field at path '{at}' in the {{new}} schema does not match its type in the {{old}} schema"
            ),
            Kind::FIELD_NUMERIC_LABEL_CHANGED => format!(
                "The label for a NUMERIC field at path '{at}' in the {{new}} schema does not match its label in the {{old}} schema"
            ),
            Kind::REQUIRED_FIELD_ADDED => format!(
                "A required field  at path '{at}' in the {{new}} schema is missing in the {{old}} schema"
            ),
            Kind::REQUIRED_FIELD_REMOVED => format!(
                "The {{new}} schema is missing a required field at path: '{at}' in the {{old}} schema"
            ),
            Kind::ONEOF_FIELD_REMOVED => format!(
                "The {{new}} schema is missing a oneof field at path '{at}' in the {{old}} schema"
            ),
            Kind::MULTIPLE_FIELDS_MOVED_TO_ONEOF => format!(
                "Multiple fields in the oneof at path '{at}' in the {{new}} schema are outside a oneof in the {{old}} schema"
            ),
            Kind::FIELD_MOVED_TO_EXISTING_ONEOF => format!(
                "A field in the oneof at path '{at}' in the {{new}} schema is outside an existing oneof in the {{old}} schema"
            ),
            _ => self.remark(at, detail),
        }
    }

    /// What is compatible has no sentence at Confluent's; these are ours.
    fn remark(self, at: &str, detail: &str) -> String {
        let only_new =
            |what: &str| format!("The {what} at path '{at}' is in the {{new}} schema only");
        let only_old =
            |what: &str| format!("The {what} at path '{at}' is in the {{old}} schema only");
        match self {
            Kind::MESSAGE_ADDED => only_new("message"),
            Kind::ENUM_ADDED => only_new("enum"),
            Kind::ENUM_CONST_ADDED => only_new("enum value"),
            Kind::FIELD_ADDED => only_new("field"),
            Kind::ONEOF_ADDED => only_new("oneof"),
            Kind::ONEOF_FIELD_ADDED => only_new("oneof field"),
            Kind::ENUM_REMOVED => only_old("enum"),
            Kind::ENUM_CONST_REMOVED => only_old("enum value"),
            Kind::FIELD_REMOVED => only_old("field"),
            Kind::ONEOF_REMOVED => only_old("oneof"),
            Kind::MESSAGE_MOVED => format!("The message at path '{at}' stands at another position"),
            Kind::ONEOF_FIELD_MOVED_TO_TOP_LEVEL => {
                format!("The field at path '{at}' has left its oneof in the {{new}} schema")
            }
            Kind::FIELD_NUMBER_REUSED => format!(
                "The number at path '{at}' means another field in the {{new}} schema: {detail}; what the {{old}} schema wrote is read as that field"
            ),
            Kind::FIELD_NUMBER_WAS_RESERVED => format!(
                "The field at path '{at}' takes a number or name that the {{old}} schema reserves: {detail}"
            ),
            Kind::FIELD_NUMBER_NOT_RESERVED => format!(
                "The field at path '{at}' is gone and the {{new}} schema does not reserve its number: {detail}"
            ),
            Kind::FIELD_JSON_NAME_CHANGED => format!(
                "The JSON name of the field at path '{at}' is not the same: {detail}; readers and writers of JSON break"
            ),
            Kind::FIELD_SCALAR_TYPE_CHANGED => format!(
                "The type of the field at path '{at}' is another one of the same wire form: {detail}; some values are read as others"
            ),
            Kind::FIELD_CARDINALITY_CHANGED => format!(
                "The field at path '{at}' is repeated on one side only: {detail}; values can be lost or unreadable"
            ),
            Kind::FIELD_REQUIRED_CHANGED => format!(
                "The field at path '{at}' is required on one side only: {detail}; a message without it cannot be read there"
            ),
            Kind::ENUM_CONST_NUMBER_CHANGED => format!(
                "The enum value at path '{at}' has another number: {detail}; what one side writes the other takes for another value"
            ),
            _ => format!("The name at path '{at}' is not the same: {detail}"),
        }
    }
}

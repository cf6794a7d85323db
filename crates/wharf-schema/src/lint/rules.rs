//! The list of rules: ids, severities, what they say and why. The page is made from it.

use crate::findings::Severity;
use crate::model::SchemaType;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its id, which stays.
    pub id: &'static str,
    /// The kind of schema it is for.
    pub kind: SchemaType,
    /// How bad it is.
    pub severity: Severity,
    /// What it finds.
    pub summary: &'static str,
    /// Why that hurts.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
}

macro_rules! rules {
    ($($id:literal $kind:ident $severity:ident: $summary:literal; $why:literal; $fix:literal)*) => {
        /// Every rule, by kind and id.
        pub const RULES: &[Rule] = &[$(Rule {
            id: $id,
            kind: SchemaType::$kind,
            severity: Severity::$severity,
            summary: $summary,
            why: $why,
            fix: $fix,
        }),*];
    };
}

rules! {
    "avro-enum-default" Avro Warning:
        "an enum without a default";
        "A reader that meets a symbol it does not know fails, unless its enum has a default; so the enum can never grow while old readers run.";
        "Add `\"default\": \"UNKNOWN\"` and the symbol `UNKNOWN`, before the first record is written."
    "avro-field-default" Avro Note:
        "a field without a default";
        "It cannot be removed later under FORWARD or FULL: readers that still expect it fail on records without it.";
        "Give it a default where one makes sense; leave it where the field is what the record is about."
    "avro-field-doc" Avro Note:
        "a field without `doc`";
        "The schema is all that another team sees of the field; units and meaning are guessed.";
        "Say in `doc` what it is, its unit and who sets it."
    "avro-namespace" Avro Warning:
        "a record without a namespace";
        "Its full name is its name alone, and two services that choose the same one cannot refer to both.";
        "Add `\"namespace\"`; a later change of it is an incompatible change of the name, unless the old full name becomes an alias."
    "avro-null-first" Avro Warning:
        "a union in which `null` is not first, on a field without a default";
        "A default must be of the first branch, so the field cannot have the default `null` and cannot be left out by writers.";
        "Write `[\"null\", …]` with `\"default\": null`."
    "avro-record-doc" Avro Note:
        "a record without `doc`";
        "Nobody can tell from the registry when such a record is written.";
        "Say in `doc` what happened when it is written."
    "avro-time-as-long" Avro Note:
        "a `long` that is named like a time, without a logical type";
        "Readers guess between seconds, milliseconds and microseconds.";
        "Add `\"logicalType\": \"timestamp-millis\"`; readers resolve it as the same `long`."
    "json-dialect" Json Warning:
        "no `$schema`";
        "Keywords mean different things in different drafts, and each validator chooses its own default.";
        "Name the draft in `$schema`."
    "json-open-content" Json Warning:
        "an object with properties whose content is open";
        "Old writers may have written any value under the name of a property that is added later, so under BACKWARD the registry refuses every new property (unless its policy is LENIENT).";
        "Add `\"additionalProperties\": false`, so that optional properties can be added."
    "json-required-undeclared" Json Warning:
        "`required` names a property that `properties` does not have";
        "Most often a slip of the pen; the property may then have any value.";
        "Declare the property, or take its name out of `required`."
    "json-title" Json Note:
        "an outermost schema without `title`";
        "Subjects that are named after the record take the name from `title`.";
        "Add `title`, and leave it as it is from then on."
    "json-untyped" Json Warning:
        "a property that allows every value";
        "Nothing is checked there, and every later restriction is an incompatible change.";
        "Give it a `type`, an `enum`, a `const` or a `$ref`."
    "protobuf-enum-zero" Protobuf Warning:
        "an enum whose value 0 is not `…_UNSPECIFIED`";
        "A value that is not set reads as the value 0, and so does an unknown one in many languages; then it looks like a choice that somebody made.";
        "Name the value 0 after the enum, with `_UNSPECIFIED` at the end."
    "protobuf-field-name" Protobuf Note:
        "a field whose name is not in lower_snake_case";
        "The JSON name and the names in generated code are derived from it, and differ between languages otherwise.";
        "Rename it before the first use; the name is not on the wire, but it is in JSON."
    "protobuf-package" Protobuf Warning:
        "no package";
        "Names of messages collide in one process, and a package added later is an incompatible change.";
        "Add `package`, with a version at its end."
    "protobuf-removed-not-reserved" Protobuf Error:
        "a field was removed and its number or its name not reserved (compares with the version before)";
        "Whoever uses the number again makes old records read as something else, without an error.";
        "Add `reserved 3; reserved \"name\";` with the number and the name of the field."
    "protobuf-required" Protobuf Error:
        "a required field";
        "It can never be removed, nor left out: a reader that expects it fails on every record without it, for ever.";
        "Use `optional`, and check its presence where it is needed."
    "protobuf-syntax" Protobuf Warning:
        "no `syntax` and no `edition`";
        "The file is then proto2, which is seldom meant.";
        "Begin with `syntax = \"proto3\";`."
}

/// The page of all rules.
pub fn markdown() -> String {
    let mut page = "# Rules of `wharf schema lint`\n\n\
        This page is made from the rules themselves; a test compares them.\n\
        Errors and warnings end the command with 1, notes do not.\n\
        `--rule ID` looks at that rule alone, `--allow ID` leaves one out; both may be given often.\n"
        .to_owned();
    for kind in SchemaType::ALL {
        let name = match kind {
            SchemaType::Avro => "Avro",
            SchemaType::Json => "JSON Schema",
            SchemaType::Protobuf => "Protobuf",
        };
        page.push_str(&format!("\n## {name}\n"));
        for rule in RULES.iter().filter(|rule| rule.kind == kind) {
            let Rule {
                id,
                severity,
                summary,
                why,
                fix,
                ..
            } = rule;
            page.push_str(&format!(
                "\n### {id}\n\nSeverity: {}.\nFinds {summary}.\n\n{why}\n\n{fix}\n",
                severity.as_str()
            ));
        }
    }
    page
}

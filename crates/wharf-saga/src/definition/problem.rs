//! What is wrong with a definition, in a form that people and pipelines can act on.
//!
//! A code is stable: it may be matched on, and a code that was given out is never used for
//! something else. Sentences may be worded anew.

use std::fmt;

use serde::Serialize;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// The definition runs, and may do what nobody wants.
    Warning,
    /// The definition is refused.
    Error,
}

impl Severity {
    /// `note`, `warning` or `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What kind of problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(&'static str);

macro_rules! codes {
    ($($name:ident, $severity:ident, $aws:literal, $meaning:literal;)*) => {
        impl Code {
            $(#[doc = $meaning] pub const $name: Self = Self(stringify!($name));)*
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// How bad it is.
            pub fn severity(self) -> Severity {
                match self.0 {
                    $(stringify!($name) => Severity::$severity,)*
                    _ => Severity::Error,
                }
            }

            /// The code of the Step Functions API for it.
            pub fn aws(self) -> &'static str {
                match self.0 {
                    $(stringify!($name) => $aws,)*
                    _ => "SCHEMA_VALIDATION_FAILED",
                }
            }

            /// What it means, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self.0 {
                    $(stringify!($name) => $meaning,)*
                    _ => "",
                }
            }
        }
    };
}

codes! {
    EMPTY_TEXT, Error, "MISSING_DESCRIPTION", "There is nothing in the text.";
    TEXT_TOO_LARGE, Error, "SCHEMA_VALIDATION_FAILED", "The text is longer than a definition may be.";
    UNREADABLE_TEXT, Error, "INVALID_JSON_DESCRIPTION", "The text is neither JSON nor YAML.";
    TOO_DEEP, Error, "SCHEMA_VALIDATION_FAILED", "Values are nested deeper than a definition may be.";
    TOO_MANY_VALUES, Error, "SCHEMA_VALIDATION_FAILED", "There are more values than a definition may have, aliases of YAML written out.";
    TOO_MANY_STATES, Error, "SCHEMA_VALIDATION_FAILED", "There are more states than a definition may have.";
    DUPLICATE_KEY, Error, "INVALID_JSON_DESCRIPTION", "An object has the same key twice; readers differ in which one they take.";
    NOT_JSON, Error, "INVALID_JSON_DESCRIPTION", "YAML says something that JSON cannot: a tag, a key that is no text, a number without a value.";
    WRONG_TYPE, Error, "SCHEMA_VALIDATION_FAILED", "A field has a value of another type than it takes.";
    MISSING_FIELD, Error, "SCHEMA_VALIDATION_FAILED", "A field that must be there is not.";
    UNKNOWN_FIELD, Error, "SCHEMA_VALIDATION_FAILED", "The language has no such field.";
    FIELD_NOT_HERE, Error, "SCHEMA_VALIDATION_FAILED", "The language has the field, and not at this place.";
    FIELD_OF_OTHER_LANGUAGE, Error, "SCHEMA_VALIDATION_FAILED", "The field belongs to the other query language than the state's.";
    CONFLICTING_FIELDS, Error, "SCHEMA_VALIDATION_FAILED", "Two fields are there of which there may be one.";
    UNKNOWN_VALUE, Error, "SCHEMA_VALIDATION_FAILED", "A field takes one of a few words, and this is none of them.";
    OUT_OF_RANGE, Error, "SCHEMA_VALIDATION_FAILED", "A number is below or above what the field takes.";
    EMPTY_LIST, Error, "SCHEMA_VALIDATION_FAILED", "A list or an object is empty that must have something in it.";
    UNSUPPORTED, Error, "SCHEMA_VALIDATION_FAILED", "The field is of the language, and Wharf does not run it.";
    MIXED_LANGUAGES, Error, "SCHEMA_VALIDATION_FAILED", "A machine of JSONata has a state of JSONPath.";
    INVALID_STATE_NAME, Error, "INVALID_STATE_NAME", "The name of a state is empty, too long or has control characters.";
    DUPLICATE_STATE_NAME, Error, "DUPLICATE_STATE_NAME", "Two states of one machine have the same name.";
    MISSING_TRANSITION_TARGET, Error, "MISSING_TRANSITION_TARGET", "A state that is gone on to does not exist in the same flow.";
    UNREACHABLE_STATE, Error, "MISSING_TRANSITION_TARGET", "No way leads to a state.";
    MISSING_END_STATE, Error, "MISSING_END_STATE", "No way through a flow ends.";
    STATES_ALL_NOT_ALONE, Error, "SCHEMA_VALIDATION_FAILED", "States.ALL stands beside other errors.";
    STATES_ALL_NOT_LAST, Error, "SCHEMA_VALIDATION_FAILED", "What follows States.ALL is never looked at.";
    INVALID_RESOURCE, Error, "INVALID_RESOURCE", "A resource is empty or is not one.";
    INVALID_PATH, Error, "SCHEMA_VALIDATION_FAILED", "A path of JSONPath cannot be read.";
    INVALID_TEMPLATE, Error, "SCHEMA_VALIDATION_FAILED", "A payload template cannot be read.";
    INVALID_JSONATA, Error, "SCHEMA_VALIDATION_FAILED", "An expression of JSONata cannot be read.";
    INVALID_TIMESTAMP, Error, "SCHEMA_VALIDATION_FAILED", "A moment is not written as RFC 3339 has it.";
    INVALID_VARIABLE_NAME, Error, "SCHEMA_VALIDATION_FAILED", "A variable has a name that expressions cannot say.";
    PIVOT_UNKNOWN, Error, "SCHEMA_VALIDATION_FAILED", "The pivot is not a state at the top level.";
    PIVOT_UNFIT, Error, "SCHEMA_VALIDATION_FAILED", "The pivot is a state that never completes.";
    SIDECAR_UNKNOWN_STATE, Error, "SCHEMA_VALIDATION_FAILED", "The sidecar undoes a state that the machine does not have.";
    SIDECAR_CONFLICT, Error, "SCHEMA_VALIDATION_FAILED", "The sidecar says something that the machine says already.";
    STEP_WITHOUT_UNDO, Warning, "SCHEMA_VALIDATION_FAILED", "A step before the pivot does something that nothing undoes.";
    STEP_WITHOUT_TIMEOUT, Warning, "SCHEMA_VALIDATION_FAILED", "A step may wait for its worker for ever.";
    UNDO_WITHOUT_RETRY, Warning, "SCHEMA_VALIDATION_FAILED", "An undo says not when it is tried again; the default is taken.";
    UNDO_WITHOUT_TIMEOUT, Warning, "SCHEMA_VALIDATION_FAILED", "An undo may wait for its worker for ever.";
    UNDO_NEVER_TRIED_AGAIN, Warning, "SCHEMA_VALIDATION_FAILED", "An undo is tried once and parks the saga at the first failure.";
    UNDO_AFTER_PIVOT, Warning, "SCHEMA_VALIDATION_FAILED", "A step after the pivot has an undo, which is never used.";
    FAIL_AFTER_PIVOT, Warning, "SCHEMA_VALIDATION_FAILED", "A Fail state after the pivot parks the saga; nothing is undone there.";
    UNKNOWN_ERROR_NAME, Warning, "SCHEMA_VALIDATION_FAILED", "An error begins with `States.` and the language has none of that name.";
    NO_DOLLAR, Warning, "NO_DOLLAR", "A value looks like a path, and its key does not end in `.$`, so it stays a text.";
    NO_PATH, Warning, "NO_PATH", "A value looks like a path, and the field takes it as a text.";
    PASS_RESULT_IS_STATIC, Warning, "PASS_RESULT_IS_STATIC", "A Pass state's Result is taken as it stands; paths in it are not looked up.";
    RUNS_INLINE, Warning, "SCHEMA_VALIDATION_FAILED", "A Map written as distributed runs inside its saga.";
    STATE_LEFT_OUT, Warning, "SCHEMA_VALIDATION_FAILED", "Import: nothing leads to a state, and it is left out.";
    CATCH_KEPT, Note, "SCHEMA_VALIDATION_FAILED", "Import: a Catch is no chain of undo states, and stays.";
    UNDO_RECOGNISED, Note, "SCHEMA_VALIDATION_FAILED", "Import: a state of a chain is the undo of a step.";
    UNDO_GUESSED, Warning, "SCHEMA_VALIDATION_FAILED", "Import: a state of a chain is taken as the undo of a step by its place alone.";
    UNDO_NOT_RECOGNISED, Warning, "SCHEMA_VALIDATION_FAILED", "Import: a state of a chain, or the whole machine, undoes nothing that is known.";
    UNDO_GETS_RETRY, Warning, "SCHEMA_VALIDATION_FAILED", "Import: an undo state had no Retry, and gets the default.";
    UNDO_DATA_DIFFERS, Warning, "SCHEMA_VALIDATION_FAILED", "Import: the undo sees the step's own input and result, and not all data.";
    UNDO_SET_DIFFERS, Warning, "SCHEMA_VALIDATION_FAILED", "Import: the chain undid other steps, or in another order, or for fewer errors.";
    AFTER_UNDO_LOST, Warning, "SCHEMA_VALIDATION_FAILED", "Import: a state ran after the undo, where the extension has none.";
    NOT_EXPORTED, Warning, "SCHEMA_VALIDATION_FAILED", "Export: plain States Language cannot say this, and the exported machine does otherwise.";
    RESOURCE_NOT_AWS, Warning, "SCHEMA_VALIDATION_FAILED", "Export: a resource of Wharf's own, which Step Functions refuses until it is replaced.";
    CREDENTIALS_IGNORED, Note, "SCHEMA_VALIDATION_FAILED", "Credentials are a matter of the resource map, not of the definition.";
}

impl Code {
    /// The name, such as `UNKNOWN_FIELD`.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

/// One problem at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind it is.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// Where, as a JSON pointer; empty for the whole.
    pub path: String,
    /// What is wrong, why, and what to do.
    pub message: String,
}

impl Problem {
    /// A problem of a kind at a place.
    pub fn new(code: Code, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            path: path.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.path.is_empty() {
            "/"
        } else {
            &self.path
        };
        let Self { code, message, .. } = self;
        write!(f, "{place}: {} {code}: {message}", self.severity.as_str())
    }
}

/// Why a definition was refused: every problem that was found, warnings included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Whether one of them refuses the definition.
    pub fn refuse(&self) -> bool {
        self.0.iter().any(|p| p.severity == Severity::Error)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.0.iter().filter(|p| p.severity == Severity::Error);
        let count = errors.count();
        let noun = if count == 1 { "error" } else { "errors" };
        write!(f, "the definition has {count} {noun}")?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

impl std::error::Error for Problems {}

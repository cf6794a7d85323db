//! Regular expressions in schemas, and what they may cost.
//!
//! JSON Schema's expressions are those of ECMA-262, which real schemas use with look-ahead, so the
//! linear engine alone would refuse schemas that Confluent takes. The engine here is `fancy-regex`:
//! what needs no backtracking runs on the linear engine, all else stops at [`BACKTRACKS_MAX`] (and
//! then counts as no match). One step back can cost as much as reading the text once, so that bound
//! is low, and so is the number of such expressions. Compiled sizes are bounded, so that counted
//! repetitions cannot fill the memory.

use std::fmt;
use std::sync::Arc;

use jsonschema::{FancyRegex, PatternOptions, Validator};
use serde_json::{Value, json};

use crate::Invalid;

/// How many different expressions a schema may have.
pub(super) const PATTERNS_MAX: usize = 1_000;

/// How many of them may need steps back.
pub(super) const BACKTRACKING_MAX: usize = 32;

/// How many steps back one match may take.
const BACKTRACKS_MAX: usize = 1_000;

/// Bytes of one compiled expression.
const COMPILED_BYTES_MAX: usize = 256 << 10;

/// The bounds for whatever compiles expressions of schemas.
pub(super) fn options() -> PatternOptions<FancyRegex> {
    PatternOptions::fancy_regex()
        .backtrack_limit(BACKTRACKS_MAX)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
}

/// An expression that compiles. Cheap to clone.
#[derive(Clone)]
pub(super) struct Pattern {
    text: Arc<str>,
    validator: Arc<Validator>,
    /// Whether it looks around or refers back.
    pub(super) needs_backtracking: bool,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, Invalid> {
        let schema = json!({ "pattern": text });
        let linear = PatternOptions::regex()
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(COMPILED_BYTES_MAX);
        let compiled = jsonschema::options()
            .offline()
            .with_pattern_options(linear)
            .build(&schema);
        let needs_backtracking = compiled.is_err();
        let compiled = compiled.or_else(|_| {
            jsonschema::options()
                .offline()
                .with_pattern_options(options())
                .build(&schema)
        });
        let Ok(validator) = compiled else {
            return Err(Invalid::new(format!(
                "'{text}' is no regular expression, or one that takes more than {COMPILED_BYTES_MAX} bytes when compiled"
            )));
        };
        Ok(Self {
            text: text.into(),
            validator: Arc::new(validator),
            needs_backtracking,
        })
    }

    /// Whether the expression is found in a text.
    pub(super) fn matches(&self, text: &str) -> bool {
        self.validator.is_valid(&Value::from(text))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Pattern({:?})", self.text)
    }
}

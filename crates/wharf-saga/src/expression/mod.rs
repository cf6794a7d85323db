//! How data flows through a saga: JSONPath, JSONata, payload templates, conditions.
//!
//! What is evaluated was written by whoever deployed the definition, over data that anybody sent.
//! So every evaluation has a [`Budget`], and one that goes beyond it is a [`Failure`] like any
//! other: nothing here may panic, hang, recurse without a bound or allocate beyond it. The same
//! [`Scope`] always gives the same bytes; the time and the seed of what is random are part of it.

pub mod choice;
pub mod jsonata;
pub mod jsonpath;
mod meter;
mod scope;
pub mod template;

pub use scope::{Budget, Failure, Scope, Syntax};

use serde_json::Value;

use crate::definition::QueryLanguage;

/// The value of a single expression of either language, as [`crate::definition::Given::From`] has
/// it: a path or an intrinsic function in JSONPath, `{% … %}` in JSONata.
pub fn evaluate(
    language: QueryLanguage,
    text: &str,
    scope: &Scope<'_>,
    budget: Budget,
) -> Result<Value, Failure> {
    match language {
        QueryLanguage::JsonPath => template::value(text, scope, budget),
        QueryLanguage::Jsonata => jsonata::value(text, scope, budget),
    }
}

/// Whether a single expression of either language is written right.
pub fn check(language: QueryLanguage, text: &str) -> Result<(), Syntax> {
    match language {
        QueryLanguage::JsonPath => template::check_value(text),
        QueryLanguage::Jsonata => jsonata::check_value(text),
    }
}

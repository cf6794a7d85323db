//! Expressions: what they give, how they fail, and that they always end.

mod choice;
mod jsonata;
mod jsonpath;
mod properties;
mod templates;

use serde_json::{Map, Value, json};
use wharf_message::Timestamp;
use wharf_saga::expression::Scope;

/// What the expressions of the tests see.
pub(crate) struct World {
    pub(crate) input: Value,
    pub(crate) context: Value,
    pub(crate) variables: Map<String, Value>,
}

impl World {
    pub(crate) fn new(input: Value) -> Self {
        let mut variables = Map::new();
        variables.insert("total".to_owned(), json!(42));
        variables.insert("order".to_owned(), json!({"id": "o-1", "lines": [1, 2]}));
        let context = json!({"Execution": {"Id": "e-1", "Name": "n"}, "State": {"Name": "Pay"}});
        Self {
            input,
            context,
            variables,
        }
    }

    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope {
            input: &self.input,
            result: None,
            error_output: None,
            context: &self.context,
            variables: &self.variables,
            now: Timestamp::from_millis(1_795_320_000_123),
            seed: 7,
        }
    }
}

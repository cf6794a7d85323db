//! JSON on the command line: as it stands, out of a file, or from stdin.

use std::path::Path;

use serde_json::Value;

use crate::cli::Usage;
use crate::files;

/// The value of an option that takes JSON.
pub(super) fn given(option: &str, said: &str) -> anyhow::Result<Value> {
    let text = match said.strip_prefix('@') {
        Some(file) => files::text(Path::new(file))?,
        None if said == "-" => files::text(Path::new("-"))?,
        None => said.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| {
        let message = format!(
            "{option} is no JSON: {error}; a text needs quotes of its own, as in '\"text\"', and \
             @FILE reads a file"
        );
        Usage(message).into()
    })
}

/// Adds a field if there is something to add.
pub(super) fn put(body: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let (Some(value), Value::Object(body)) = (value, body) {
        body.insert(name.to_owned(), value.into());
    }
}

//! JSON on the command line: as it stands, out of a file, or from stdin; and files as texts.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use crate::cli::Usage;

/// The largest text that is read; the node takes no larger one either.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// The value of an option that takes JSON.
pub(super) fn given(option: &str, said: &str) -> anyhow::Result<Value> {
    let text = match said.strip_prefix('@') {
        Some(file) => file_text(Path::new(file))?,
        None if said == "-" => file_text(Path::new("-"))?,
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

/// The text of a file, or of stdin for `-`.
pub(super) fn file_text(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let shown = file.display();
    if file == Path::new("-") {
        let stdin = std::io::stdin();
        let read = stdin.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text);
        read.context("stdin cannot be read")?;
    } else {
        let opened = std::fs::File::open(file);
        let opened = opened.with_context(|| format!("{shown} cannot be opened"))?;
        let read = opened.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text);
        read.with_context(|| format!("{shown} cannot be read"))?;
    }
    let fits = u64::try_from(text.len()).is_ok_and(|length| length <= TEXT_BYTES_MAX);
    anyhow::ensure!(fits, "{shown} is larger than {TEXT_BYTES_MAX} bytes");
    Ok(text)
}

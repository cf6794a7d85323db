//! Reading `wharf.toml`: its values, and the line each of them stands on.

use std::collections::BTreeMap;
use std::path::Path;

use figment::value::Dict;
use toml::de::{DeTable, DeValue};
use wharf_message::Code;

use crate::Problem;

/// A configuration file as read.
#[derive(Debug)]
pub(super) struct File {
    /// The values, by section.
    pub(super) values: Dict,
    /// The line (from 1) of every `section` and `section.key` in it.
    pub(super) lines: BTreeMap<String, usize>,
}

impl File {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, Problem> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Problem::new(
                Code::INVALID_CONFIGURATION,
                format!("the configuration file {} cannot be read", path.display()),
                error.to_string(),
                "check the path given with --config and its permissions",
            )
        })?;
        Self::parse(&text, path)
    }

    /// Reads the file's text; `path` is only named in errors.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, Problem> {
        let syntax = |error: &toml::de::Error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            Problem::new(
                Code::INVALID_CONFIGURATION,
                format!(
                    "the configuration file {} is not valid TOML",
                    path.display()
                ),
                format!("{}:{line}: {}", path.display(), error.message().trim()),
                "correct that line; `wharf config reference` shows how each is written",
            )
        };
        let table = DeTable::parse(text).map_err(|error| syntax(&error))?;
        let mut lines = BTreeMap::new();
        collect(text, table.get_ref(), "", &mut lines);
        let values = toml::from_str(text).map_err(|error| syntax(&error))?;
        Ok(Self { values, lines })
    }
}

/// The line (from 1) of the byte at `position`.
fn line_of(text: &str, position: usize) -> usize {
    text.bytes()
        .take(position)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

fn collect(text: &str, table: &DeTable<'_>, prefix: &str, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let path = format!("{prefix}{}", key.get_ref());
        lines.insert(path.clone(), line_of(text, key.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            collect(text, inner, &format!("{path}."), lines);
        }
    }
}

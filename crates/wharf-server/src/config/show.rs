//! Printing a configuration back, so that what is printed can be read again.

use std::fmt::Write as _;

use serde_json::Value;

use super::load::{Loaded, Origin};
use super::settings::Config;

/// The configuration as the text of a `wharf.toml`; with `origins`, each value's as a comment.
pub fn to_toml(loaded: &Loaded, origins: bool) -> String {
    let mut text = String::new();
    for (section, values) in sections(&loaded.config) {
        let gap = if text.is_empty() { "" } else { "\n" };
        writeln!(text, "{gap}[{section}]").expect("a String takes everything");
        for (key, value) in values {
            let line = match toml_value(&value) {
                Some(value) => format!("{key} = {value}"),
                None => format!("# {key} is unset"),
            };
            let origin = loaded.origin(&format!("{section}.{key}"));
            if origins {
                writeln!(text, "{line:<56} # {origin}").expect("a String takes everything");
            } else {
                writeln!(text, "{line}").expect("a String takes everything");
            }
        }
    }
    text
}

/// The configuration as JSON; with `origins`, each value is an object of `value` and `origin`.
pub fn to_json(loaded: &Loaded, origins: bool) -> Value {
    let sections = sections(&loaded.config)
        .into_iter()
        .map(|(section, values)| {
            let values = values.into_iter().map(|(key, value)| {
                let origin = loaded.origin(&format!("{section}.{key}"));
                let value = if origins {
                    serde_json::json!({ "value": value, "origin": origin_json(origin) })
                } else {
                    value
                };
                (key, value)
            });
            let values = Value::Object(values.collect());
            (section, values)
        });
    Value::Object(sections.collect())
}

fn origin_json(origin: &Origin) -> Value {
    match origin {
        Origin::Default => serde_json::json!({ "kind": "default" }),
        Origin::File { path, line } => {
            serde_json::json!({ "kind": "file", "path": path.to_string_lossy(), "line": line })
        }
        Origin::Variable(name) => serde_json::json!({ "kind": "variable", "name": name }),
        Origin::Flag(name) => serde_json::json!({ "kind": "flag", "name": name }),
    }
}

/// Sections and keys in the order of the reference, with their values.
pub(super) fn sections(config: &Config) -> Vec<(String, Vec<(String, Value)>)> {
    let mut values = serde_json::to_value(config).unwrap_or_default();
    let mut take = |section: &str, key: &str| {
        values
            .get_mut(section)
            .and_then(|section| section.get_mut(key))
            .map(Value::take)
    };
    let section = |(name, _): &(&str, _)| {
        let settings = Config::settings().filter(|setting| setting.section == *name);
        let values = settings.map(|setting| {
            let value = take(name, &setting.key).unwrap_or_default();
            (setting.key, value)
        });
        ((*name).to_owned(), values.collect())
    };
    Config::SECTIONS.iter().map(section).collect()
}

/// A value as TOML writes it; `None` for one that is unset.
pub(super) fn toml_value(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(toml::Value::String(text.clone()).to_string()),
        other => Some(other.to_string()),
    }
}

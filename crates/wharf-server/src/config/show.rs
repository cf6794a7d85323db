//! Printing a configuration back, so that what is printed can be read again.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::load::{Loaded, Origin};
use super::settings::{Config, RELAYS};

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
    let mut shown = Map::new();
    for (section, values) in sections(&loaded.config) {
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
        match section.split_once('.') {
            Some((outer, name)) => {
                let outer = shown
                    .entry(outer)
                    .or_insert_with(|| Value::Object(Map::new()));
                outer[name] = values;
            }
            None => {
                shown.insert(section, values);
            }
        }
    }
    Value::Object(shown)
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

/// Sections and keys in the order of the reference, with their values; then each relay's. Passwords in
/// addresses are left out.
pub(super) fn sections(config: &Config) -> Vec<(String, Vec<(String, Value)>)> {
    let values = serde_json::to_value(config).unwrap_or_default();
    let section = |name: &str, kind: &str, values: &Value| {
        let settings = Config::settings().filter(|setting| setting.section == kind);
        let values = settings.map(|setting| {
            let value = values.get(&setting.key).cloned().unwrap_or_default();
            (setting.key, value)
        });
        (name.to_owned(), values.collect())
    };
    let fixed = Config::SECTIONS.iter().filter(|(name, _)| *name != RELAYS);
    let fixed = fixed.map(|(name, _)| section(name, name, &values[*name]));
    let relays = config.relay.keys();
    let relays =
        relays.map(|name| section(&format!("relay.{name}"), RELAYS, &values["relay"][name]));
    fixed.chain(relays).collect()
}

/// A value as TOML writes it; `None` for one that is unset.
pub(super) fn toml_value(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(toml::Value::String(text.clone()).to_string()),
        // Tables within arrays are written in one line.
        Value::Array(_) => toml::Value::try_from(value)
            .ok()
            .map(|value| value.to_string()),
        other => Some(other.to_string()),
    }
}

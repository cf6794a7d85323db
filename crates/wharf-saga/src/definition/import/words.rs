//! What names say.

use serde_json::Value;

/// Words that undo.
const UNDO: &[&str] = &[
    "abort",
    "cancel",
    "compensate",
    "credit",
    "delete",
    "free",
    "refund",
    "release",
    "remove",
    "restore",
    "return",
    "reverse",
    "revert",
    "rollback",
    "undo",
    "unreserve",
    "void",
    "withdraw",
];

/// Words that say nothing about what a step is for.
const COMMON: &[&str] = &[
    "and",
    "for",
    "function",
    "lambda",
    "saga",
    "state",
    "step",
    "task",
    "the",
    "transaction",
];

/// The words of a name: `ReserveFlight`, `reserve-flight` and `Reserve flight` have the same.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut small = false;
    for character in name.chars().take(200) {
        let begins = character.is_uppercase() && small;
        if (!character.is_alphanumeric() || begins) && words.last().is_some_and(|w| !w.is_empty()) {
            words.push(String::new());
        }
        small = character.is_lowercase();
        if character.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(character.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

pub(super) fn looks_like_undo(name: &str) -> bool {
    words(name)
        .iter()
        .any(|word| UNDO.iter().any(|undo| word.starts_with(undo)))
}

/// How many words two names share, endings aside.
pub(super) fn shared(one: &str, other: &str) -> usize {
    let stem = |word: &String| word.chars().take(5).collect::<String>();
    let says = |word: &String| !COMMON.contains(&word.as_str()) && word.chars().count() > 2;
    let other: Vec<String> = words(other).iter().filter(|w| says(w)).map(stem).collect();
    words(one)
        .iter()
        .filter(|w| says(w))
        .filter(|w| other.contains(&stem(w)))
        .count()
}

/// The step whose name shares most with the undo's; the later one of equals.
pub(super) fn nearest<'n>(undo: &str, steps: &[&'n str]) -> Option<&'n str> {
    let best = steps.iter().max_by_key(|step| shared(undo, step))?;
    (shared(undo, best) > 0).then_some(*best)
}

pub(super) fn list(names: &[&str]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The template with every path in it changed; paths inside of functions too.
pub(in super::super) fn rebased(template: Value, change: &mut dyn FnMut(&str) -> String) -> Value {
    match template {
        Value::Object(map) => {
            let entries = map.into_iter().map(|(key, value)| match value {
                Value::String(text) if key.ends_with(".$") => {
                    let text = paths(&text, change);
                    (key, Value::String(text))
                }
                other => (key, rebased(other, change)),
            });
            Value::Object(entries.collect())
        }
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .map(|item| rebased(item, change))
                .collect(),
        ),
        other => other,
    }
}

/// A path, or a function with paths as arguments, with every path changed.
fn paths(text: &str, change: &mut dyn FnMut(&str) -> String) -> String {
    if text.starts_with('$') {
        return change(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let (mut quoted, mut escaped) = (false, false);
    while let Some(character) = rest.chars().next() {
        if character == '$' && !quoted {
            let mut depth = 0_i32;
            let end = rest
                .find(|c: char| {
                    match c {
                        '[' | '(' => depth += 1,
                        ']' => depth -= 1,
                        _ => {}
                    }
                    depth <= 0 && matches!(c, ',' | ')' | ' ')
                })
                .unwrap_or(rest.len());
            let (path, after) = rest.split_at(end);
            out.push_str(&change(path));
            rest = after;
            continue;
        }
        if character == '\'' && !escaped {
            quoted = !quoted;
        }
        escaped = character == '\\' && !escaped;
        out.push(character);
        rest = &rest[character.len_utf8()..];
    }
    out
}

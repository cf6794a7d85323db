//! Templates of topic names: `outbox.event.{aggregatetype}`, or as Debezium writes them,
//! `outbox.event.${routedByValue}`.
//!
//! `{column}` is the value of a column, `${name}` and `$1` a group of the routing pattern.

use std::fmt::Write as _;

/// A template, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(pub(super) Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// As it is.
    Text(String),
    /// The value of this column.
    Column(String),
    /// The group of this name or number.
    Group(String),
}

impl Template {
    /// Reads a template; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}', '$']) {
            let (before, from) = rest.split_at(at);
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let (part, after) = placeholder(from).ok_or_else(|| {
                let mut reason = format!("{from:?} is no placeholder");
                write!(reason, "; write {{column}}, ${{group}} or $1").unwrap_or_default();
                reason
            })?;
            parts.push(part);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        match parts.is_empty() {
            true => Err("it is empty".to_owned()),
            false => Ok(Self(parts)),
        }
    }
}

/// The placeholder that a text begins with, and what follows it.
fn placeholder(text: &str) -> Option<(Part, &str)> {
    if let Some(rest) = text.strip_prefix('{') {
        let (name, after) = rest.split_once('}')?;
        return is_name(name).then(|| (Part::Column(name.to_owned()), after));
    }
    let rest = text.strip_prefix('$')?;
    if let Some(rest) = rest.strip_prefix('{') {
        let (name, after) = rest.split_once('}')?;
        return is_name(name).then(|| (Part::Group(name.to_owned()), after));
    }
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (number, after) = rest.split_at(digits);
    (!number.is_empty()).then(|| (Part::Group(number.to_owned()), after))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(['{', '$'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read_and_what_is_neither_is_refused() {
        let text = |text: &str| Part::Text(text.to_owned());
        let read = |text| Template::parse(text).map(|template| template.0);
        let by_column = vec![
            text("outbox."),
            Part::Column("kind".to_owned()),
            text(".v1"),
        ];
        assert_eq!(read("outbox.{kind}.v1"), Ok(by_column));
        let by_group = vec![
            Part::Group("routedByValue".to_owned()),
            text("-"),
            Part::Group("1".to_owned()),
        ];
        assert_eq!(read("${routedByValue}-$1"), Ok(by_group));
        assert_eq!(read("fixed"), Ok(vec![text("fixed")]));
        for wrong in ["", "a.{", "a.{}", "a}", "$", "$x", "${", "${}", "{a{b}}"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}

//! The little language of what is expected: `OrderPaid`, `one of [A, B]`, `all of [A, B]`,
//! `compensation`; with `within 30s` and `from: payments` behind it, if one likes.

use std::time::Duration;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) form: Form,
    pub(super) events: Vec<String>,
    pub(super) within: Option<Duration>,
    pub(super) from: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    #[default]
    OneOf,
    AllOf,
    Compensation,
}

/// Reads it; a sentence says what is wrong.
pub(super) fn read(text: &str) -> Result<Text, String> {
    let mut read = Text::default();
    let rest = text.trim();
    let rest = if let Some(list) = rest.strip_prefix("one of") {
        events(list, text, &mut read)?
    } else if let Some(list) = rest.strip_prefix("all of") {
        read.form = Form::AllOf;
        events(list, text, &mut read)?
    } else {
        let (word, rest) = word(rest);
        match word {
            "" => return Err("nothing is expected: name an event, or `compensation`".to_owned()),
            "compensation" => read.form = Form::Compensation,
            name => read.events.push(name.to_owned()),
        }
        rest
    };
    options(rest, &mut read)?;
    Ok(read)
}

fn events<'a>(list: &'a str, text: &str, read: &mut Text) -> Result<&'a str, String> {
    let list = list.trim_start();
    let inner = list.strip_prefix('[').and_then(|list| list.split_once(']'));
    let Some((names, rest)) = inner else {
        return Err(format!(
            "`{text}` has no list of events: write `one of [A, B]`"
        ));
    };
    for name in names
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        read.events.push(name.to_owned());
    }
    match read.events.is_empty() {
        true => Err(format!("the list of events in `{text}` is empty")),
        false => Ok(rest),
    }
}

fn options(rest: &str, read: &mut Text) -> Result<(), String> {
    let mut rest = rest.trim_start();
    while !rest.is_empty() {
        let (name, after) = word(rest);
        let (value, after) = word(after);
        match name {
            "within" if !value.is_empty() => read.within = Some(duration(value)?),
            "from" | "from:" if !value.is_empty() => read.from = Some(value.to_owned()),
            _ => {
                return Err(format!(
                    "`{rest}` is not understood: `within 30s` and `from: service` may follow what is expected"
                ));
            }
        }
        rest = after.trim_start();
    }
    Ok(())
}

fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

/// A length of time that is not nothing, as `30s`, `5m` or `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let read = humantime::parse_duration(text);
    let read =
        read.map_err(|error| format!("`{text}` is no length of time like 30s or 5m: {error}"))?;
    match read.as_millis() {
        0 => Err(format!("`{text}` is no time at all")),
        millis if millis > u128::from(i64::MAX.unsigned_abs() >> 20) => {
            Err(format!("`{text}` is longer than any saga takes"))
        }
        _ => Ok(read),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_reads_like_a_sentence() {
        let all =
            read("one of [PaymentAuthorized, PaymentDeclined] within 30s from: payments").unwrap();
        assert_eq!(all.form, Form::OneOf);
        assert_eq!(all.events, ["PaymentAuthorized", "PaymentDeclined"]);
        assert_eq!(all.within, Some(Duration::from_secs(30)));
        assert_eq!(all.from.as_deref(), Some("payments"));
        assert_eq!(read("OrderPaid").unwrap().events, ["OrderPaid"]);
        assert_eq!(read("all of [A,B,]").unwrap().form, Form::AllOf);
        let undo = read(" compensation within 1m").unwrap();
        assert_eq!((undo.form, undo.events.len()), (Form::Compensation, 0));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_sentence() {
        for (text, sentence) in [
            ("", "nothing is expected"),
            ("one of A, B", "has no list"),
            ("all of []", "is empty"),
            ("A or B", "`or B` is not understood"),
            ("A within", "`within` is not understood"),
            ("A within soon", "no length of time"),
            ("A within 0s", "no time at all"),
            ("A within 9999999999years", "longer than any saga"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.contains(sentence), "{text}: {refused}");
        }
    }
}

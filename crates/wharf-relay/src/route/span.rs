//! The trace context that Debezium's Quarkus extension keeps in a column: Java `Properties` as text.
//!
//! W3C entries are taken as they are; what Jaeger and B3 clients wrote is turned into a `traceparent`.
//! What cannot be read is no trace, never an error: a trace is not worth a message.

use wharf_message::header;

/// The trace headers in a text of Java `Properties`, by their W3C names.
pub(super) fn trace(text: &str) -> Vec<(&'static str, String)> {
    let mut entries = properties(text);
    let mut take = |name: &str| {
        let at = entries
            .iter()
            .rposition(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(entries.swap_remove(at).1)
    };
    let parent = take(header::TRACEPARENT)
        .or_else(|| take("uber-trace-id").and_then(|value| jaeger(&value)))
        .or_else(|| take("b3").and_then(|value| b3(&value)));
    let Some(parent) = parent.filter(|parent| is_traceparent(parent)) else {
        return Vec::new();
    };
    let mut trace = vec![(header::TRACEPARENT, parent)];
    for name in [header::TRACESTATE, header::BAGGAGE] {
        trace.extend(take(name).map(|value| (name, value)));
    }
    trace
}

/// Version, trace id, parent id and flags, in lower-case hex, and no id of zeros alone.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is = |part: &str, length| {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        part.len() == length && part.bytes().all(hex)
    };
    let given = |part: &str| part.bytes().any(|byte| byte != b'0');
    match parts[..] {
        [version, trace, span, flags] => {
            is(version, 2)
                && version != "ff"
                && is(trace, 32)
                && is(span, 16)
                && is(flags, 2)
                && given(trace)
                && given(span)
        }
        _ => false,
    }
}

/// `{trace-id}:{span-id}:{parent-span-id}:{flags}`, with leading zeros left out.
fn jaeger(text: &str) -> Option<String> {
    let text = text.replace("%3A", ":").to_ascii_lowercase();
    let mut parts = text.split(':');
    let (trace, span, _parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1;
    Some(format!("00-{trace:0>32}-{span:0>16}-{sampled:02x}"))
}

/// `{trace-id}-{span-id}-{sampled}`; the trace id may be half as long.
fn b3(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let mut parts = text.split('-');
    let (trace, span) = (parts.next()?, parts.next()?);
    let sampled = u8::from(matches!(parts.next(), Some("1" | "d")));
    Some(format!("00-{trace:0>32}-{span:0>16}-{sampled:02x}"))
}

/// The entries of a text of `java.util.Properties`.
fn properties(text: &str) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start_matches([' ', '\t', '\x0c']);
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = line.to_owned();
        while whole
            .bytes()
            .rev()
            .take_while(|byte| *byte == b'\\')
            .count()
            % 2
            == 1
        {
            whole.pop();
            let next = lines.next().unwrap_or_default();
            whole.push_str(next.trim_start_matches([' ', '\t', '\x0c']));
        }
        entries.push(entry(&whole));
    }
    entries
}

/// Key and value of a logical line.
fn entry(line: &str) -> (String, String) {
    let mut is_escaped = false;
    let end = line.find(|c: char| {
        let ends = !is_escaped && matches!(c, '=' | ':' | ' ' | '\t' | '\x0c');
        is_escaped = !is_escaped && c == '\\';
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches([' ', '\t', '\x0c']);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    let value = rest.trim_start_matches([' ', '\t', '\x0c']);
    (unescape(key), unescape(value))
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut chars = after.chars();
        let unicode = || char::from_u32(u32::from_str_radix(after.get(1..5)?, 16).ok()?);
        match chars.next() {
            Some('u') => match unicode() {
                Some(c) => {
                    plain.push(c);
                    rest = &after[5..];
                    continue;
                }
                None => plain.push('u'),
            },
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\x0c'),
            Some(other) => plain.push(other),
            None => {}
        }
        rest = chars.as_str();
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parent(text: &str) -> Option<String> {
        trace(text).into_iter().next().map(|(_, value)| value)
    }

    #[test]
    fn the_contexts_of_java_clients_become_w3c_ones() {
        let text =
            format!("#Sun Nov 22 08:00:00 UTC 2026\ntracestate=a\\=1\ntraceparent={PARENT}\n");
        let expected = vec![
            (header::TRACEPARENT, PARENT.to_owned()),
            (header::TRACESTATE, "a=1".to_owned()),
        ];
        assert_eq!(trace(&text), expected);
        let jaeger = "uber-trace-id=bf92f3577b34da6\\:f067aa0ba902b7\\:0\\:1";
        let short = "00-00000000000000000bf92f3577b34da6-00f067aa0ba902b7-01";
        assert_eq!(parent(jaeger).as_deref(), Some(short));
        let b3 = "b3 : 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1";
        assert_eq!(parent(b3).as_deref(), Some(PARENT));
    }

    #[test]
    fn properties_are_read_with_comments_escapes_and_lines_that_go_on() {
        let text = "! no\n  # no\nk\\ 1 = v\\u00e4\\\n    l\\t\nempty\n a:b=c\n";
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = [pair("k 1", "väl\t"), pair("empty", ""), pair("a", "b=c")];
        assert_eq!(properties(text), expected);
    }

    #[test]
    fn what_is_no_context_is_no_trace() {
        for text in [
            "",
            "traceparent",
            "traceparent=",
            "traceparent=00-1-2-3",
            "uber-trace-id=x:y",
            "b3=0",
            "traceparent=00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert_eq!(trace(text), [], "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_a_traceparent_is_always_whole(text in any::<String>(), id in ".{0,40}") {
            for text in [text.clone(), format!("uber-trace-id={id}"), format!("b3={id}\\"), format!("{text}\\u12")] {
                for (name, value) in trace(&text) {
                    prop_assert!(name != header::TRACEPARENT || is_traceparent(&value));
                }
            }
        }
    }
}

//! The value of an option that is a message, `{ doc: "…" tags: ["a", "b"] }`, from the tokens that
//! the compiler's parser leaves, separated by spaces.
//!
//! The nesting is bounded before the text is parsed at all. What is no such message is kept as one
//! word, so that nothing said in a schema is lost.

use std::collections::HashMap;

use super::source::Literal;

/// Reads it.
pub(super) fn read(text: &str) -> Literal {
    let mut tokens = Tokens { rest: text };
    match entries(&mut tokens, None) {
        Some(entries) => Literal::Map(entries),
        None => Literal::Word(format!("{{ {text} }}")),
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn peek(&self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let first = rest.chars().next()?;
        let end = if first == '"' {
            1 + string_end(&rest[1..])?
        } else if is_word(first) {
            rest.find(|letter| !is_word(letter)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        Some(&rest[..end])
    }

    fn next(&mut self) -> Option<&'a str> {
        let token = self.peek()?;
        self.rest = &self.rest.trim_start()[token.len()..];
        Some(token)
    }

    fn skip(&mut self, what: &str) -> bool {
        let is_next = self.peek() == Some(what);
        if is_next {
            self.next();
        }
        is_next
    }
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '.' | '-' | '+')
}

/// The length up to and with the closing quote.
fn string_end(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn entries(tokens: &mut Tokens<'_>, end: Option<&str>) -> Option<Vec<(String, Literal)>> {
    let mut entries: Vec<(String, Literal)> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    loop {
        if tokens.peek().is_none() || end.is_some_and(|end| tokens.peek() == Some(end)) {
            return (tokens.next() == end).then_some(entries);
        }
        let key = key(tokens)?;
        let has_colon = tokens.skip(":");
        let is_block = matches!(tokens.peek(), Some("{" | "<"));
        if !has_colon && !is_block {
            return None;
        }
        let value = value(tokens)?;
        match known.get(&key).and_then(|at| entries.get_mut(*at)) {
            None => {
                known.insert(key.clone(), entries.len());
                entries.push((key, value));
            }
            Some((_, earlier)) => append(earlier, value),
        }
        let _ = tokens.skip(",") || tokens.skip(";");
    }
}

/// Said again: both are items of one list.
fn append(earlier: &mut Literal, value: Literal) {
    let more = match value {
        Literal::List(items) => items,
        one => vec![one],
    };
    if let Literal::List(items) = earlier {
        items.extend(more);
    } else {
        let first = std::mem::replace(earlier, Literal::List(Vec::new()));
        *earlier = Literal::List([vec![first], more].concat());
    }
}

fn key(tokens: &mut Tokens<'_>) -> Option<String> {
    let first = tokens.next()?;
    if first != "[" {
        return first.starts_with(is_word).then(|| first.to_owned());
    }
    let mut key = first.to_owned();
    loop {
        let token = tokens.next()?;
        key.push_str(token);
        if token == "]" {
            return Some(key);
        }
    }
}

fn value(tokens: &mut Tokens<'_>) -> Option<Literal> {
    match tokens.next()? {
        "{" => Some(Literal::Map(entries(tokens, Some("}"))?)),
        "<" => Some(Literal::Map(entries(tokens, Some(">"))?)),
        "[" => {
            let mut items = Vec::new();
            loop {
                if tokens.skip("]") {
                    return Some(Literal::List(items));
                }
                items.push(value(tokens)?);
                if !tokens.skip(",") && tokens.peek() != Some("]") {
                    return None;
                }
            }
        }
        "-" => Some(Literal::Word(format!("-{}", tokens.next()?))),
        token if token.starts_with('"') => {
            let mut text = quoted(token);
            while let Some(more) = tokens.peek().filter(|token| token.starts_with('"')) {
                text.extend(quoted(more));
                tokens.next();
            }
            match String::from_utf8(text) {
                Ok(text) => Some(Literal::Text(text)),
                Err(bytes) => {
                    let bytes = bytes.into_bytes();
                    Some(Literal::Escaped(bytes.escape_ascii().to_string()))
                }
            }
        }
        token if token.starts_with(is_word) => {
            // What the lexer took apart belongs together: `.`, digits and names have no gaps.
            Some(Literal::Word(token.to_owned()))
        }
        _ => None,
    }
}

/// The bytes of a string as the parser prints it: ASCII with `\n`, `\x00` and the like.
fn quoted(token: &str) -> Vec<u8> {
    let inner = token.strip_prefix('"').unwrap_or(token);
    let inner = inner.strip_suffix('"').unwrap_or(inner).as_bytes();
    let mut out = Vec::with_capacity(inner.len());
    let mut at = 0;
    while let Some(byte) = inner.get(at) {
        at += 1;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let escape = inner.get(at).copied().unwrap_or(b'\\');
        at += 1;
        match escape {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'v' => out.push(11),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'x' => {
                let digits = inner
                    .get(at..at + 2)
                    .and_then(|two| str::from_utf8(two).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                out.extend(byte);
                at += 2;
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_is_a_list_and_what_is_no_message_is_kept() {
        let read_one =
            read(r#"doc : "a\x27b" tags : "x" tags : [ "y" , "z" ] [ a . b ] { n : - 1 }"#);
        let text = |text: &str| Literal::Text(text.to_owned());
        assert_eq!(
            read_one,
            Literal::Map(vec![
                ("doc".to_owned(), text("a'b")),
                (
                    "tags".to_owned(),
                    Literal::List(vec![text("x"), text("y"), text("z")])
                ),
                (
                    "[a.b]".to_owned(),
                    Literal::Map(vec![("n".to_owned(), Literal::Word("-1".to_owned()))])
                ),
            ])
        );
        assert_eq!(read("1 2"), Literal::Word("{ 1 2 }".to_owned()));
    }
}

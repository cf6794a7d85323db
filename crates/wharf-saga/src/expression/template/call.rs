//! Intrinsic functions as they are written: `States.Name(argument, …)`, nested at most ten deep.

use serde_json::Value;

use super::super::jsonpath::{self, Path, Reader};
use super::super::meter::Meter;
use super::super::{Failure, Scope, Syntax};
use super::functions::{self, Function};

/// How deep calls may be nested, as AWS has it.
const NESTED_MAX: usize = 10;

/// A call that was understood.
#[derive(Debug)]
pub(super) struct Call {
    function: Function,
    arguments: Vec<Argument>,
}

/// An argument of a call.
#[derive(Debug)]
enum Argument {
    /// A quoted text, with its escapes.
    Text(String),
    Literal(Value),
    Path(String, Path),
    Call(Call),
}

/// Reads a whole call.
pub(super) fn parse(text: &str) -> Result<Call, Syntax> {
    let mut reader = Reader::new(text)?;
    reader.space();
    let call = call(&mut reader, 1)?;
    reader.space();
    if reader.peek().is_some() {
        return reader.fail("nothing may follow the closing `)`");
    }
    Ok(call)
}

fn call(reader: &mut Reader, depth: usize) -> Result<Call, Syntax> {
    if depth > NESTED_MAX {
        return reader.fail(format!(
            "intrinsic functions are nested deeper than {NESTED_MAX}"
        ));
    }
    if !reader.take("States.") {
        return reader.fail("a path begins with `$`, an intrinsic function with `States.`");
    }
    let at = reader.at;
    let name = reader.identifier();
    let Some(function) = Function::of(&name) else {
        return Err(Syntax::new(
            at,
            format!("there is no intrinsic function `States.{name}`"),
        ));
    };
    reader.space();
    if !reader.take("(") {
        return reader.fail("`(` is missing");
    }
    let mut arguments = Vec::new();
    reader.space();
    while !reader.take(")") {
        if !arguments.is_empty() {
            if !reader.take(",") {
                return reader.fail("`,` or `)` is missing");
            }
            reader.space();
        }
        arguments.push(argument(reader, depth)?);
        reader.space();
    }
    let (least, most) = function.arguments();
    if !(least..=most).contains(&arguments.len()) {
        let count = match most {
            usize::MAX => format!("at least {least}"),
            most if most == least => least.to_string(),
            most => format!("{least} to {most}"),
        };
        let what = format!(
            "States.{name} takes {count} arguments, not {}",
            arguments.len()
        );
        return Err(Syntax::new(at, what));
    }
    Ok(Call {
        function,
        arguments,
    })
}

fn argument(reader: &mut Reader, depth: usize) -> Result<Argument, Syntax> {
    match reader.peek() {
        Some('\'') => quoted(reader).map(Argument::Text),
        Some('$') => {
            let start = reader.at;
            let path = reader.path(false)?;
            let text = reader.chars[start..reader.at].iter().collect();
            Ok(Argument::Path(text, path))
        }
        Some('S') => call(reader, depth + 1).map(Argument::Call),
        _ => reader.literal().map(Argument::Literal),
    }
}

/// A text between `'`; the escapes stay, because `\{` means something to States.Format.
fn quoted(reader: &mut Reader) -> Result<String, Syntax> {
    reader.at += 1;
    let mut text = String::new();
    loop {
        match reader.peek() {
            None => return reader.fail("the closing ' is missing"),
            Some('\'') => {
                reader.at += 1;
                return Ok(text);
            }
            Some('\\') => {
                reader.at += 1;
                match reader.peek() {
                    Some(c @ ('\'' | '\\' | '{' | '}')) => text.extend(['\\', c]),
                    Some(c) => {
                        return reader.fail(format!(
                            "`\\{c}` is no escape; there are \\' \\\\ \\{{ and \\}}"
                        ));
                    }
                    None => return reader.fail("a character is missing after `\\`"),
                }
            }
            Some(c) => text.push(c),
        }
        reader.at += 1;
    }
}

/// The value of a call.
pub(super) fn evaluate(text: &str, scope: &Scope<'_>, meter: &mut Meter) -> Result<Value, Failure> {
    let call = parse(text).map_err(|wrong| {
        let cause = format!("Invalid expression '{text}': {wrong}");
        Failure::new(Failure::INTRINSIC, cause)
    })?;
    run(&call, scope, meter)
}

fn run(call: &Call, scope: &Scope<'_>, meter: &mut Meter) -> Result<Value, Failure> {
    let mut values = Vec::with_capacity(call.arguments.len());
    for argument in &call.arguments {
        meter.step(1)?;
        values.push(match argument {
            // States.Format looks at the escapes of its template itself.
            Argument::Text(text) if call.function == Function::Format && values.is_empty() => {
                Value::String(text.clone())
            }
            Argument::Text(text) => Value::String(unescape(text)),
            Argument::Literal(value) => value.clone(),
            Argument::Path(text, path) => {
                jsonpath::find(path, scope, meter)?.ok_or_else(|| jsonpath::missing(text))?
            }
            Argument::Call(inner) => run(inner, scope, meter)?,
        });
    }
    functions::run(call.function, values, scope, meter)
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.extend(chars.next()),
            c => plain.push(c),
        }
    }
    plain
}

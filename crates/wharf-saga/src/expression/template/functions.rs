//! What the intrinsic functions do. Limits are those of AWS where AWS names one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::super::meter::{Meter, scramble, uuid};
use super::super::{Failure, Scope};

/// How long a text for Base64 and hashes may be.
const TEXT_MAX: usize = 10_000;
/// How many numbers a range may have.
const RANGE_MAX: i64 = 1000;

macro_rules! functions {
    ($($name:ident $least:literal $most:expr,)*) => {
        /// One of the intrinsic functions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Function { $($name,)* }

        impl Function {
            /// The function of that name, without `States.`.
            pub(super) fn of(name: &str) -> Option<Self> {
                match name {
                    // The one name that is no name of a type of ours.
                    "UUID" => Some(Self::Uuid),
                    "Uuid" => None,
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }

            fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// How many arguments it takes, from and to.
            pub(super) fn arguments(self) -> (usize, usize) {
                match self { $(Self::$name => ($least, $most),)* }
            }
        }
    };
}

functions! {
    Format 1 usize::MAX,
    StringToJson 1 1,
    JsonToString 1 1,
    Array 0 usize::MAX,
    ArrayPartition 2 2,
    ArrayContains 2 2,
    ArrayRange 3 3,
    ArrayGetItem 2 2,
    ArrayLength 1 1,
    ArrayUnique 1 1,
    Base64Encode 1 1,
    Base64Decode 1 1,
    Hash 2 2,
    JsonMerge 3 3,
    MathRandom 2 3,
    MathAdd 2 2,
    StringSplit 2 2,
    Uuid 0 0,
}

/// The arguments of one call, with its name for complaints.
struct Arguments {
    function: Function,
    values: Vec<Value>,
}

impl Arguments {
    fn fail<T>(&self, what: &str) -> Result<T, Failure> {
        let cause = format!("States.{}: {what}", self.function.name());
        Err(Failure::new(Failure::INTRINSIC, cause))
    }

    fn text(&self, at: usize) -> Result<&str, Failure> {
        match self.values.get(at) {
            Some(Value::String(text)) => Ok(text),
            _ => self.fail(&format!("argument {} must be a text", at + 1)),
        }
    }

    fn short(&self, at: usize) -> Result<&str, Failure> {
        let text = self.text(at)?;
        if text.chars().count() > TEXT_MAX {
            return self.fail(&format!("the text is longer than {TEXT_MAX} characters"));
        }
        Ok(text)
    }

    fn list(&self, at: usize) -> Result<&[Value], Failure> {
        match self.values.get(at) {
            Some(Value::Array(items)) => Ok(items),
            _ => self.fail(&format!("argument {} must be a list", at + 1)),
        }
    }

    /// A number, rounded to an integer of 32 bits, as AWS does.
    fn integer(&self, at: usize) -> Result<i64, Failure> {
        let number = match self.values.get(at) {
            Some(Value::Number(number)) => number.as_f64().map(f64::round),
            _ => None,
        };
        match number {
            Some(n) if n >= f64::from(i32::MIN) && n <= f64::from(i32::MAX) =>
            {
                #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
                Ok(n as i64)
            }
            Some(_) => self.fail(&format!("argument {} is no integer of 32 bits", at + 1)),
            None => self.fail(&format!("argument {} must be a number", at + 1)),
        }
    }
}

/// The value of a call whose arguments are known.
pub(super) fn run(
    function: Function,
    values: Vec<Value>,
    scope: &Scope<'_>,
    meter: &mut Meter,
) -> Result<Value, Failure> {
    let arguments = Arguments { function, values };
    match function {
        Function::Format => format(&arguments, meter),
        Function::StringToJson => {
            let text = arguments.text(0)?;
            meter.pay(text.len())?;
            if text.trim().is_empty() {
                return Ok(Value::Null);
            }
            match serde_json::from_str(text) {
                Ok(value) => meter.finish(value),
                Err(error) => arguments.fail(&format!("the text is no JSON: {error}")),
            }
        }
        Function::JsonToString => {
            let text = arguments.values[0].to_string();
            meter.pay(text.len())?;
            Ok(Value::String(text))
        }
        Function::Array => meter.finish(Value::Array(arguments.values)),
        Function::ArrayPartition
        | Function::ArrayContains
        | Function::ArrayRange
        | Function::ArrayGetItem
        | Function::ArrayLength
        | Function::ArrayUnique => list(&arguments, meter),
        Function::Base64Encode => Ok(Value::String(STANDARD.encode(arguments.short(0)?))),
        Function::Base64Decode => {
            let decoded = STANDARD.decode(arguments.short(0)?).ok();
            match decoded.and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(text) => Ok(Value::String(text)),
                None => arguments.fail("the text is no Base64 of a text in UTF-8"),
            }
        }
        Function::Hash => hash(&arguments),
        Function::JsonMerge => merge(arguments),
        Function::MathRandom => random(&arguments, scope, meter),
        Function::MathAdd => Ok(Value::from(arguments.integer(0)? + arguments.integer(1)?)),
        Function::StringSplit => {
            let (text, at) = (arguments.text(0)?, arguments.text(1)?);
            meter.step(text.len().saturating_mul(at.len().max(1)) / 8)?;
            let parts = text
                .split(|c| at.contains(c))
                .filter(|part| !part.is_empty());
            meter.finish(parts.map(Value::from).collect())
        }
        Function::Uuid => {
            let (high, low) = (meter.random(scope.seed), meter.random(scope.seed));
            Ok(Value::String(uuid(high, low)))
        }
    }
}

fn format(arguments: &Arguments, meter: &mut Meter) -> Result<Value, Failure> {
    let template = arguments.text(0)?;
    let mut values = arguments.values[1..].iter();
    let mut text = String::with_capacity(template.len());
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\'' | '\\' | '{' | '}')) => text.push(escaped),
                Some(other) => text.extend(['\\', other]),
                None => text.push('\\'),
            },
            '{' if chars.peek() == Some(&'}') => {
                chars.next();
                let Some(value) = values.next() else {
                    return arguments.fail("there are more {} in the text than arguments");
                };
                let shown = match value {
                    Value::String(text) => text.clone(),
                    value => value.to_string(),
                };
                meter.pay(shown.len())?;
                text.push_str(&shown);
            }
            c => text.push(c),
        }
    }
    if values.next().is_some() {
        return arguments.fail("there are more arguments than {} in the text");
    }
    meter.pay(template.len())?;
    Ok(Value::String(text))
}

fn list(arguments: &Arguments, meter: &mut Meter) -> Result<Value, Failure> {
    match arguments.function {
        Function::ArrayPartition => {
            let size = usize::try_from(arguments.integer(1)?).unwrap_or(0);
            if size == 0 {
                return arguments.fail("the size of a part must be above zero");
            }
            let parts = arguments.list(0)?.chunks(size);
            Ok(parts.map(|part| Value::Array(part.to_vec())).collect())
        }
        Function::ArrayContains => {
            let items = arguments.list(0)?;
            meter.step(items.len())?;
            Ok(Value::Bool(
                items.iter().any(|item| same(item, &arguments.values[1])),
            ))
        }
        Function::ArrayRange => {
            let (first, last) = (arguments.integer(0)?, arguments.integer(1)?);
            let step = arguments.integer(2)?;
            if step == 0 {
                return arguments.fail("the step must not be zero");
            }
            let count = ((last - first) / step) + 1;
            if (last - first).signum() * step.signum() < 0 {
                return Ok(Value::Array(Vec::new()));
            }
            if count > RANGE_MAX {
                return arguments.fail(&format!("a range has at most {RANGE_MAX} numbers"));
            }
            Ok((0..count)
                .map(|at| Value::from(first + at * step))
                .collect())
        }
        Function::ArrayGetItem => {
            let at = usize::try_from(arguments.integer(1)?).ok();
            match at.and_then(|at| arguments.list(0).ok()?.get(at)) {
                Some(item) => Ok(item.clone()),
                None => {
                    arguments.list(0)?;
                    arguments.fail("the list has no item of that index")
                }
            }
        }
        Function::ArrayLength => Ok(Value::from(arguments.list(0)?.len())),
        _ => {
            let mut kept: Vec<Value> = Vec::new();
            for item in arguments.list(0)? {
                meter.step(kept.len() + 1)?;
                if !kept.iter().any(|other| same(other, item)) {
                    kept.push(item.clone());
                }
            }
            Ok(Value::Array(kept))
        }
    }
}

/// Equal as JSON: `1` and `1.0` are one number.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || left.as_f64() == right.as_f64()
        }
        _ => left == right,
    }
}

fn hash(arguments: &Arguments) -> Result<Value, Failure> {
    let data = match &arguments.values[0] {
        Value::String(_) => arguments.short(0)?.to_owned(),
        value => value.to_string(),
    };
    if data.len() > 4 * TEXT_MAX {
        return arguments.fail(&format!("the data is longer than {TEXT_MAX} characters"));
    }
    match digest(arguments.text(1)?, data.as_bytes()) {
        Some(digits) => Ok(Value::String(digits)),
        None => arguments.fail("the algorithm is MD5, SHA-1, SHA-256, SHA-384 or SHA-512"),
    }
}

/// The digest in hexadecimal digits, for both languages.
pub(in super::super) fn digest(algorithm: &str, data: &[u8]) -> Option<String> {
    fn hex(bytes: &[u8]) -> String {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        let pair = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
        bytes.iter().flat_map(pair).collect()
    }
    Some(match algorithm {
        "MD5" => hex(&md5::Md5::digest(data)),
        "SHA-1" => hex(&sha1::Sha1::digest(data)),
        "SHA-256" => hex(&Sha256::digest(data)),
        "SHA-384" => hex(&Sha384::digest(data)),
        "SHA-512" => hex(&Sha512::digest(data)),
        _ => return None,
    })
}

fn merge(mut arguments: Arguments) -> Result<Value, Failure> {
    if arguments.values[2] != Value::Bool(false) {
        return arguments.fail("only the shallow merge is supported: the third argument is false");
    }
    let second = arguments.values[1].take();
    match (arguments.values[0].take(), second) {
        (Value::Object(first), Value::Object(second)) => {
            let merged: Map<_, _> = first.into_iter().chain(second).collect();
            Ok(Value::Object(merged))
        }
        _ => arguments.fail("the first two arguments must be objects"),
    }
}

fn random(arguments: &Arguments, scope: &Scope<'_>, meter: &mut Meter) -> Result<Value, Failure> {
    let (start, end) = (arguments.integer(0)?, arguments.integer(1)?);
    let Some(span) = u64::try_from(end - start).ok().filter(|span| *span > 0) else {
        return arguments.fail("the end must be above the start");
    };
    let drawn = match arguments.values.get(2) {
        Some(_) => scramble(arguments.integer(2)?.cast_unsigned()),
        None => meter.random(scope.seed),
    };
    let offset = i64::try_from(drawn % span).unwrap_or(0);
    Ok(Value::from(start + offset))
}

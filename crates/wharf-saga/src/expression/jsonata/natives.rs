//! The functions that an expression gets from us: those of AWS, and the guards. Values go in and
//! out here. JSONata's numbers are doubles; whole ones come out as integers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use jsonata_core::evaluator::{Evaluator, EvaluatorError};
use jsonata_core::value::JValue;
use serde_json::{Map, Number, Value};

use super::super::meter::{Meter, scramble, uuid};
use super::super::template::digest;
use super::super::{Budget, Failure};
use super::guard;

/// How large something may be for a moment, in multiples of the budget's bytes.
const PASSING: usize = 64;
/// Above this a double does not hold every integer.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// How many numbers a range may have.
const RANGE_MAX: usize = 1000;

type Native = fn(&Shared, &[JValue]) -> Answer;
type Answer = Result<JValue, EvaluatorError>;

/// What the functions of one run share.
#[derive(Clone, Debug)]
pub(super) struct Shared(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    meter: Meter,
    seed: u64,
    failure: Option<Failure>,
    /// The size of the text of each call of `$join` and `$replace`.
    texts: HashMap<u64, usize>,
}

impl Shared {
    pub(super) fn new(seed: u64, budget: Budget) -> Self {
        Self(Rc::new(RefCell::new(State {
            meter: Meter::new(budget),
            seed,
            failure: None,
            texts: HashMap::new(),
        })))
    }

    /// Why the expression was stopped, if it was.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.0.borrow_mut().failure.take()
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T, Failure>,
    ) -> Result<T, EvaluatorError> {
        let state = &mut *self.0.borrow_mut();
        work(state).map_err(|failure| {
            let error = EvaluatorError::EvaluationError(failure.cause.clone());
            state.failure = Some(failure);
            error
        })
    }

    fn random(&self) -> u64 {
        let state = &mut *self.0.borrow_mut();
        state.meter.random(state.seed)
    }
}

/// Our functions: the name, what must stand in the text of an expression for it to be called, and
/// what it does. The guards of other functions are called where those are.
static ALL: [(&str, &[&str], Native); 14] = [
    (guard::GUARD, &[""], measured),
    (guard::STEP, &[""], step),
    (guard::FIRST, &["join", "replace"], first),
    (guard::FACTOR, &["join", "replace"], factor),
    (guard::WIDTH, &["pad"], width),
    (guard::PICTURE, &["toMillis"], picture),
    ("partition", &["partition"], partition),
    ("range", &["range"], range),
    ("hash", &["hash"], hash),
    ("random", &["random"], random),
    ("shuffle", &["shuffle"], shuffle),
    ("parse", &["parse"], parse),
    ("uuid", &["uuid"], fresh_uuid),
    ("eval", &["eval"], no_eval),
];

/// Some of our functions, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Natives(u16);

impl Natives {
    /// All that an expression may call. A function can only be named by its name as it is, and there
    /// is no `$eval`; a name that stands there for something else does no harm.
    pub(super) fn of(text: &str) -> Self {
        let needed = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let bits = ALL.iter().enumerate();
        let bits = bits.filter(|(_, (_, words, _))| needed(words));
        Self(bits.fold(0, |all, (at, _)| all | 1 << at))
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Gives an evaluator functions of ours.
pub(super) fn register(
    evaluator: &mut Evaluator,
    natives: Natives,
    shared: &Shared,
) -> Result<(), EvaluatorError> {
    for (at, (name, _, function)) in ALL.iter().enumerate() {
        if natives.0 & 1 << at != 0 {
            let shared = shared.clone();
            evaluator
                .register_fn_override(*name, move |args: &[JValue]| function(&shared, args))?;
        }
    }
    Ok(())
}

fn step(shared: &Shared, _: &[JValue]) -> Answer {
    shared.with(|state| state.meter.step(1))?;
    Ok(JValue::Undefined)
}

fn fresh_uuid(shared: &Shared, _: &[JValue]) -> Answer {
    Ok(JValue::from(uuid(shared.random(), shared.random())))
}

fn no_eval(_: &Shared, _: &[JValue]) -> Answer {
    wrong("there is no `$eval`")
}

fn wrong(what: &str) -> Answer {
    Err(EvaluatorError::EvaluationError(what.to_owned()))
}

fn argument(args: &[JValue], at: usize) -> JValue {
    args.get(at).cloned().unwrap_or(JValue::Undefined)
}

/// The size of a value, counted no further than it may be.
fn size(value: &JValue, meter: &mut Meter, depth: usize) -> Result<usize, Failure> {
    let most = meter.budget().bytes;
    meter.step(1)?;
    meter.deep(depth)?;
    let size = match value {
        JValue::String(text) => {
            meter.step(text.len() / 64)?;
            text.len().saturating_add(2)
        }
        JValue::Array(items) => {
            let mut sum = 2_usize;
            for item in items {
                sum = sum.saturating_add(size(item, meter, depth + 1)? + 1);
                if sum > most {
                    break;
                }
            }
            sum
        }
        JValue::Object(fields) => {
            let mut sum = 2_usize;
            for (name, item) in fields.iter() {
                sum = sum.saturating_add(name.len() + 4 + size(item, meter, depth + 1)?);
                if sum > most {
                    break;
                }
            }
            sum
        }
        _ => 4,
    };
    if size > most {
        return Err(too_large(most));
    }
    Ok(size)
}

fn too_large(most: usize) -> Failure {
    let cause = format!("a value of the expression is larger than {most} bytes");
    Failure::new(Failure::DATA_LIMIT, cause)
}

fn measured(shared: &Shared, args: &[JValue]) -> Answer {
    let value = argument(args, 0);
    shared.with(|state| size(&value, &mut state.meter, 0))?;
    Ok(value)
}

fn id(args: &[JValue]) -> u64 {
    args.get(1).and_then(JValue::as_f64).map_or(0, f64::to_bits)
}

fn first(shared: &Shared, args: &[JValue]) -> Answer {
    let value = argument(args, 0);
    shared.with(|state| {
        let size = size(&value, &mut state.meter, 0)?;
        let kept = state.texts.entry(id(args)).or_default();
        *kept = size.max(*kept);
        Ok(())
    })?;
    Ok(value)
}

fn factor(shared: &Shared, args: &[JValue]) -> Answer {
    let value = argument(args, 0);
    shared.with(|state| {
        let own = size(&value, &mut state.meter, 0)?;
        // A text that comes from the context was not measured: it is as large as it may be.
        let most = state.meter.budget().bytes;
        let text = state.texts.get(&id(args)).copied().unwrap_or(most);
        if own.saturating_mul(text) > most.saturating_mul(PASSING) && own > PASSING {
            return Err(too_large(most));
        }
        Ok(())
    })?;
    Ok(value)
}

fn width(shared: &Shared, args: &[JValue]) -> Answer {
    let value = argument(args, 0);
    shared.with(|state| {
        let most = state.meter.budget().bytes;
        let wide = value.as_f64().unwrap_or_default().abs();
        #[expect(clippy::cast_precision_loss, reason = "a limit, not a value")]
        if wide > most as f64 {
            return Err(too_large(most));
        }
        Ok(())
    })?;
    Ok(value)
}

fn picture(_: &Shared, args: &[JValue]) -> Answer {
    let value = argument(args, 0);
    if value
        .as_str()
        .is_some_and(|picture| !picture.contains("[Y") && !picture.contains("[X"))
    {
        return wrong(
            "the picture of $toMillis must read a year: what is missing would come from a clock",
        );
    }
    Ok(value)
}

fn partition(_: &Shared, args: &[JValue]) -> Answer {
    let (list, size) = (argument(args, 0), argument(args, 1).as_i64());
    let (Some(items), Some(size)) = (list.as_array(), size) else {
        return wrong("$partition takes a list and a size");
    };
    match usize::try_from(size) {
        Ok(size) if size > 0 => {
            let parts = items.chunks(size).map(|part| JValue::array(part.to_vec()));
            Ok(JValue::array(parts.collect()))
        }
        _ => wrong("$partition: the size of a part must be above zero"),
    }
}

fn range(shared: &Shared, args: &[JValue]) -> Answer {
    let number = |at: usize| argument(args, at).as_i64();
    let (Some(first), Some(last), Some(step)) = (number(0), number(1), number(2)) else {
        return wrong("$range takes three integers: first, last and step");
    };
    if step == 0 {
        return wrong("$range: the step must not be zero");
    }
    let mut numbers = Vec::new();
    let mut next = first;
    while if step > 0 { next <= last } else { next >= last } {
        if numbers.len() == RANGE_MAX {
            return wrong("$range: a range has at most 1000 numbers");
        }
        numbers.push(JValue::from_i64(next));
        let Some(after) = next.checked_add(step) else {
            break;
        };
        next = after;
    }
    shared.with(|state| state.meter.step(numbers.len()))?;
    Ok(JValue::array(numbers))
}

fn hash(shared: &Shared, args: &[JValue]) -> Answer {
    let data = argument(args, 0);
    let text = match &data {
        JValue::String(text) => text.to_string(),
        JValue::Undefined => return wrong("$hash takes data and the name of an algorithm"),
        data => data.to_json_string().unwrap_or_default(),
    };
    shared.with(|state| state.meter.step(text.len() / 8))?;
    let algorithm = argument(args, 1);
    let digits = algorithm
        .as_str()
        .and_then(|name| digest(name, text.as_bytes()));
    match digits {
        Some(digits) => Ok(JValue::from(digits)),
        None => wrong("$hash: the algorithm is MD5, SHA-1, SHA-256, SHA-384 or SHA-512"),
    }
}

fn random(shared: &Shared, args: &[JValue]) -> Answer {
    let drawn = match argument(args, 0).as_f64() {
        Some(seed) => scramble(seed.to_bits()),
        None => shared.random(),
    };
    // The upper 53 bits as a fraction.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let fraction = (drawn >> 11) as f64 / WHOLE_MAX;
    Ok(JValue::from_f64(fraction))
}

fn shuffle(shared: &Shared, args: &[JValue]) -> Answer {
    let mut items = match argument(args, 0) {
        JValue::Array(items) => items.into_vec(),
        JValue::Undefined => return Ok(JValue::Undefined),
        single => vec![single],
    };
    shared.with(|state| state.meter.step(items.len()))?;
    for at in (1..items.len()).rev() {
        let among = u64::try_from(at).unwrap_or(0) + 1;
        let other = usize::try_from(shared.random() % among).unwrap_or(0);
        items.swap(at, other);
    }
    Ok(JValue::array(items))
}

fn parse(shared: &Shared, args: &[JValue]) -> Answer {
    let text = argument(args, 0);
    let Some(text) = text.as_str() else {
        return wrong("$parse takes a text");
    };
    match serde_json::from_str::<Value>(text) {
        Ok(value) => shared.with(|state| from_json(&value, &mut state.meter, 0)),
        Err(error) => wrong(&format!("$parse: the text is no JSON: {error}")),
    }
}

/// A value of ours as one of JSONata's.
pub(super) fn from_json(value: &Value, meter: &mut Meter, depth: usize) -> Result<JValue, Failure> {
    meter.step(1)?;
    meter.deep(depth)?;
    Ok(match value {
        Value::Null => JValue::Null,
        Value::Bool(value) => JValue::Bool(*value),
        Value::Number(number) => JValue::from_f64(number.as_f64().unwrap_or_default()),
        Value::String(text) => {
            meter.step(text.len() / 64)?;
            JValue::from(text.as_str())
        }
        Value::Array(items) => {
            let items = items.iter().map(|item| from_json(item, meter, depth + 1));
            JValue::array(items.collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, item)| {
                let item = from_json(item, meter, depth + 1)?;
                Ok((name.clone(), item))
            });
            JValue::object(fields.collect::<Result<_, Failure>>()?)
        }
    })
}

/// A value of JSONata's as one of ours; none when there is a function in it.
pub(super) fn to_json(
    value: &JValue,
    meter: &mut Meter,
    depth: usize,
) -> Result<Option<Value>, Failure> {
    meter.pay(4)?;
    meter.deep(depth)?;
    Ok(Some(match value {
        JValue::Null | JValue::Undefined => Value::Null,
        JValue::Bool(value) => Value::Bool(*value),
        JValue::Number(number) => json_number(*number)?,
        JValue::String(text) => {
            meter.pay(text.len())?;
            Value::String(text.to_string())
        }
        JValue::Array(items) => {
            let mut all = Vec::new();
            for item in items {
                match to_json(item, meter, depth + 1)? {
                    Some(item) => all.push(item),
                    None => return Ok(None),
                }
            }
            Value::Array(all)
        }
        JValue::Object(fields) => {
            let mut all = Map::new();
            for (name, item) in fields.iter() {
                meter.pay(name.len())?;
                match to_json(item, meter, depth + 1)? {
                    Some(item) => all.insert(name.clone(), item),
                    None => return Ok(None),
                };
            }
            Value::Object(all)
        }
        _ => return Ok(None),
    }))
}

fn json_number(number: f64) -> Result<Value, Failure> {
    if number.fract() == 0.0 && number.abs() <= WHOLE_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
        let whole = number as i64;
        return Ok(Value::from(whole));
    }
    let number = Number::from_f64(number).map(Value::Number);
    number.ok_or_else(|| {
        let cause = "The JSONata expression gave a number that is not finite";
        Failure::new(Failure::QUERY, cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_gets_the_functions_that_it_names_and_the_guards_of_those_it_calls() {
        let named = |text| {
            let natives = Natives::of(text);
            let named = ALL.iter().enumerate();
            let named = named.filter(|(at, _)| natives.0 & 1 << at != 0);
            named.map(|(_, (name, ..))| *name).collect::<Vec<_>>()
        };
        let always = [guard::GUARD, guard::STEP];
        assert_eq!(named("{% $states.input.total %}"), always);
        let joined = named("{% $map($states.input, $uuid) ~> $join(',') %}");
        assert_eq!(joined[..2], always);
        assert_eq!(joined[2..], [guard::FIRST, guard::FACTOR, "uuid"]);
        assert!(named("{% $pad('a', 3) & $toMillis('2026', '[Y]') %}").contains(&guard::WIDTH));
        // All at once: no other function of the language is left that needs a guard.
        let all = "join pad toMillis partition range hash random shuffle parse uuid eval";
        assert_eq!(named(all).len(), ALL.len());
    }
}

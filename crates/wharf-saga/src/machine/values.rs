//! How data goes through a state, in AWS's order: `InputPath` → `Parameters` → result →
//! `ResultSelector` → `ResultPath` → `OutputPath`, or `Arguments` → result → `Output`; `Assign` is
//! evaluated beside the output, from the same data.
//!
//! Expressions are evaluated here and nowhere else in the machine, and only when deciding.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use wharf_message::Timestamp;

use super::data::Data;
use super::input::{Env, Failure};
use crate::definition::{Assign, Catcher, Data as Fields, Given, QueryLanguage, Selection, State};
use crate::expression::{self, Budget, Scope, jsonata, jsonpath, template};

/// What the expressions of one state may see besides its data.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) context: Value,
    pub(super) variables: Map<String, Value>,
}

/// Evaluates the expressions of one state.
#[derive(Debug)]
pub(super) struct Values<'a> {
    state: &'a State,
    env: &'a Env<'a>,
    around: &'a Surroundings,
    seed: u64,
}

/// What leaves a state: its output, and the variables it sets.
pub(super) type Leaving = (Data, BTreeMap<String, Data>);

impl<'a> Values<'a> {
    /// For this state; `visit` makes every visit and attempt draw numbers of its own.
    pub(super) fn new(
        state: &'a State,
        env: &'a Env<'a>,
        around: &'a Surroundings,
        visit: u64,
    ) -> Self {
        Self {
            state,
            env,
            around,
            seed: mix(env.seed ^ visit),
        }
    }

    fn budget(&self) -> Budget {
        Budget {
            bytes: self.env.payload_max,
            ..Budget::default()
        }
    }

    /// A scope for one field. Every field has its own seed.
    fn scope<'s>(&'s self, input: &'s Value, field: u64) -> Scope<'s> {
        Scope {
            input,
            result: None,
            error_output: None,
            context: &self.around.context,
            variables: &self.around.variables,
            now: self.env.now,
            seed: mix(self.seed ^ field),
        }
    }

    /// `InputPath`; in JSONata the input itself.
    pub(super) fn effective(&self, input: &Data) -> Result<Data, Failure> {
        match &self.state.data {
            Fields::Path(fields) => self.select(&fields.input_path, input),
            Fields::Jsonata(_) => Ok(input.clone()),
        }
    }

    fn select(&self, selection: &Selection, from: &Data) -> Result<Data, Failure> {
        if matches!(selection, Selection::All) {
            return Ok(from.clone());
        }
        let found = jsonpath::select(selection, &self.scope(from, 1), self.budget())?;
        Ok(found.into())
    }

    /// What goes to the work: `Parameters` or `Arguments`, and the input where there is none.
    pub(super) fn arguments(&self, input: &Data) -> Result<Data, Failure> {
        match &self.state.data {
            Fields::Path(fields) => {
                let effective = self.effective(input)?;
                let Some(parameters) = &fields.parameters else {
                    return Ok(effective);
                };
                Ok(template::fill(parameters, &self.scope(&effective, 2), self.budget())?.into())
            }
            Fields::Jsonata(fields) => {
                let Some(arguments) = &fields.arguments else {
                    return Ok(input.clone());
                };
                Ok(jsonata::fill(arguments, &self.scope(input, 2), self.budget())?.into())
            }
        }
    }

    /// A template in the state's language over this input: `ItemSelector`, `Items`.
    pub(super) fn fill(&self, what: &Value, input: &Data, field: u64) -> Result<Data, Failure> {
        let scope = self.scope(input, field);
        let value = match self.state.language() {
            QueryLanguage::JsonPath => template::fill(what, &scope, self.budget())?,
            QueryLanguage::Jsonata => jsonata::fill(what, &scope, self.budget())?,
        };
        Ok(value.into())
    }

    /// What a path finds in this input: `ItemsPath`.
    pub(super) fn path(&self, path: &str, input: &Data) -> Result<Data, Failure> {
        if path == "$" {
            return Ok(input.clone());
        }
        Ok(jsonpath::value(path, &self.scope(input, 3), self.budget())?.into())
    }

    /// The condition of a rule.
    pub(super) fn holds(
        &self,
        condition: &crate::definition::Condition,
        input: &Data,
        rule: u64,
    ) -> Result<bool, Failure> {
        let scope = self.scope(input, 100 + rule);
        Ok(expression::choice::holds(condition, &scope, self.budget())?)
    }

    /// What leaves a state that did work (Task, Parallel, Map, Pass) with this result.
    pub(super) fn leave_with(&self, input: &Data, result: &Data) -> Result<Leaving, Failure> {
        match &self.state.data {
            Fields::Path(fields) => {
                let selected = match &fields.result_selector {
                    Some(selector) => Data::from(template::fill(
                        selector,
                        &self.scope(result, 4),
                        self.budget(),
                    )?),
                    None => result.clone(),
                };
                let combined = match &fields.result_path {
                    Selection::All => selected,
                    Selection::Nothing => input.clone(),
                    at @ Selection::At(_) => {
                        let result = selected.value().clone();
                        jsonpath::put(at, input, result, self.budget())?.into()
                    }
                };
                let output = self.select(&fields.output_path, &combined)?;
                let assigned = self.assign(&fields.assign, &self.scope(result, 5))?;
                self.fits(&output).map(|()| (output, assigned))
            }
            Fields::Jsonata(fields) => {
                let output = self.output(fields.output.as_ref(), input, Some(result), result)?;
                let scope = Scope {
                    result: Some(result),
                    ..self.scope(input, 5)
                };
                let assigned = self.assign(&fields.assign, &scope)?;
                self.fits(&output).map(|()| (output, assigned))
            }
        }
    }

    /// What leaves a state that did none (Choice, Wait, Succeed). A rule of a Choice may have its
    /// own `Output` and `Assign`.
    pub(super) fn leave(
        &self,
        input: &Data,
        rule: Option<(Option<&Value>, &Assign)>,
    ) -> Result<Leaving, Failure> {
        let (output, assigned) = match &self.state.data {
            Fields::Path(fields) => {
                let effective = self.effective(input)?;
                let output = self.select(&fields.output_path, &effective)?;
                let assign = rule.map_or(&fields.assign, |(_, assign)| assign);
                (output, self.assign(assign, &self.scope(&effective, 5))?)
            }
            Fields::Jsonata(fields) => {
                let own = rule.and_then(|(output, _)| output);
                let output = self.output(own.or(fields.output.as_ref()), input, None, input)?;
                let assign = rule.map_or(&fields.assign, |(_, assign)| assign);
                (output, self.assign(assign, &self.scope(input, 5))?)
            }
        };
        self.fits(&output)?;
        Ok((output, assigned))
    }

    /// What leaves a state through a `Catch`.
    pub(super) fn leave_caught(
        &self,
        input: &Data,
        catcher: &Catcher,
        failure: &Failure,
    ) -> Result<Leaving, Failure> {
        let error = Data::from(json!({ "Error": failure.error, "Cause": failure.cause }));
        let (output, assigned) = match self.state.language() {
            QueryLanguage::JsonPath => {
                let output = match &catcher.result_path {
                    Selection::All => error.clone(),
                    Selection::Nothing => input.clone(),
                    at @ Selection::At(_) => {
                        jsonpath::put(at, input, error.value().clone(), self.budget())?.into()
                    }
                };
                (
                    output,
                    self.assign(&catcher.assign, &self.scope(&error, 6))?,
                )
            }
            QueryLanguage::Jsonata => {
                let scope = Scope {
                    error_output: Some(&error),
                    ..self.scope(input, 6)
                };
                let output = match &catcher.output {
                    Some(output) => jsonata::fill(output, &scope, self.budget())?.into(),
                    None => error.clone(),
                };
                let scope = Scope {
                    seed: mix(scope.seed),
                    ..scope
                };
                (output, self.assign(&catcher.assign, &scope)?)
            }
        };
        self.fits(&output)?;
        Ok((output, assigned))
    }

    fn output(
        &self,
        output: Option<&Value>,
        input: &Data,
        result: Option<&Data>,
        default: &Data,
    ) -> Result<Data, Failure> {
        let Some(output) = output else {
            return Ok(default.clone());
        };
        let scope = Scope {
            result: result.map(Data::value),
            ..self.scope(input, 4)
        };
        Ok(jsonata::fill(output, &scope, self.budget())?.into())
    }

    fn assign(
        &self,
        assign: &Assign,
        scope: &Scope<'_>,
    ) -> Result<BTreeMap<String, Data>, Failure> {
        if assign.is_empty() {
            return Ok(BTreeMap::new());
        }
        let values = match self.state.language() {
            QueryLanguage::JsonPath => template::assign(assign, scope, self.budget())?,
            QueryLanguage::Jsonata => jsonata::assign(assign, scope, self.budget())?,
        };
        let values = values.into_iter();
        Ok(values.map(|(name, value)| (name, value.into())).collect())
    }

    /// What goes to the undo of a step: its `Parameters` or `Arguments`, and without them the
    /// step's input and result. In JSONPath `$` and `$states` both hold `input` and `result`.
    pub(super) fn undo_arguments(
        &self,
        what: Option<&Value>,
        input: &Data,
        result: Option<&Data>,
    ) -> Result<Data, Failure> {
        let null = Value::Null;
        let result = result.map_or(&null, Data::value);
        let both = || json!({ "input": input.value(), "result": result });
        let Some(what) = what else {
            return Ok(both().into());
        };
        let value = match self.state.language() {
            QueryLanguage::JsonPath => {
                let both = both();
                let mut variables = self.around.variables.clone();
                variables.insert("states".to_owned(), both.clone());
                let scope = Scope {
                    variables: &variables,
                    ..self.scope(&both, 7)
                };
                template::fill(what, &scope, self.budget())?
            }
            QueryLanguage::Jsonata => {
                let scope = Scope {
                    result: Some(result),
                    ..self.scope(input, 7)
                };
                jsonata::fill(what, &scope, self.budget())?
            }
        };
        Ok(value.into())
    }

    /// A number that stands there or comes from an expression.
    pub(super) fn number(
        &self,
        given: &Given<u64>,
        input: &Data,
        name: &str,
    ) -> Result<u64, Failure> {
        match given {
            Given::Fixed(number) => Ok(*number),
            Given::From(text) => {
                let value = self.single(text, input, 8)?;
                let whole = value.as_u64().or_else(|| {
                    let float = value.as_f64()?;
                    // Up to 2^53 every whole number is a double of its own.
                    let fits = (0.0..=9_007_199_254_740_992.0).contains(&float);
                    (fits && float.fract() == 0.0).then_some(float as u64)
                });
                whole.ok_or_else(|| {
                    self.failed(format!(
                        "{name} must be a whole number that is not negative, and '{text}' gave \
                         {value}"
                    ))
                })
            }
        }
    }

    /// A number with a fraction.
    pub(super) fn fraction(
        &self,
        given: &Given<f64>,
        input: &Data,
        name: &str,
    ) -> Result<f64, Failure> {
        match given {
            Given::Fixed(number) => Ok(*number),
            Given::From(text) => {
                let value = self.single(text, input, 9)?;
                value.as_f64().ok_or_else(|| {
                    self.failed(format!(
                        "{name} must be a number, and '{text}' gave {value}"
                    ))
                })
            }
        }
    }

    /// A text.
    pub(super) fn text(
        &self,
        given: &Given<String>,
        input: &Data,
        name: &str,
    ) -> Result<String, Failure> {
        match given {
            Given::Fixed(text) => Ok(text.clone()),
            Given::From(expression) => match self.single(expression, input, 10)? {
                Value::String(text) => Ok(text),
                other => Err(self.failed(format!(
                    "{name} must be a text, and '{expression}' gave {other}"
                ))),
            },
        }
    }

    /// A moment.
    pub(super) fn moment(&self, given: &Given<String>, input: &Data) -> Result<Timestamp, Failure> {
        let text = self.text(given, input, "Timestamp")?;
        moment(&text).ok_or_else(|| {
            self.failed(format!(
                "Timestamp must be a moment of RFC 3339 such as 2026-01-01T00:00:00Z, not '{text}'"
            ))
        })
    }

    fn single(&self, text: &str, input: &Data, field: u64) -> Result<Value, Failure> {
        let effective = self.effective(input)?;
        let scope = self.scope(&effective, field);
        Ok(expression::evaluate(
            self.state.language(),
            text,
            &scope,
            self.budget(),
        )?)
    }

    fn failed(&self, cause: String) -> Failure {
        let error = match self.state.language() {
            QueryLanguage::JsonPath => expression::Failure::RUNTIME,
            QueryLanguage::Jsonata => expression::Failure::QUERY,
        };
        Failure {
            error: error.to_owned(),
            cause,
            declared: false,
        }
    }

    /// Whether a value is small enough to be passed on.
    pub(super) fn fits(&self, value: &Value) -> Result<(), Failure> {
        fits(value, self.env.payload_max)
    }
}

/// Whether a value is at most so large, as JSON.
pub(super) fn fits(value: &Value, max: usize) -> Result<(), Failure> {
    let size = size(value);
    if size <= max {
        return Ok(());
    }
    Err(Failure {
        error: expression::Failure::DATA_LIMIT.to_owned(),
        cause: format!("The value has {size} bytes of JSON, and at most {max} are allowed"),
        declared: false,
    })
}

/// How large a value is, as JSON.
pub(super) fn size(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX,
    }
}

/// A moment of RFC 3339, with any offset.
fn moment(text: &str) -> Option<Timestamp> {
    if let Some(time) = Timestamp::parse_rfc3339(text) {
        return Some(time);
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let sign = match offset.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = offset[1..].split_once(':')?;
    let number = |text: &str, below: i64| {
        let number: i64 = text.parse().ok()?;
        (text.len() == 2 && (0..below).contains(&number)).then_some(number)
    };
    let minutes = number(hours, 24)? * 60 + number(minutes, 60)?;
    let local = Timestamp::parse_rfc3339(&format!("{local}Z"))?;
    let millis = local.as_millis() - sign * minutes * 60_000;
    (millis >= 0).then(|| Timestamp::from_millis(millis))
}

/// Whether an expression anywhere in the definition of this state may read the context object,
/// which is not worth building otherwise.
pub(super) fn reads_context(state: &State, also: &[Option<&Value>]) -> bool {
    let mut texts = Vec::new();
    match &state.data {
        Fields::Path(fields) => {
            for selection in [&fields.input_path, &fields.output_path] {
                if let Selection::At(path) = selection
                    && path.contains("$$")
                {
                    return true;
                }
            }
            texts.extend(&fields.parameters);
            texts.extend(&fields.result_selector);
            texts.extend(fields.assign.values());
        }
        Fields::Jsonata(fields) => {
            texts.extend(&fields.arguments);
            texts.extend(&fields.output);
            texts.extend(fields.assign.values());
        }
    }
    for catcher in &state.catch {
        texts.extend(&catcher.output);
        texts.extend(catcher.assign.values());
    }
    texts.extend(also.iter().copied().flatten());
    while let Some(value) = texts.pop() {
        match value {
            Value::String(text) if mentions_context(text) => return true,
            Value::Array(items) => texts.extend(items),
            Value::Object(fields) => texts.extend(fields.values()),
            _ => {}
        }
    }
    false
}

/// In JSONPath it is `$$`; in JSONata `$states.context`, or `$states` as a whole.
pub(super) fn mentions_context(text: &str) -> bool {
    text.contains("$$")
        || text.contains("context")
        || text.matches("$states").count() != text.matches("$states.").count()
}

/// Spreads the bits of a seed.
pub(super) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl From<expression::Failure> for Failure {
    fn from(failure: expression::Failure) -> Self {
        Self {
            error: failure.error.to_owned(),
            cause: failure.cause,
            declared: false,
        }
    }
}

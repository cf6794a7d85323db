//! `{% … %}` in any JSON value: `Arguments`, `Output`, `Assign`, `Items`, `Condition`.
//!
//! The language itself is a crate's; here is what AWS changes of it, and what keeps an expression
//! within its budget. There is no document: `$` and `$$` are undefined, data comes from `$states`
//! and the variables. Nothing that reads a clock or draws random numbers may be reached.

mod guard;
mod natives;
mod parsed;

use jsonata_core::ast::AstNode;
use jsonata_core::evaluator::{Context, Evaluator, EvaluatorOptions};
use jsonata_core::value::JValue;
use serde_json::{Map, Value};

use self::natives::{Natives, Shared};
use super::meter::Meter;
use super::{Budget, Failure, Scope, Syntax};

/// How long an expression may be.
const LENGTH_MAX: usize = 16 * 1024;
/// The last line behind what is counted: what no count sees is stopped after so long.
const TIME_MAX_MILLIS: u64 = 2_000;

/// The value with every text `{% … %}` replaced by what the expression gives.
pub fn fill(template: &Value, scope: &Scope<'_>, budget: Budget) -> Result<Value, Failure> {
    let mut run = Run::new(scope, budget);
    let filled = run.fill(template, 0)?;
    Meter::new(budget).finish(filled)
}

/// The variables that an `Assign` sets.
pub fn assign(
    template: &Map<String, Value>,
    scope: &Scope<'_>,
    budget: Budget,
) -> Result<Map<String, Value>, Failure> {
    let mut run = Run::new(scope, budget);
    run.object(template, 0)
}

/// The value of one expression, with its `{%` and `%}`.
pub fn value(text: &str, scope: &Scope<'_>, budget: Budget) -> Result<Value, Failure> {
    Run::new(scope, budget).evaluate(text)
}

/// Whether a text is an expression: it begins with `{%` and ends with `%}`.
pub fn is_expression(text: &str) -> bool {
    text.len() >= 4 && text.starts_with("{%") && text.ends_with("%}")
}

/// Everything in a value that is not written right.
pub fn check(template: &Value) -> Vec<Syntax> {
    let mut wrong = Vec::new();
    check_in(template, "", 0, &mut wrong);
    wrong
}

/// Whether one expression, with its `{%` and `%}`, is written right. Where it goes wrong inside is
/// in the sentence; the position is that of the expression.
pub fn check_value(text: &str) -> Result<(), Syntax> {
    parse(text).map(|_| ())
}

fn parse(text: &str) -> Result<AstNode, Syntax> {
    if !is_expression(text) {
        let what = "a JSONata expression begins with `{%` and ends with `%}`";
        return Err(Syntax::new(0, what));
    }
    if text.len() > LENGTH_MAX {
        let what = format!("an expression has at most {LENGTH_MAX} bytes");
        return Err(Syntax::new(LENGTH_MAX, what));
    }
    let inner = &text[2..text.len() - 2];
    let start = 2 + inner.len() - inner.trim_start().len();
    guard::shallow(inner).map_err(|(at, what)| Syntax::new(2 + at, what))?;
    let parsed = jsonata_core::parser::parse(inner)
        .map_err(|error| Syntax::new(start, error.display_message()))?;
    guard::allowed(&parsed).map_err(|what| Syntax::new(start, what))?;
    Ok(parsed)
}

fn check_in(template: &Value, pointer: &str, depth: usize, wrong: &mut Vec<Syntax>) {
    if depth > 200 {
        return;
    }
    match template {
        Value::String(text) => {
            // AWS takes a text with one of the two for a mistake.
            if (text.starts_with("{%") || text.ends_with("%}"))
                && let Err(found) = check_value(text)
            {
                let pointer = pointer.to_owned();
                wrong.push(Syntax { pointer, ..found });
            }
        }
        Value::Object(fields) => {
            for (name, template) in fields {
                let step = name.replace('~', "~0").replace('/', "~1");
                check_in(template, &format!("{pointer}/{step}"), depth + 1, wrong);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                check_in(item, &format!("{pointer}/{at}"), depth + 1, wrong);
            }
        }
        _ => {}
    }
}

/// Expressions over one scope, with one budget between them.
struct Run<'a> {
    scope: &'a Scope<'a>,
    shared: Shared,
    meter: Meter,
    /// Made when it is first needed.
    ready: Option<Ready>,
}

/// An evaluator for the expressions of one scope, and which of our functions it has.
struct Ready {
    evaluator: Evaluator,
    natives: Natives,
}

impl<'a> Run<'a> {
    fn new(scope: &'a Scope<'a>, budget: Budget) -> Self {
        let shared = Shared::new(scope.seed, budget);
        let meter = Meter::new(budget);
        Self {
            scope,
            shared,
            meter,
            ready: None,
        }
    }

    fn fill(&mut self, template: &Value, depth: usize) -> Result<Value, Failure> {
        self.meter.step(1)?;
        self.meter.deep(depth)?;
        match template {
            Value::String(text) if is_expression(text) => self.evaluate(text),
            Value::Object(fields) => Ok(Value::Object(self.object(fields, depth)?)),
            Value::Array(items) => {
                let items = items.iter().map(|item| self.fill(item, depth + 1));
                Ok(Value::Array(items.collect::<Result<_, _>>()?))
            }
            plain => self.meter.copy(plain),
        }
    }

    fn object(
        &mut self,
        fields: &Map<String, Value>,
        depth: usize,
    ) -> Result<Map<String, Value>, Failure> {
        let mut filled = Map::new();
        for (name, template) in fields {
            self.meter.pay(name.len())?;
            filled.insert(name.clone(), self.fill(template, depth + 1)?);
        }
        Ok(filled)
    }

    fn evaluate(&mut self, text: &str) -> Result<Value, Failure> {
        let fail = |what: &str| {
            let cause = format!("The JSONata expression '{text}' {what}");
            Failure::new(Failure::QUERY, cause)
        };
        self.meter.step(text.len())?;
        let expression = parsed::guarded_at(text, self.scope.now.as_millis())
            .map_err(|wrong| fail(&format!("is not valid: {wrong}")))?;
        // One that failed is not used again: the run ends with it.
        let mut ready = match self.ready.take() {
            Some(ready) => ready,
            None => self.make_ready()?,
        };
        let new = expression.natives.without(ready.natives);
        natives::register(&mut ready.evaluator, new, &self.shared)
            .map_err(|error| fail(&format!("cannot be evaluated: {error}")))?;
        ready.natives = ready.natives.with(new);
        let outcome = ready
            .evaluator
            .evaluate(&expression.node, &JValue::Undefined);
        let value = match (outcome, self.shared.failure()) {
            (_, Some(failure)) => return Err(failure),
            (Err(error), None) => {
                return Err(fail(&format!("threw an error: {}", error.message())));
            }
            (Ok(value), None) => value,
        };
        self.ready = Some(ready);
        match value {
            JValue::Undefined => Err(fail("returned nothing (undefined)")),
            value => natives::to_json(&value, &mut self.meter, 0).and_then(|value| {
                value.ok_or_else(|| fail("returned a function, which is no JSON"))
            }),
        }
    }

    /// An evaluator that knows `$states` and the variables. What an expression binds is gone behind
    /// it, so the next one of the same scope sees the same.
    fn make_ready(&mut self) -> Result<Ready, Failure> {
        let (scope, mut context) = (self.scope, Context::new());
        for (name, value) in scope.variables {
            let value = natives::from_json(value, &mut self.meter, 0)?;
            context.bind(name.clone(), value);
        }
        let fields = [
            ("input", Some(scope.input)),
            ("result", scope.result),
            ("errorOutput", scope.error_output),
            ("context", Some(scope.context)),
        ];
        let mut states = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            if let Some(value) = value {
                let value = natives::from_json(value, &mut self.meter, 0)?;
                states.push((name.to_owned(), value));
            }
        }
        let states = JValue::object(states.into_iter().collect());
        context.bind("states".to_owned(), states);
        let budget = self.meter.budget();
        let options = EvaluatorOptions {
            timeout_ms: Some(TIME_MAX_MILLIS),
            max_stack_depth: Some(budget.depth.saturating_mul(10)),
            max_sequence_length: Some(budget.bytes / 2),
            ..EvaluatorOptions::default()
        };
        Ok(Ready {
            evaluator: Evaluator::with_options(context, options),
            natives: Natives::default(),
        })
    }
}

//! From a value to a machine, with every problem on the way.
//!
//! Reading never stops at the first problem: a state that is wrong is left out of the machine and
//! stays in the outline, so that no state beside it is called unreachable for nothing.

mod choice;
mod data;
mod expressions;
mod fields;
mod moment;
mod outline;
mod recovery;
mod saga;
mod state;

use std::collections::HashMap;

use serde_json::Value;

use super::text::clip;
use super::{Code, Flow, Limits, Machine, Problem, QueryLanguage, Severity, States, escape};
use fields::Fields;
pub(super) use fields::nearest;
use outline::Outline;
pub(super) use saga::{after_pivot, leads_on};

/// The longest time the language has: three years and a bit.
const SECONDS_MAX: u64 = 99_999_999;

const LANGUAGES: &[(&str, QueryLanguage)] = &[
    ("JSONPath", QueryLanguage::JsonPath),
    ("JSONata", QueryLanguage::Jsonata),
];

/// A machine out of a value. There is one only when no problem is an error, except that a machine
/// whose only errors are states that cannot be reached is still given, for an import to look at.
pub(super) fn machine(value: &Value, limits: &Limits) -> (Option<Machine>, Vec<Problem>) {
    let mut rd = Reader {
        limits,
        problems: Vec::new(),
        errors: 0,
        names: HashMap::new(),
        language: QueryLanguage::JsonPath,
        outlines: Vec::new(),
        compensates: false,
    };
    let machine = rd.machine(value);
    (machine, rd.problems)
}

/// What reading goes along with.
struct Reader<'l> {
    limits: &'l Limits,
    problems: Vec<Problem>,
    /// How many of the problems are errors, those left out counted.
    errors: usize,
    /// Every state so far, with its place.
    names: HashMap<String, String>,
    /// The language of the machine.
    language: QueryLanguage,
    /// The flows that are being read, the innermost last.
    outlines: Vec<Outline>,
    /// Whether some state has an undo.
    compensates: bool,
}

impl Reader<'_> {
    fn add(&mut self, code: Code, at: impl Into<String>, message: impl Into<String>) {
        if code.severity() == Severity::Error {
            self.errors += 1;
        }
        if self.problems.len() < self.limits.problems_max {
            self.problems.push(Problem::new(code, at, message));
        }
    }

    fn wrong_type(&mut self, at: &str, name: &str, wanted: &str, found: &Value) {
        let found = match found {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Number(number) => format!("the number {}", clip(&number.to_string())),
            Value::String(text) => format!("the text `{}`", clip(text)),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        };
        self.add(
            Code::WRONG_TYPE,
            at,
            format!("`{name}` takes {wanted}, and here is {found}"),
        );
    }

    fn conflict(&mut self, at: &str, names: &[&str]) {
        let names: Vec<_> = names
            .iter()
            .map(|name| format!("`{}`", clip(name)))
            .collect();
        let message = format!(
            "{} exclude each other; leave one of them",
            names.join(" and ")
        );
        self.add(Code::CONFLICTING_FIELDS, at, message);
    }

    fn whole_of(
        &mut self,
        value: &Value,
        at: &str,
        name: &str,
        (least, most): (u64, u64),
    ) -> Option<u64> {
        let Value::Number(number) = value else {
            self.wrong_type(at, name, "a whole number", value);
            return None;
        };
        let float = number.as_f64().unwrap_or(f64::NAN);
        if float.fract() != 0.0 {
            self.wrong_type(at, name, "a whole number", value);
            return None;
        }
        // A float without a fraction inside the bounds is exact.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded before"
        )]
        let whole = number
            .as_u64()
            .or_else(|| (0.0..=9e15).contains(&float).then_some(float as u64))
            .filter(|whole| (least..=most).contains(whole));
        if whole.is_none() {
            let message = format!("`{name}` is {number}, and it takes {least} to {most}");
            self.add(Code::OUT_OF_RANGE, at, message);
        }
        whole
    }

    fn machine(&mut self, value: &Value) -> Option<Machine> {
        let mut fields = Fields::of(self, value, String::new(), "the definition")?;
        self.language = fields
            .word(self, "QueryLanguage", LANGUAGES)
            .unwrap_or_default();
        let version = fields
            .word(self, "Version", &[("1.0", "1.0")])
            .unwrap_or("1.0");
        let timeout_seconds = fields.whole(self, "TimeoutSeconds", (1, SECONDS_MAX));
        let (flow, outline) = self.flow(&mut fields, "state machine");
        let saga = self.policy(&mut fields, outline.as_ref());
        fields.finish(self, None, "state machine");
        let (flow, flow_errors) = (flow?, self.errors);
        let unreachable = self
            .problems
            .iter()
            .filter(|p| p.code == Code::UNREACHABLE_STATE)
            .count();
        let machine = Machine {
            comment: flow.comment.clone(),
            version: version.to_owned(),
            language: self.language,
            timeout_seconds,
            flow: Flow {
                comment: None,
                ..flow
            },
            saga: saga.policy,
        };
        if flow_errors > unreachable {
            return None;
        }
        self.remarks(&machine, saga.declared);
        Some(machine)
    }

    /// `StartAt`, `States` and `Comment`, which a machine, a branch and a processor have.
    fn flow(&mut self, fields: &mut Fields<'_>, what: &str) -> (Option<Flow>, Option<Outline>) {
        let before = self.errors;
        let comment = fields.text(self, "Comment");
        let why = format!("a {what} begins somewhere; name its first state");
        let start_at = fields.need_text(self, "StartAt", &why);
        let why = format!("a {what} has states; write them as an object, by name");
        if fields.need(self, "States", &why).is_none() {
            return (None, None);
        }
        let Some(all) = fields.object(self, "States") else {
            return (None, None);
        };
        let at = fields.at("States");
        if all.is_empty() {
            self.add(
                Code::EMPTY_LIST,
                &at,
                format!("a {what} needs at least one state"),
            );
            return (None, None);
        }
        self.outlines.push(Outline::default());
        if !start_at.is_empty() {
            self.outline().start = Some((fields.at("StartAt"), start_at.clone()));
        }
        let mut states = States::default();
        for (name, value) in all {
            if let Some(state) = self.named_state(name, value, format!("{at}/{}", escape(name))) {
                // A name that comes twice was refused already.
                let _taken = states.push(state).is_err();
            }
        }
        let outline = self.outlines.pop().unwrap_or_default();
        self.check_outline(&outline, &at);
        let unreachable = self.unreachable_since(before);
        let flow = (self.errors == before + unreachable).then_some(Flow {
            comment,
            start_at,
            states,
        });
        (flow, Some(outline))
    }

    /// How many of the errors since then are states that cannot be reached.
    fn unreachable_since(&self, errors: usize) -> usize {
        let all = self
            .problems
            .iter()
            .filter(|p| p.severity == Severity::Error);
        all.skip(errors)
            .filter(|p| p.code == Code::UNREACHABLE_STATE)
            .count()
    }

    fn outline(&mut self) -> &mut Outline {
        if self.outlines.is_empty() {
            self.outlines.push(Outline::default());
        }
        let last = self.outlines.len() - 1;
        &mut self.outlines[last]
    }
}

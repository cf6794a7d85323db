//! The rules of a Choice: comparisons of JSONPath as a tree, conditions of JSONata as they are.

use serde_json::Value;

use super::super::text::clip;
use super::super::{
    Assign, Choice, Code, Comparison, Condition, Given, Kind, QueryLanguage, Relation, Rule, Test,
};
use super::Reader;
use super::expressions::looks_like_path;
use super::fields::Fields;

/// Every comparison of the language; the reader asks an object for each of them.
const OPERATORS: &[&str] = &[
    "StringEquals",
    "StringEqualsPath",
    "StringLessThan",
    "StringLessThanPath",
    "StringGreaterThan",
    "StringGreaterThanPath",
    "StringLessThanEquals",
    "StringLessThanEqualsPath",
    "StringGreaterThanEquals",
    "StringGreaterThanEqualsPath",
    "StringMatches",
    "NumericEquals",
    "NumericEqualsPath",
    "NumericLessThan",
    "NumericLessThanPath",
    "NumericGreaterThan",
    "NumericGreaterThanPath",
    "NumericLessThanEquals",
    "NumericLessThanEqualsPath",
    "NumericGreaterThanEquals",
    "NumericGreaterThanEqualsPath",
    "BooleanEquals",
    "BooleanEqualsPath",
    "TimestampEquals",
    "TimestampEqualsPath",
    "TimestampLessThan",
    "TimestampLessThanPath",
    "TimestampGreaterThan",
    "TimestampGreaterThanPath",
    "TimestampLessThanEquals",
    "TimestampLessThanEqualsPath",
    "TimestampGreaterThanEquals",
    "TimestampGreaterThanEqualsPath",
    "IsNull",
    "IsPresent",
    "IsNumeric",
    "IsString",
    "IsBoolean",
    "IsTimestamp",
];

impl Reader<'_> {
    pub(super) fn choice(
        &mut self,
        fields: &mut Fields<'_>,
        language: QueryLanguage,
    ) -> Option<Kind> {
        let default = fields.text(self, "Default");
        if let Some(default) = &default {
            self.target(fields.at("Default"), default);
        }
        fields.need(
            self,
            "Choices",
            "a Choice state chooses by its rules; write them as a list",
        )?;
        let all = fields.list(self, "Choices")?;
        let at = fields.at("Choices");
        if all.is_empty() {
            self.add(
                Code::EMPTY_LIST,
                &at,
                "a Choice state needs at least one rule; with none, a Pass state does",
            );
        }
        let mut rules = Vec::with_capacity(all.len());
        for (index, value) in all.iter().enumerate() {
            rules.extend(self.rule(value, format!("{at}/{index}"), language));
        }
        Some(Kind::Choice(Choice { rules, default }))
    }

    fn rule(&mut self, value: &Value, at: String, language: QueryLanguage) -> Option<Rule> {
        let mut fields = Fields::of(self, value, at, "a rule")?;
        let comment = fields.text(self, "Comment");
        let next = fields.need_text(self, "Next", "a rule says where to go when it holds");
        if fields.has("Next") {
            self.target(fields.at("Next"), &next);
        }
        let assign = self.assign_field(&mut fields, language);
        let (condition, output) = match language {
            QueryLanguage::Jsonata => {
                let output = self.jsonata_field(&mut fields, "Output");
                (self.jsonata_condition(&mut fields), output)
            }
            QueryLanguage::JsonPath => (self.comparison(&mut fields), None),
        };
        fields.finish(self, Some(language), "rule of a Choice");
        Some(Rule {
            comment,
            condition: condition?,
            next,
            output,
            assign,
        })
    }

    fn jsonata_condition(&mut self, fields: &mut Fields<'_>) -> Option<Condition> {
        let why = "a rule in JSONata holds when its Condition is true; write \"{% … %}\"";
        let value = fields.need(self, "Condition", why)?;
        let at = fields.at("Condition");
        match value {
            Value::Bool(always) => Some(Condition::Always(*always)),
            Value::String(text) => {
                self.jsonata_text(text, &at);
                Some(Condition::Jsonata(text.clone()))
            }
            other => {
                self.wrong_type(&at, "Condition", "`{% … %}`", other);
                None
            }
        }
    }

    /// `And`, `Or`, `Not` or one comparison.
    fn comparison(&mut self, fields: &mut Fields<'_>) -> Option<Condition> {
        let mut there: Vec<&'static str> = Vec::new();
        for name in ["And", "Or", "Not"].iter().chain(OPERATORS) {
            if fields.get(name).is_some() {
                there.push(name);
            }
        }
        let variable = fields.text(self, "Variable");
        match there.as_slice() {
            [] => {
                let message = "a rule has a comparison such as StringEquals, or And, Or, Not; without one it never holds; write one";
                self.add(Code::MISSING_FIELD, fields.here(), message);
                None
            }
            [name] => self.one(fields, name, variable),
            several => {
                self.conflict(fields.here(), several);
                None
            }
        }
    }

    fn one(
        &mut self,
        fields: &mut Fields<'_>,
        name: &'static str,
        variable: Option<String>,
    ) -> Option<Condition> {
        if matches!(name, "And" | "Or" | "Not") {
            if variable.is_some() {
                self.conflict(fields.here(), &["Variable", name]);
            }
            return self.combined(fields, name);
        }
        let value = fields.get(name)?;
        let test = self.test(name, value, &fields.at(name));
        let Some(variable) = variable else {
            if !fields.has("Variable") {
                let message =
                    format!("`Variable` is missing: it is what `{name}` looks at; write a path");
                self.add(Code::MISSING_FIELD, fields.here(), message);
            }
            return None;
        };
        self.path(&variable, &fields.at("Variable"));
        Some(Condition::Compare(Comparison {
            variable,
            test: test?,
        }))
    }

    fn combined(&mut self, fields: &mut Fields<'_>, name: &'static str) -> Option<Condition> {
        if name == "Not" {
            let value = fields.get(name)?;
            let inner = self.inner(value, fields.at(name))?;
            return Some(Condition::Not(Box::new(inner)));
        }
        let list = fields.list(self, name)?;
        let at = fields.at(name);
        if list.is_empty() {
            self.add(
                Code::EMPTY_LIST,
                &at,
                format!("`{name}` needs at least one comparison"),
            );
            return None;
        }
        let mut all = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            all.push(self.inner(value, format!("{at}/{index}")));
        }
        let all = all.into_iter().collect::<Option<Vec<_>>>()?;
        Some(if name == "And" {
            Condition::And(all)
        } else {
            Condition::Or(all)
        })
    }

    /// A comparison inside another, which goes nowhere by itself.
    fn inner(&mut self, value: &Value, at: String) -> Option<Condition> {
        let mut fields = Fields::of(self, value, at, "a comparison")?;
        let _comment = fields.text(self, "Comment");
        let condition = self.comparison(&mut fields);
        fields.finish(
            self,
            Some(QueryLanguage::JsonPath),
            "comparison inside a rule",
        );
        condition
    }

    fn test(&mut self, name: &'static str, value: &Value, at: &str) -> Option<Test> {
        if let Some(kind) = name.strip_prefix("Is") {
            let Some(wanted) = value.as_bool() else {
                self.wrong_type(at, name, "true or false", value);
                return None;
            };
            return Some(match kind {
                "Null" => Test::IsNull(wanted),
                "Present" => Test::IsPresent(wanted),
                "Numeric" => Test::IsNumeric(wanted),
                "String" => Test::IsString(wanted),
                "Boolean" => Test::IsBoolean(wanted),
                _ => Test::IsTimestamp(wanted),
            });
        }
        if name == "StringMatches" {
            return self.plain_text(value, at, name).map(Test::Matches);
        }
        let (plain, is_path) = match name.strip_suffix("Path") {
            Some(plain) => (plain, true),
            None => (name, false),
        };
        let path = if is_path {
            let path = self.plain_text(value, at, name)?;
            self.path(&path, at);
            Some(path)
        } else {
            None
        };
        if let Some(rest) = plain.strip_prefix("String") {
            let other = match path {
                Some(path) => Given::From(path),
                None => Given::Fixed(self.plain_text(value, at, name)?),
            };
            return Some(Test::Text(relation(rest), other));
        }
        if let Some(rest) = plain.strip_prefix("Numeric") {
            let other = match (path, value) {
                (Some(path), _) => Given::From(path),
                (None, Value::Number(number)) => Given::Fixed(number.clone()),
                (None, other) => {
                    self.wrong_type(at, name, "a number", other);
                    return None;
                }
            };
            return Some(Test::Number(relation(rest), other));
        }
        if let Some(rest) = plain.strip_prefix("Timestamp") {
            let other = match path {
                Some(path) => Given::From(path),
                None => Given::Fixed(self.moment(value, at, name)?),
            };
            return Some(Test::Moment(relation(rest), other));
        }
        let other = match (path, value) {
            (Some(path), _) => Given::From(path),
            (None, Value::Bool(flag)) => Given::Fixed(*flag),
            (None, other) => {
                self.wrong_type(at, name, "true or false", other);
                return None;
            }
        };
        Some(Test::Boolean(other))
    }

    /// A text that nothing is looked up in.
    pub(super) fn plain_text(&mut self, value: &Value, at: &str, name: &str) -> Option<String> {
        let Some(text) = value.as_str() else {
            self.wrong_type(at, name, "a text", value);
            return None;
        };
        if !name.ends_with("Path") && looks_like_path(text) {
            let message = format!(
                "`{}` looks like a path, and `{name}` takes it as a text; write `{name}Path` when its value is meant",
                clip(text)
            );
            self.add(Code::NO_PATH, at, message);
        }
        Some(text.to_owned())
    }
}

fn relation(name: &str) -> Relation {
    match name {
        "LessThan" => Relation::Less,
        "LessThanEquals" => Relation::LessOrEqual,
        "GreaterThan" => Relation::Greater,
        "GreaterThanEquals" => Relation::GreaterOrEqual,
        _ => Relation::Equal,
    }
}

/// A rule without anything assigned or put out, as the builder and an import make it.
impl Rule {
    /// Where to go when the condition holds.
    pub fn new(condition: Condition, next: impl Into<String>) -> Self {
        Self {
            comment: None,
            condition,
            next: next.into(),
            output: None,
            assign: Assign::new(),
        }
    }
}

//! How data comes into a state and goes out: which of the fields a kind has, in which language.

use serde_json::Value;

use super::super::{Assign, Data, JsonataData, PathData, QueryLanguage, Selection};
use super::Reader;
use super::fields::Fields;

/// The data fields that a kind of state has.
fn of_kind(kind: &str, language: QueryLanguage) -> &'static [&'static str] {
    match (language, kind) {
        (QueryLanguage::JsonPath, "Task" | "Parallel") => &[
            "InputPath",
            "Parameters",
            "ResultSelector",
            "ResultPath",
            "OutputPath",
            "Assign",
        ],
        (QueryLanguage::JsonPath, "Map") => &[
            "InputPath",
            "ResultSelector",
            "ResultPath",
            "OutputPath",
            "Assign",
        ],
        (QueryLanguage::JsonPath, "Pass") => &[
            "InputPath",
            "Parameters",
            "ResultPath",
            "OutputPath",
            "Assign",
        ],
        (QueryLanguage::JsonPath, "Wait" | "Choice") => &["InputPath", "OutputPath", "Assign"],
        (QueryLanguage::JsonPath, "Succeed") => &["InputPath", "OutputPath"],
        (QueryLanguage::Jsonata, "Task" | "Parallel") => &["Arguments", "Output", "Assign"],
        (QueryLanguage::Jsonata, "Map" | "Pass" | "Wait" | "Choice") => &["Output", "Assign"],
        (QueryLanguage::Jsonata, "Succeed") => &["Output"],
        _ => &[],
    }
}

impl Reader<'_> {
    /// The data fields of a state.
    pub(super) fn data(
        &mut self,
        fields: &mut Fields<'_>,
        kind: &str,
        language: QueryLanguage,
    ) -> Data {
        let has = of_kind(kind, language);
        match language {
            QueryLanguage::JsonPath => Data::Path(self.path_data(fields, has)),
            QueryLanguage::Jsonata => {
                let mut data = JsonataData::default();
                if has.contains(&"Arguments") {
                    data.arguments = self.jsonata_field(fields, "Arguments");
                }
                if has.contains(&"Output") {
                    data.output = self.jsonata_field(fields, "Output");
                }
                if has.contains(&"Assign") {
                    data.assign = self.assign_field(fields, language);
                }
                Data::Jsonata(data)
            }
        }
    }

    fn path_data(&mut self, fields: &mut Fields<'_>, has: &[&str]) -> PathData {
        let mut data = PathData::default();
        if has.contains(&"InputPath") {
            data.input_path = self.selection(fields, "InputPath", false);
        }
        if has.contains(&"OutputPath") {
            data.output_path = self.selection(fields, "OutputPath", false);
        }
        if has.contains(&"ResultPath") {
            data.result_path = self.selection(fields, "ResultPath", true);
        }
        if has.contains(&"Parameters") {
            data.parameters = self.template_field(fields, "Parameters");
        }
        if has.contains(&"ResultSelector") {
            data.result_selector = self.template_field(fields, "ResultSelector");
        }
        if has.contains(&"Assign") {
            data.assign = self.assign_field(fields, QueryLanguage::JsonPath);
        }
        data
    }

    /// A field that selects: a path, or null for nothing.
    pub(super) fn selection(
        &mut self,
        fields: &mut Fields<'_>,
        name: &'static str,
        reference: bool,
    ) -> Selection {
        let Some(value) = fields.get(name) else {
            return Selection::All;
        };
        let at = fields.at(name);
        match value {
            Value::Null => Selection::Nothing,
            Value::String(path) if path == "$" => Selection::All,
            Value::String(path) => {
                if reference {
                    self.reference(path, &at);
                } else {
                    self.path(path, &at);
                }
                Selection::At(path.clone())
            }
            other => {
                self.wrong_type(&at, name, "a path or null", other);
                Selection::All
            }
        }
    }

    pub(super) fn template_field(
        &mut self,
        fields: &mut Fields<'_>,
        name: &'static str,
    ) -> Option<Value> {
        let value = fields.get(name)?;
        self.template(value, &fields.at(name));
        Some(value.clone())
    }

    pub(super) fn jsonata_field(
        &mut self,
        fields: &mut Fields<'_>,
        name: &'static str,
    ) -> Option<Value> {
        let value = fields.get(name)?;
        self.jsonata(value, &fields.at(name));
        Some(value.clone())
    }

    pub(super) fn assign_field(
        &mut self,
        fields: &mut Fields<'_>,
        language: QueryLanguage,
    ) -> Assign {
        match fields.object(self, "Assign") {
            Some(map) => self.assign(language, map, &fields.at("Assign")),
            None => Assign::new(),
        }
    }
}

//! From the documents to the [`Model`]: which shapes the keywords of a schema make, draft by draft.
//!
//! It never calls itself: schemas wait in a list, so neither nesting nor a chain of references can
//! exhaust the stack. What it accepts is bounded: nodes, and how long a chain of schemas may look
//! at one and the same value.

use std::collections::{BTreeSet, HashMap, HashSet};

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::chains;
use super::documents::{Addresses, Document, Place, is_modern};
use super::keywords::{choice, count, form, keywords_of, names, note, numeric, shortened};
use super::pattern::{BACKTRACKING_MAX, PATTERNS_MAX, Pattern};
use super::shape::{
    Array, Combined, Criterion, Index, Model, Node, Note, Object, Others, Shape, Text,
};
use crate::{Invalid, Limits};

/// Builds the model of the first document.
pub(super) fn model(documents: &[Document], limits: &Limits) -> Result<Model, Invalid> {
    let addresses = Addresses::of(documents)?;
    let mut builder = Builder {
        addresses: &addresses,
        nodes: Vec::new(),
        known: HashMap::new(),
        waiting: Vec::new(),
        patterns: HashMap::new(),
        backtracking: 0,
        count: 0,
        limits,
    };
    let root = &documents[0];
    builder.schema(&Place {
        value: &root.value,
        base: root.uri.clone(),
        draft: root.draft,
    })?;
    while let Some((index, place)) = builder.waiting.pop() {
        let node = builder.node(&place)?;
        builder.nodes[index as usize] = node;
    }
    let mut model = Model {
        nodes: builder.nodes,
        ..Model::default()
    };
    model.chain = chains::longest_chain(&model)?;
    model.explains = chains::explains(&model);
    Ok(model)
}

struct Builder<'a> {
    addresses: &'a Addresses<'a>,
    nodes: Vec<Node>,
    known: HashMap<usize, Index>,
    waiting: Vec<(Index, Place<'a>)>,
    patterns: HashMap<String, Pattern>,
    backtracking: usize,
    count: usize,
    limits: &'a Limits,
}

const TYPES: [&str; 4] = ["array", "object", "number", "string"];

impl<'a> Builder<'a> {
    /// The node of a schema; what it says is read later.
    fn schema(&mut self, place: &Place<'a>) -> Result<Index, Invalid> {
        let identity = std::ptr::from_ref(place.value).addr();
        if let Some(index) = self.known.get(&identity) {
            return Ok(*index);
        }
        let index = self.add(Shape::Everything, Note::default())?;
        self.known.insert(identity, index);
        self.waiting.push((index, place.clone()));
        Ok(index)
    }

    fn add(&mut self, shape: Shape, note: Note) -> Result<Index, Invalid> {
        self.spend(1)?;
        let index = Index::try_from(self.nodes.len())
            .map_err(|error| Invalid::new(format!("the schema has too many parts: {error}")))?;
        self.nodes.push(Node { shape, note });
        Ok(index)
    }

    fn spend(&mut self, count: usize) -> Result<(), Invalid> {
        self.count += count;
        if self.count > self.limits.nodes_max {
            return Err(Invalid::new(format!(
                "the schema has more than {} schemas, names and enumerated values",
                self.limits.nodes_max
            )));
        }
        Ok(())
    }

    fn inside(place: &Place<'a>, value: &'a Value) -> Result<Place<'a>, Invalid> {
        let mut inside = Place {
            value,
            ..place.clone()
        };
        if let Some(id) = super::documents::identifier(value, place.draft)
            && !id.starts_with('#')
        {
            inside.base = super::documents::join(&place.base, id)?;
        }
        Ok(inside)
    }

    fn child(&mut self, place: &Place<'a>, value: &'a Value) -> Result<Index, Invalid> {
        let place = Self::inside(place, value)?;
        self.schema(&place)
    }

    fn children(&mut self, place: &Place<'a>, values: &'a Value) -> Result<Vec<Index>, Invalid> {
        let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
        values
            .iter()
            .map(|value| self.child(place, value))
            .collect()
    }

    fn named(
        &mut self,
        place: &Place<'a>,
        values: Option<&'a Value>,
    ) -> Result<Vec<(String, Index)>, Invalid> {
        let Some(values) = values.and_then(Value::as_object) else {
            return Ok(Vec::new());
        };
        let mut named = Vec::with_capacity(values.len());
        for (name, value) in values {
            named.push((name.clone(), self.child(place, value)?));
        }
        Ok(named)
    }

    fn pattern(&mut self, text: &str) -> Result<Pattern, Invalid> {
        if let Some(pattern) = self.patterns.get(text) {
            return Ok(pattern.clone());
        }
        if self.patterns.len() == PATTERNS_MAX {
            return Err(Invalid::new(format!(
                "the schema has more than {PATTERNS_MAX} regular expressions"
            )));
        }
        let pattern = Pattern::new(text)?;
        self.backtracking += usize::from(pattern.needs_backtracking);
        if self.backtracking > BACKTRACKING_MAX {
            return Err(Invalid::new(format!(
                "the schema has more than {BACKTRACKING_MAX} regular expressions that look around or refer back"
            )));
        }
        self.patterns.insert(text.to_owned(), pattern.clone());
        Ok(pattern)
    }

    fn patterns(
        &mut self,
        place: &Place<'a>,
        values: Option<&'a Value>,
    ) -> Result<Vec<(Pattern, Index)>, Invalid> {
        let named = self.named(place, values)?;
        named
            .into_iter()
            .map(|(text, schema)| Ok((self.pattern(&text)?, schema)))
            .collect()
    }

    fn node(&mut self, place: &Place<'a>) -> Result<Node, Invalid> {
        let members = match place.value {
            Value::Bool(true) => return Ok(plain(Shape::Everything)),
            Value::Bool(false) => return Ok(plain(Shape::Nothing)),
            Value::Object(members) => members,
            other => {
                return Err(Invalid::new(format!(
                    "{} is no schema: a schema is an object, true or false",
                    shortened(&other.to_string())
                )));
            }
        };
        let note = note(members, place.draft);
        let mut shapes = self.references(place, members)?;
        let stands_alone = !is_modern(place.draft) && !shapes.is_empty();
        if !stands_alone {
            self.choices(place, members, &mut shapes)?;
            self.typed(place, members, &mut shapes)?;
            if is_modern(place.draft) || place.draft == Draft::Draft7 {
                self.conditional(place, members, &mut shapes)?;
            }
        }
        let shape = match shapes.len() {
            0 => Shape::Everything,
            1 => shapes.remove(0),
            _ => self.together(Criterion::All, shapes)?,
        };
        Ok(Node { shape, note })
    }

    fn together(&mut self, criterion: Criterion, shapes: Vec<Shape>) -> Result<Shape, Invalid> {
        let parts = shapes
            .into_iter()
            .map(|shape| self.add(shape, Note::default()))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Shape::Combined(Combined {
            criterion,
            distinct: parts.clone(),
            parts,
        }))
    }

    fn references(
        &mut self,
        place: &Place<'a>,
        members: &'a Map<String, Value>,
    ) -> Result<Vec<Shape>, Invalid> {
        let text = |keyword: &str| members.get(keyword).and_then(Value::as_str);
        let mut shapes = Vec::new();
        if let Some(reference) = text("$ref") {
            let target = self.addresses.find(place, reference)?;
            shapes.push(Shape::Reference(self.schema(&target)?));
        }
        if place.draft == Draft::Draft201909 && text("$recursiveRef").is_some() {
            let target = self.addresses.find_recursive(place)?;
            shapes.push(Shape::Reference(self.schema(&target)?));
        } else if is_modern(place.draft)
            && let Some(reference) = text("$dynamicRef")
        {
            let target = self.addresses.find_dynamic(place, reference)?;
            shapes.push(Shape::Reference(self.schema(&target)?));
        }
        Ok(shapes)
    }

    fn choices(
        &mut self,
        place: &Place<'a>,
        members: &'a Map<String, Value>,
        shapes: &mut Vec<Shape>,
    ) -> Result<(), Invalid> {
        if let Some(Value::Array(values)) = members.get("enum") {
            self.spend(values.len())?;
            shapes.push(Shape::Enum(choice(values)));
        }
        for criterion in [Criterion::All, Criterion::Any, Criterion::One] {
            let Some(values) = members.get(criterion.as_str()) else {
                continue;
            };
            let parts = self.children(place, values)?;
            let mut seen = HashSet::new();
            let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
            let distinct = parts
                .iter()
                .zip(values)
                .filter(|(_, value)| values.len() < 2 || seen.insert(form(value)))
                .map(|(part, _)| *part)
                .collect();
            shapes.push(Shape::Combined(Combined {
                criterion,
                parts,
                distinct,
            }));
        }
        if let Some(value) = members.get("not") {
            shapes.push(Shape::Not(self.child(place, value)?));
        }
        if place.draft != Draft::Draft4
            && let Some(value) = members.get("const")
        {
            shapes.push(Shape::Const(choice(std::slice::from_ref(value))));
        }
        Ok(())
    }

    /// What the types say, and what the keywords say that belong to types not named.
    fn typed(
        &mut self,
        place: &Place<'a>,
        members: &'a Map<String, Value>,
        shapes: &mut Vec<Shape>,
    ) -> Result<(), Invalid> {
        let types = match members.get("type") {
            Some(Value::String(name)) => vec![name.as_str()],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let mut of_types = Vec::new();
        for name in &types {
            of_types.push(self.of_type(place, members, name)?);
        }
        match members.get("type") {
            Some(Value::Array(_)) => shapes.push(self.together(Criterion::Any, of_types)?),
            _ => shapes.extend(of_types),
        }
        for family in TYPES {
            let is_named = types
                .iter()
                .any(|name| *name == family || (family == "number" && *name == "integer"));
            let mut keywords = keywords_of(family, place.draft).iter();
            if !is_named && keywords.any(|keyword| members.contains_key(*keyword)) {
                shapes.push(self.of_type(place, members, family)?);
            }
        }
        Ok(())
    }

    fn of_type(
        &mut self,
        place: &Place<'a>,
        members: &'a Map<String, Value>,
        name: &str,
    ) -> Result<Shape, Invalid> {
        Ok(match name {
            "string" => Shape::String(Text {
                min_length: count(members, "minLength"),
                max_length: count(members, "maxLength"),
                pattern: match members.get("pattern").and_then(Value::as_str) {
                    Some(text) => Some(self.pattern(text)?.to_string()),
                    None => None,
                },
            }),
            "number" | "integer" => Shape::Number(numeric(members, name == "integer")),
            "object" => Shape::Object(Box::new(self.object(place, members)?)),
            "array" => Shape::Array(Box::new(self.array(place, members)?)),
            "boolean" => Shape::Boolean,
            "null" => Shape::Null,
            other => return Err(Invalid::new(format!("'{other}' is no type of JSON"))),
        })
    }

    fn object(
        &mut self,
        place: &Place<'a>,
        members: &'a Map<String, Value>,
    ) -> Result<Object, Invalid> {
        let mut object = Object {
            properties: self
                .named(place, members.get("properties"))?
                .into_iter()
                .collect(),
            patterns: self.patterns(place, members.get("patternProperties"))?,
            additional: self.others(place, members.get("additionalProperties"))?,
            required: names(members.get("required")),
            min_properties: count(members, "minProperties"),
            max_properties: count(members, "maxProperties"),
            ..Object::default()
        };
        self.spend(object.required.len())?;
        if place.draft != Draft::Draft4
            && let Some(value) = members.get("propertyNames")
        {
            object.names = Some(self.child(place, value)?);
        }
        if is_modern(place.draft) {
            if let Some(value) = members.get("unevaluatedProperties") {
                object.unevaluated = Some(self.child(place, value)?);
            }
            if let Some(Value::Object(lists)) = members.get("dependentRequired") {
                for (name, list) in lists {
                    object
                        .dependent_required
                        .insert(name.clone(), names(Some(list)));
                }
            }
            let schemas = self.named(place, members.get("dependentSchemas"))?;
            object.dependent_schemas = schemas.into_iter().collect();
        } else if let Some(Value::Object(dependencies)) = members.get("dependencies") {
            for (name, dependency) in dependencies {
                if dependency.is_array() {
                    object
                        .dependent_required
                        .insert(name.clone(), names(Some(dependency)));
                } else {
                    let schema = self.child(place, dependency)?;
                    object.dependent_schemas.insert(name.clone(), schema);
                }
            }
        }
        let listed = object.dependent_required.values().map(BTreeSet::len).sum();
        self.spend(listed)?;
        Ok(object)
    }

    fn array(
        &mut self,
        place: &Place<'a>,
        members: &'a Map<String, Value>,
    ) -> Result<Array, Invalid> {
        let mut array = Array {
            min_items: count(members, "minItems"),
            max_items: count(members, "maxItems"),
            min_contains: count(members, "minContains"),
            max_contains: count(members, "maxContains"),
            is_unique: members.get("uniqueItems") == Some(&Value::Bool(true)),
            ..Array::default()
        };
        let modern = is_modern(place.draft);
        let is_latest = modern && place.draft != Draft::Draft201909;
        let first = if is_latest { "prefixItems" } else { "items" };
        let mut others = if is_latest {
            "items"
        } else {
            "additionalItems"
        };
        match members.get(first) {
            Some(values) if values.is_array() => array.first = self.children(place, values)?,
            _ => others = "items",
        }
        match members.get(others) {
            value if others == "additionalItems" || !array.first.is_empty() => {
                array.additional = self.others(place, value)?;
            }
            Some(Value::Bool(true)) if modern => {}
            Some(Value::Bool(false)) if modern => array.additional = Others::Nothing,
            Some(value) if !value.is_array() => array.all = Some(self.child(place, value)?),
            _ => {}
        }
        if others == "items" && !modern {
            // Everit reads it without a list of first items as well.
            array.additional = self.others(place, members.get("additionalItems"))?;
        }
        if place.draft != Draft::Draft4
            && let Some(value) = members.get("contains")
        {
            array.contains = Some(self.child(place, value)?);
            if modern {
                array.min_contains = array.min_contains.or(Some(1));
            }
        }
        if modern && let Some(value) = members.get("unevaluatedItems") {
            array.unevaluated = Some(self.child(place, value)?);
        }
        Ok(array)
    }

    fn others(&mut self, place: &Place<'a>, value: Option<&'a Value>) -> Result<Others, Invalid> {
        Ok(match value {
            None | Some(Value::Bool(true)) => Others::Anything,
            Some(Value::Bool(false)) => Others::Nothing,
            Some(schema) => Others::Only(self.child(place, schema)?),
        })
    }

    fn conditional(
        &mut self,
        place: &Place<'a>,
        members: &'a Map<String, Value>,
        shapes: &mut Vec<Shape>,
    ) -> Result<(), Invalid> {
        let mut parts = [None; 3];
        for (part, keyword) in parts.iter_mut().zip(["if", "then", "else"]) {
            if let Some(value) = members.get(keyword) {
                *part = Some(self.child(place, value)?);
            }
        }
        if parts.iter().any(Option::is_some) {
            shapes.push(Shape::Conditional(parts));
        }
        Ok(())
    }
}

fn plain(shape: Shape) -> Node {
    Node {
        shape,
        note: Note::default(),
    }
}

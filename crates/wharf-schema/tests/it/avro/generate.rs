//! Schemas, changed schemas and records, made of bytes that proptest chooses (and shortens).
//!
//! Every type that is made has a value: a type only holds itself within a union, an array or a map.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Chooses by bytes; an end of bytes chooses the first of everything.
#[derive(Debug)]
pub(super) struct Dice<'a>(pub(super) &'a [u8]);

impl Dice<'_> {
    pub(super) fn below(&mut self, count: usize) -> usize {
        match self.0.split_first() {
            Some((byte, rest)) if count > 0 => {
                self.0 = rest;
                usize::from(*byte) % count
            }
            _ => 0,
        }
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }
}

const SIMPLE: [&str; 8] = [
    "int", "long", "string", "boolean", "float", "double", "bytes", "null",
];

/// A record with a few levels of everything.
pub(super) fn schema(dice: &mut Dice<'_>) -> Value {
    let mut names = Names::default();
    names.record(dice, 3)
}

#[derive(Default)]
struct Names {
    count: usize,
    known: Vec<String>,
}

impl Names {
    fn fresh(&mut self, letter: char) -> String {
        self.count += 1;
        format!("{letter}{}", self.count)
    }

    fn record(&mut self, dice: &mut Dice<'_>, depth: usize) -> Value {
        let name = self.fresh('R');
        let mut fields = Vec::new();
        let mut inner = self.known.clone();
        inner.push(name.clone());
        for index in 0..dice.below(4) {
            let held = match dice.below(6) {
                // The record within itself, where it can end.
                0 if depth < 3 => json!(["null", name]),
                1 if depth < 3 => json!({"type": "array", "items": name}),
                _ => self.any(dice, depth.saturating_sub(1)),
            };
            let mut field = Map::new();
            field.insert("name".into(), json!(format!("f{index}")));
            if let Some(default) = default_of(&held).filter(|_| dice.one_in(3)) {
                field.insert("default".into(), default);
            }
            field.insert("type".into(), held);
            fields.push(Value::Object(field));
        }
        self.known.push(name.clone());
        json!({"type": "record", "name": name, "fields": fields})
    }

    fn any(&mut self, dice: &mut Dice<'_>, depth: usize) -> Value {
        let simple = json!(SIMPLE[dice.below(SIMPLE.len())]);
        if depth == 0 {
            return simple;
        }
        match dice.below(10) {
            0 => json!({"type": "array", "items": self.any(dice, depth - 1)}),
            1 => json!({"type": "map", "values": self.any(dice, depth - 1)}),
            2 => self.record(dice, depth),
            3 => {
                let name = self.fresh('E');
                self.known.push(name.clone());
                let symbols = ["A", "B", "C", "D"];
                let mut text = json!({"type": "enum", "name": name,
                    "symbols": &symbols[..=dice.below(4)]});
                if dice.one_in(3) {
                    text["default"] = json!("A");
                }
                text
            }
            4 => {
                let name = self.fresh('F');
                self.known.push(name.clone());
                json!({"type": "fixed", "name": name, "size": dice.below(4)})
            }
            5 | 6 => {
                let mut tags = Vec::new();
                let mut branches = Vec::new();
                for _ in 0..=dice.below(4) {
                    let known = self.known.len();
                    let branch = self.any(dice, depth - 1);
                    let tag = tag(&branch);
                    if branch.is_array() || tags.contains(&tag) {
                        self.known.truncate(known);
                        continue;
                    }
                    tags.push(tag);
                    branches.push(branch);
                }
                if branches.is_empty() {
                    branches.push(json!("null"));
                }
                Value::Array(branches)
            }
            7 if !self.known.is_empty() => json!(self.known[dice.below(self.known.len())]),
            _ => simple,
        }
    }
}

/// The name of a branch.
fn tag(branch: &Value) -> String {
    match branch {
        Value::String(name) => name.clone(),
        Value::Object(object) => {
            let named = object.get("name").or(object.get("type"));
            named.and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        _ => "union".to_owned(),
    }
}

fn default_of(held: &Value) -> Option<Value> {
    Some(match held {
        Value::String(name) => match name.as_str() {
            "int" | "long" => json!(7),
            "float" | "double" => json!(1.5),
            "string" | "bytes" => json!("x"),
            "boolean" => json!(true),
            "null" => json!(null),
            _ => return None,
        },
        Value::Array(branches) => default_of(branches.first()?)?,
        Value::Object(object) => match object["type"].as_str()? {
            "array" => json!([]),
            "map" => json!({}),
            "enum" => object["symbols"][0].clone(),
            _ => return None,
        },
        _ => return None,
    })
}

/// The schema with about one to three changes that people make.
pub(super) fn change(schema: &Value, dice: &mut Dice<'_>) -> Value {
    let mut changed = schema.clone();
    for _ in 0..=dice.below(3) {
        let mut places = Vec::new();
        collect(&changed, &mut Vec::new(), &mut places);
        let place = places[dice.below(places.len())].clone();
        let node = place.iter().fold(&mut changed, |node, step| match step {
            Step::Key(key) => &mut node[key.as_str()],
            Step::Index(index) => &mut node[*index],
        });
        change_node(node, dice);
    }
    changed
}

#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

/// Every place that holds a type.
fn collect(node: &Value, path: &mut Vec<Step>, places: &mut Vec<Vec<Step>>) {
    places.push(path.clone());
    let mut below = |steps: Vec<Step>, node: &Value| {
        let length = path.len();
        path.extend(steps);
        collect(node, path, places);
        path.truncate(length);
    };
    match node {
        Value::Array(branches) => {
            for (index, branch) in branches.iter().enumerate() {
                below(vec![Step::Index(index)], branch);
            }
        }
        Value::Object(object) => {
            for key in ["items", "values"] {
                if let Some(inner) = object.get(key) {
                    below(vec![Step::Key(key.into())], inner);
                }
            }
            for (index, field) in object
                .get("fields")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .enumerate()
            {
                let steps = ["fields".to_owned(), index.to_string(), "type".to_owned()];
                let [fields, _, kind] = steps.map(Step::Key);
                below(vec![fields, Step::Index(index), kind], &field["type"]);
            }
        }
        _ => {}
    }
}

fn change_node(node: &mut Value, dice: &mut Dice<'_>) {
    match node {
        Value::Array(branches) => match dice.below(3) {
            0 if branches.len() > 1 => {
                branches.remove(dice.below(branches.len()));
            }
            1 => branches.reverse(),
            _ => {
                let simple = json!(SIMPLE[dice.below(SIMPLE.len())]);
                if !branches.contains(&simple) {
                    branches.push(simple);
                }
            }
        },
        Value::Object(object) => match object["type"].as_str().unwrap_or_default() {
            "record" => change_record(object, dice),
            "enum" => {
                let symbols = object["symbols"].as_array_mut().unwrap();
                match dice.below(4) {
                    0 if symbols.len() > 1 => drop(symbols.pop()),
                    1 => symbols.push(json!("Z")),
                    2 => symbols.reverse(),
                    _ => rename(object, dice),
                }
            }
            "fixed" => match dice.below(2) {
                0 => object["size"] = json!(object["size"].as_u64().unwrap() + 1),
                _ => rename(object, dice),
            },
            _ => *node = json!(SIMPLE[dice.below(SIMPLE.len())]),
        },
        simple => match dice.below(3) {
            0 if *simple != json!("null") => *simple = json!(["null", simple.clone()]),
            _ => *simple = json!(SIMPLE[dice.below(SIMPLE.len())]),
        },
    }
}

fn change_record(object: &mut Map<String, Value>, dice: &mut Dice<'_>) {
    let fields = object["fields"].as_array_mut().unwrap();
    match dice.below(6) {
        0 if !fields.is_empty() => drop(fields.remove(dice.below(fields.len()))),
        1 => fields.push(json!({"name": "added", "type": "int"})),
        2 => fields.insert(
            0,
            json!({"name": "extra", "type": ["null", "int"], "default": null}),
        ),
        3 => fields.reverse(),
        4 if !fields.is_empty() => {
            let place = dice.below(fields.len());
            let old = fields[place]["name"].clone();
            fields[place]["name"] = json!("renamed");
            if dice.one_in(2) {
                fields[place]["aliases"] = json!([old]);
            }
        }
        _ => rename(object, dice),
    }
}

fn rename(object: &mut Map<String, Value>, dice: &mut Dice<'_>) {
    let old = object["name"].clone();
    object.insert("name".into(), json!(format!("{}x", old.as_str().unwrap())));
    if dice.one_in(2) {
        object.insert("aliases".into(), json!([old]));
    }
}

/// Whether every type in the schema has a value: a change can leave a record that holds itself.
pub(super) fn is_inhabited(schema: &Value) -> bool {
    let mut names = BTreeMap::new();
    define(schema, &mut names);
    let mut finite: Vec<&String> = Vec::new();
    loop {
        let more = names
            .iter()
            .filter(|(name, node)| !finite.contains(name) && is_finite(node, &finite));
        let more: Vec<&String> = more.map(|(name, _)| name).collect();
        if more.is_empty() {
            return finite.len() == names.len();
        }
        finite.extend(more);
    }
}

fn is_finite(node: &Value, finite: &[&String]) -> bool {
    match node {
        Value::String(name) => SIMPLE.contains(&name.as_str()) || finite.contains(&name),
        Value::Array(branches) => branches.iter().any(|branch| is_finite(branch, finite)),
        other => {
            let fields = other.get("fields").and_then(Value::as_array);
            let mut fields = fields.into_iter().flatten();
            fields.all(|field| match field["type"].get("name") {
                Some(Value::String(name)) => finite.contains(&name),
                _ => is_finite(&field["type"], finite),
            })
        }
    }
}

/// A record of the schema, in Avro's JSON encoding.
pub(super) fn record(schema: &Value, dice: &mut Dice<'_>) -> Value {
    let mut names = BTreeMap::new();
    define(schema, &mut names);
    value(schema, &names, dice, 0)
}

fn define<'a>(node: &'a Value, names: &mut BTreeMap<String, &'a Value>) {
    match node {
        Value::Array(branches) => branches.iter().for_each(|it| define(it, names)),
        Value::Object(object) => {
            if let Some(name) = object.get("name").and_then(Value::as_str) {
                names.insert(name.to_owned(), node);
            }
            ["items", "values"]
                .iter()
                .filter_map(|key| object.get(*key))
                .for_each(|it| define(it, names));
            let fields = object.get("fields").and_then(Value::as_array);
            fields
                .into_iter()
                .flatten()
                .for_each(|field| define(&field["type"], names));
        }
        _ => {}
    }
}

fn value(
    node: &Value,
    names: &BTreeMap<String, &Value>,
    dice: &mut Dice<'_>,
    depth: usize,
) -> Value {
    let word = match node {
        Value::Array(branches) => {
            let first_null = branches.iter().position(|it| it == "null");
            let chosen = match first_null {
                Some(null) if depth > 6 => null,
                _ => dice.below(branches.len()),
            };
            let branch = &branches[chosen];
            let inner = value(branch, names, dice, depth + 1);
            return match tag(branch).as_str() {
                "null" => inner,
                tag => Value::Object(Map::from_iter([(tag.to_owned(), inner)])),
            };
        }
        Value::String(word) => word.as_str(),
        other => other["type"].as_str().unwrap(),
    };
    let count = if depth > 6 { 0 } else { dice.below(3) };
    match word {
        "null" => Value::Null,
        "boolean" => json!(dice.one_in(2)),
        "int" | "long" => json!([0, -1, 64, 2_147_483_647][dice.below(4)]),
        "float" => json!([0.0, -1.5, 3.25][dice.below(3)]),
        "double" => json!([0.0, 0.1, 1e300][dice.below(3)]),
        "string" => json!(["", "text", "é"][dice.below(3)]),
        "bytes" => json!(["", "\u{ff}\u{0}", "abc"][dice.below(3)]),
        "array" => (0..count)
            .map(|_| value(&node["items"], names, dice, depth + 1))
            .collect(),
        "map" => Value::Object(
            (0..count.min(1))
                .map(|_| {
                    (
                        "key".to_owned(),
                        value(&node["values"], names, dice, depth + 1),
                    )
                })
                .collect(),
        ),
        "enum" => {
            let symbols = node["symbols"].as_array().unwrap();
            symbols[dice.below(symbols.len())].clone()
        }
        "fixed" => {
            let size = node["size"].as_u64().unwrap();
            json!((0..size).map(|_| '\u{e9}').collect::<String>())
        }
        "record" => {
            let fields = node["fields"].as_array().unwrap().iter();
            let pairs = fields.map(|field| {
                let name = field["name"].as_str().unwrap().to_owned();
                (name, value(&field["type"], names, dice, depth + 1))
            });
            Value::Object(pairs.collect())
        }
        name => value(names[name], names, dice, depth),
    }
}

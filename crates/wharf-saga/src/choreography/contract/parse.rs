//! Reading a contract from YAML or JSON, with all that is wrong at once.

use std::collections::HashMap;
use std::time::Duration;

use serde_yaml_ng::Value;

use super::expect::{self, Form};
use super::read::{Map, Reader, at};
use super::{Contract, End, Event, Expect, Problem, Rule};
use crate::choreography::correlation::{Correlation, JsonPath, Source};
use crate::choreography::nearest::hint;

/// The longest document.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// How many events and rules a contract may have.
const EVENTS_MAX: usize = 500;
const RULES_MAX: usize = 1_000;
/// The longest name of a contract.
const NAME_MAX: usize = 200;

const WITHIN: Duration = Duration::from_secs(60);
const REORDER: Duration = Duration::from_secs(1);
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

const KEYS: [&str; 13] = [
    "choreography",
    "description",
    "correlation",
    "events",
    "starts",
    "rules",
    "compensation",
    "pivot",
    "ends",
    "reorder-within",
    "undo-within",
    "lifetime",
    "other-events",
];

pub(super) fn parse(text: &str) -> Result<Contract, Vec<Problem>> {
    if text.len() > TEXT_BYTES_MAX {
        let sentence = format!(
            "the contract has {} bytes; {TEXT_BYTES_MAX} are allowed",
            text.len()
        );
        return Err(vec![Problem::new("", sentence)]);
    }
    let value: Value = serde_yaml_ng::from_str(text).map_err(|error| {
        vec![Problem::new(
            "",
            format!("this is neither YAML nor JSON: {error}"),
        )]
    })?;
    let mut reader = Reader::default();
    let root = reader.map(&value, "", Some(&KEYS));
    let contract = Parser {
        reader: &mut reader,
        numbers: HashMap::new(),
        events: Vec::new(),
    }
    .contract(&root);
    match reader.problems.is_empty() {
        true => Ok(contract),
        false => Err(reader.problems),
    }
}

struct Parser<'r> {
    reader: &'r mut Reader,
    numbers: HashMap<String, usize>,
    events: Vec<Event>,
}

impl Parser<'_> {
    fn contract(mut self, root: &Map<'_>) -> Contract {
        let name = self.name(root);
        let description = root.get("description");
        let description = description.and_then(|text| self.reader.text(text, "/description"));
        let correlation = root.get("correlation").map(|value| self.correlation(value));
        self.read_events(root);
        self.compensation(root);
        let starts = self.starts(root);
        let pivot = root.get("pivot").and_then(|value| {
            let name = self.reader.text(value, "/pivot")?;
            self.event("/pivot", name)
        });
        self.ends(root);
        let rules = self.rules(root);
        let ignores_others = match root.get("other-events").map(Value::as_str) {
            None | Some(Some("ignored")) => true,
            Some(Some("refused")) => false,
            Some(_) => {
                let sentence = "this must be `ignored` or `refused`";
                self.reader.problem("/other-events", sentence);
                true
            }
        };
        Contract {
            name,
            description: description.map(str::to_owned),
            correlation: correlation.unwrap_or_default(),
            starts,
            rules,
            pivot,
            reorder: self.time(root, "reorder-within", REORDER),
            undo_within: self.time(root, "undo-within", WITHIN),
            lifetime: self.time(root, "lifetime", LIFETIME),
            ignores_others,
            events: self.events,
        }
    }

    fn name(&mut self, root: &Map<'_>) -> String {
        let Some(value) = root.get("choreography") else {
            let sentence = "the contract has no name: write `choreography: <name>`";
            self.reader.problem("/choreography", sentence);
            return String::new();
        };
        let name = self.reader.text(value, "/choreography").unwrap_or("");
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.len() > NAME_MAX || !name.bytes().all(is_plain) {
            let sentence = format!(
                "the name `{name}` must be letters, digits, `.`, `_` and `-`, and at most {NAME_MAX} of them"
            );
            self.reader.problem("/choreography", sentence);
        }
        name.to_owned()
    }

    fn time(&mut self, map: &Map<'_>, key: &str, usual: Duration) -> Duration {
        let Some(value) = map.get(key) else {
            return usual;
        };
        let path = map.at(key);
        let text = self.reader.text(value, &path);
        let read = text.and_then(|text| self.reader.good(&path, expect::duration(text)));
        read.unwrap_or(usual)
    }

    fn correlation(&mut self, value: &Value) -> Correlation {
        let mut correlation = Correlation::default();
        let one = [value.clone()];
        let all = match value {
            Value::Sequence(all) => all.as_slice(),
            _ => &one,
        };
        for (index, value) in all.iter().enumerate() {
            let path = format!("/correlation/{index}");
            let map = self
                .reader
                .map(value, &path, Some(&["header", "key", "json", "topics"]));
            let Some(source) = self.source(&map) else {
                continue;
            };
            match map.get("topics") {
                None => correlation.sources.push(source),
                Some(topics) => {
                    for (_, topic) in self.reader.texts(topics, &map.at("topics")) {
                        let sources = correlation.topics.entry(topic.to_owned()).or_default();
                        sources.push(source.clone());
                    }
                }
            }
        }
        correlation
    }

    fn source(&mut self, map: &Map<'_>) -> Option<Source> {
        let said: Vec<&(&str, &Value)> = map
            .entries()
            .iter()
            .filter(|(key, _)| *key != "topics")
            .collect();
        let [(key, value)] = said.as_slice() else {
            let sentence = "say one of `header: <name>`, `json: $.path` and `key: true`";
            self.reader.problem(&map.path, sentence);
            return None;
        };
        let path = map.at(key);
        match *key {
            "key" if value.as_bool() == Some(true) => Some(Source::Key),
            "key" => {
                self.reader
                    .problem(path, "this must be `true`, or be left out");
                None
            }
            "header" => {
                let name = self.reader.text(value, &path)?;
                Some(Source::Header(name.to_owned()))
            }
            _ => {
                let text = self.reader.text(value, &path)?;
                self.reader
                    .good(&path, JsonPath::parse(text))
                    .map(Source::Json)
            }
        }
    }

    fn read_events(&mut self, root: &Map<'_>) {
        let Some(value) = root.get("events") else {
            let sentence = "the contract names no events: `events:` maps each to its topic";
            self.reader.problem("/events", sentence);
            return;
        };
        let map = self.reader.map(value, "/events", None);
        if map.entries().len() > EVENTS_MAX {
            let sentence = format!("{} events; {EVENTS_MAX} are allowed", map.entries().len());
            self.reader.problem("/events", sentence);
            return;
        }
        let mut letters = Vec::new();
        for (name, value) in map.entries() {
            let path = at("/events", name);
            let keys = ["topic", "from", "effect", "dead-letter-of"];
            let fields = self.reader.map(value, &path, Some(&keys));
            let letter = fields.get("dead-letter-of");
            if let Some(of) = letter {
                let place = fields.at("dead-letter-of");
                let of = self.reader.text(of, &place);
                letters.extend(of.map(|of| (self.events.len(), place, of.to_owned())));
            }
            let topic = match fields.get("topic") {
                Some(topic) => self.reader.text(topic, &fields.at("topic")),
                None if letter.is_some() => None,
                None => {
                    let sentence = format!("`{name}` has no topic: write `topic: <name>`");
                    self.reader.problem(&path, sentence);
                    None
                }
            };
            let from = fields.get("from");
            let from = from.and_then(|from| self.reader.text(from, &fields.at("from")));
            let is_notice = match fields.get("effect").map(Value::as_str) {
                None => letter.is_some(),
                Some(Some("none")) => true,
                Some(_) => {
                    let sentence =
                        "this must be `none`, for an event that changes nothing, or be left out";
                    self.reader.problem(fields.at("effect"), sentence);
                    false
                }
            };
            self.numbers.insert((*name).to_owned(), self.events.len());
            self.events.push(Event {
                name: (*name).to_owned(),
                topic: topic.unwrap_or("").to_owned(),
                from: from.map(str::to_owned),
                dead_letter_of: None,
                undoes: None,
                undo: None,
                is_notice,
                end: None,
            });
        }
        self.dead_letters(letters);
    }

    /// Which events are set aside as dead letters, and where.
    fn dead_letters(&mut self, letters: Vec<(usize, String, String)>) {
        for (letter, place, of) in letters {
            let Some(of) = self.event(&place, &of) else {
                continue;
            };
            let Event {
                name, from, topic, ..
            } = &self.events[letter];
            let (name, original) = (name.clone(), &self.events[of]);
            let usual = from
                .as_ref()
                .map(|group| format!("dlq.{}.{group}", original.topic));
            let topic = match topic.is_empty() {
                true => usual,
                false => Some(topic.clone()),
            };
            if of == letter || original.dead_letter_of.is_some() {
                let sentence = format!("`{}` is a dead letter itself", original.name);
                self.reader.problem(&place, sentence);
            }
            match topic {
                Some(topic) => {
                    self.events[letter].topic = topic;
                    self.events[letter].dead_letter_of = Some(of);
                }
                None => {
                    let sentence = format!(
                        "nothing says whose dead letters `{name}` is: write `from: <service>` or `topic: <name>`"
                    );
                    self.reader.problem(&place, sentence);
                }
            }
        }
    }

    /// The number of an event.
    fn event(&mut self, path: &str, name: &str) -> Option<usize> {
        let number = self.numbers.get(name).copied();
        if number.is_none() {
            let known = self.events.iter().map(|event| event.name.as_str());
            let hint = hint(name, known);
            let sentence = format!("`{name}` is not among the events{hint}");
            self.reader.problem(path, sentence);
        }
        number
    }

    fn compensation(&mut self, root: &Map<'_>) {
        let Some(value) = root.get("compensation") else {
            return;
        };
        let map = self.reader.map(value, "/compensation", None);
        for (name, value) in map.entries() {
            let path = at("/compensation", name);
            let does = self.event(&path, name);
            let undo = self.reader.text(value, &path);
            let undo = undo.and_then(|undo| self.event(&path, undo));
            let (Some(does), Some(undo)) = (does, undo) else {
                continue;
            };
            if does == undo {
                self.reader
                    .problem(&path, format!("`{name}` cannot undo itself"));
            } else if let Some(other) = self.events[undo].undoes {
                let (undo, other) = (&self.events[undo].name, &self.events[other].name);
                let sentence = format!("`{undo}` undoes `{other}` already; give each its own undo");
                self.reader.problem(&path, sentence);
            } else {
                self.events[does].undo = Some(undo);
                self.events[undo].undoes = Some(does);
            }
        }
        for event in 0..self.events.len() {
            if self.events[event].undoes.is_some() && self.events[event].undo.is_some() {
                let name = self.events[event].name.clone();
                let sentence = format!("`{name}` is an undo, so it has none itself");
                self.reader.problem(at("/compensation", &name), sentence);
            }
        }
    }

    fn starts(&mut self, root: &Map<'_>) -> Vec<usize> {
        let Some(value) = root.get("starts") else {
            let sentence = "nothing says where an instance begins: write `starts: [<event>]`";
            self.reader.problem("/starts", sentence);
            return Vec::new();
        };
        let texts = self.reader.texts(value, "/starts");
        if texts.is_empty() {
            self.reader.problem("/starts", "the list is empty");
        }
        let starts = texts
            .iter()
            .filter_map(|(path, name)| self.event(path, name));
        starts.collect()
    }

    fn ends(&mut self, root: &Map<'_>) {
        let Some(value) = root.get("ends") else {
            let sentence = "nothing says where an instance ends: write `ends: [<event>]`";
            self.reader.problem("/ends", sentence);
            return;
        };
        let mut ends = Vec::new();
        if let Value::Mapping(_) = value {
            let map = self
                .reader
                .map(value, "/ends", Some(&["completed", "compensated"]));
            for (key, value) in map.entries() {
                let end = match *key {
                    "completed" => End::Completed,
                    _ => End::Compensated,
                };
                let texts = self.reader.texts(value, &map.at(key));
                ends.extend(
                    texts
                        .into_iter()
                        .map(|(path, name)| (path, name, Some(end))),
                );
            }
        } else {
            let texts = self.reader.texts(value, "/ends");
            ends.extend(texts.into_iter().map(|(path, name)| (path, name, None)));
        }
        if ends.is_empty() {
            self.reader.problem("/ends", "no end is named");
        }
        for (path, name, end) in ends {
            let Some(event) = self.event(&path, name) else {
                continue;
            };
            let event = &mut self.events[event];
            // An end that undoes something is one where all was undone.
            let usual = match event.undoes {
                Some(_) => End::Compensated,
                None => End::Completed,
            };
            event.end = Some(end.unwrap_or(usual));
        }
    }

    fn rules(&mut self, root: &Map<'_>) -> Vec<Rule> {
        let Some(Value::Sequence(all)) = root.get("rules") else {
            let sentence = "`rules:` must be a list of `on:` and `expect:`";
            self.reader.problem("/rules", sentence);
            return Vec::new();
        };
        if all.len() > RULES_MAX {
            let sentence = format!("{} rules; {RULES_MAX} are allowed", all.len());
            self.reader.problem("/rules", sentence);
            return Vec::new();
        }
        let rules = all.iter().enumerate();
        let rules = rules.filter_map(|(index, value)| self.rule(value, format!("/rules/{index}")));
        rules.collect()
    }

    fn rule(&mut self, value: &Value, path: String) -> Option<Rule> {
        let keys = ["on", "expect", "within", "from", "read-by"];
        let map = self.reader.map(value, &path, Some(&keys));
        let on = map
            .get("on")
            .and_then(|value| self.reader.text(value, &map.at("on")));
        if map.get("on").is_none() {
            self.reader.problem(&path, "the rule has no `on: <event>`");
        }
        let on = on.and_then(|name| self.event(&map.at("on"), name));
        let text = self.expected(&map);
        let within = match (map.get("within"), &text) {
            (None, Some(text)) if text.within.is_some() => text.within.unwrap_or(WITHIN),
            _ => self.time(&map, "within", WITHIN),
        };
        let from = map
            .get("from")
            .and_then(|value| self.reader.text(value, &map.at("from")));
        let from = from.or_else(|| text.as_ref()?.from.as_deref());
        let text_ref = text.as_ref();
        let mut events = Vec::new();
        for name in text_ref.into_iter().flat_map(|text| &text.events) {
            let number = self.event(&map.at("expect"), name)?;
            if events.contains(&number) {
                self.reader
                    .problem(map.at("expect"), format!("`{name}` is named twice"));
            } else {
                events.push(number);
            }
        }
        self.agree(&map.at("from"), from, &events);
        let group = map
            .get("read-by")
            .and_then(|value| self.reader.text(value, &map.at("read-by")));
        let group = group.or(from).map(str::to_owned);
        let expect = match text_ref?.form {
            Form::OneOf => Expect::OneOf(events),
            Form::AllOf => Expect::AllOf(events),
            Form::Compensation => Expect::Compensation,
        };
        Some(Rule {
            on: on?,
            group: group.filter(|_| expect != Expect::Compensation),
            expect,
            within,
            path,
        })
    }

    fn expected(&mut self, map: &Map<'_>) -> Option<expect::Text> {
        let path = map.at("expect");
        let Some(value) = map.get("expect") else {
            let sentence = "the rule has no `expect:`, as `expect: one of [A, B]`";
            self.reader.problem(&map.path, sentence);
            return None;
        };
        match value {
            Value::Mapping(_) => {
                let inner = self.reader.map(value, &path, Some(&["one-of", "all-of"]));
                let [(key, list)] = inner.entries() else {
                    self.reader
                        .problem(&path, "say either `one-of:` or `all-of:`");
                    return None;
                };
                let texts = self.reader.texts(list, &inner.at(key));
                if texts.is_empty() {
                    self.reader
                        .problem(inner.at(key), "the list of events is empty");
                }
                Some(expect::Text {
                    form: match *key {
                        "one-of" => Form::OneOf,
                        _ => Form::AllOf,
                    },
                    events: texts.into_iter().map(|(_, text)| text.to_owned()).collect(),
                    ..expect::Text::default()
                })
            }
            Value::Sequence(_) => {
                let sentence = "a list does not say whether one or all are expected: write `one of [A, B]` or `all of [A, B]`";
                self.reader.problem(&path, sentence);
                None
            }
            _ => {
                let text = self.reader.text(value, &path)?;
                self.reader.good(&path, expect::read(text))
            }
        }
    }

    /// What a rule says of where its events come from, and what the events say, is the same.
    fn agree(&mut self, path: &str, from: Option<&str>, events: &[usize]) {
        let Some(from) = from else { return };
        for event in events {
            let event = &mut self.events[*event];
            match &event.from {
                None => event.from = Some(from.to_owned()),
                Some(other) if other != from => {
                    let sentence = format!(
                        "the rule says that `{}` comes from {from}, and its event that it comes from {other}",
                        event.name
                    );
                    self.reader.problem(path, sentence);
                }
                Some(_) => {}
            }
        }
    }
}

//! What a resource of a definition leads to: workers of our own kinds, or foreign names by the map.
//!
//! A definition keeps the names that it was written with; they are looked up at every dispatch, so a
//! change of the map moves also what runs. What leads nowhere is refused when it is deployed, with
//! all such names at once, and never found out while a saga runs.

use serde_json::{Value, json};
use wharf_message::TopicName;
use wharf_saga::definition::{Flow, Kind, Machine, Task};

use crate::config::Mapping;

/// How many characters a name of a worker may have.
const NAME_CHARS_MAX: usize = 250;
/// Amazon's call of a function whose name is among the arguments.
const INVOKE: &str = "arn:aws:states:::lambda:invoke";
/// Amazon's call that starts an execution, whose machine is among the arguments.
const START: &str = "arn:aws:states:::states:startExecution";
/// Behind a resource: the worker gets a token, and answers with it.
const BY_TOKEN: &str = ".waitForTaskToken";
/// Amazon's calls that send a message and are done.
const PUBLISHES: [&str; 3] = [
    "arn:aws:states:::sns:publish",
    "arn:aws:states:::sqs:sendMessage",
    "arn:aws:states:::events:putEvents",
];

/// Who does the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Worker {
    /// Whoever reads the command topic.
    Topic(TopicName),
    /// Whoever answers at this address.
    Http(String),
    /// A handler in this process.
    Handler(String),
    /// Whoever asks for tasks of this name.
    Activity(String),
    /// A sub-saga of this type.
    Saga(String),
    /// The machine itself: the saga waits for a signal.
    Signal,
}

/// What becomes of the arguments and of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing.
    Plain,
    /// The function gets `Payload`, and its result comes in Amazon's envelope.
    Invoke,
    /// A message is sent, and that is all.
    Publish,
    /// The function gets `Payload`; the result is what comes with the token.
    Token,
    /// An execution is started, and its ARN is the result.
    Start,
    /// The same; the result is its end, with its output as JSON or as text.
    Sync {
        /// Whether the output is JSON.
        json: bool,
    },
    /// The same; the result is what comes with the token.
    StartToken,
}

/// A resource, looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) worker: Worker,
    pub(crate) form: Form,
}

/// The map of foreign names.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResourceMap {
    entries: Vec<Mapping>,
}

/// A resource that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unmapped {
    /// The state's name.
    pub(crate) state: String,
    /// The resource.
    pub(crate) resource: String,
    /// Why, and what to do.
    pub(crate) why: String,
}

impl ResourceMap {
    pub(crate) fn new(entries: Vec<Mapping>) -> Self {
        Self { entries }
    }

    /// Who does the work of a task with these arguments.
    pub(crate) fn resolve(&self, resource: &str, arguments: &Value) -> Result<Resolved, String> {
        if resource.starts_with("wharf:") {
            let worker = native(resource)?;
            let form = Form::Plain;
            return Ok(Resolved { worker, form });
        }
        if let Some(how) = resource.strip_prefix(START) {
            return started(how, arguments);
        }
        let (plain, by_token) = match resource.strip_suffix(BY_TOKEN) {
            Some(plain) => (plain, true),
            None => (resource, false),
        };
        if plain == INVOKE {
            let name = arguments.get("FunctionName").and_then(Value::as_str);
            let name = name.map(function_name).unwrap_or_default();
            let form = if by_token { Form::Token } else { Form::Invoke };
            // The function by its own name, then whatever the map says of the call.
            let arn = format!("arn:aws:lambda:any:any:function:{name}");
            let found = self.lookup(&arn).or_else(|| self.lookup(plain));
            let to = found.ok_or_else(|| unmapped(&arn))?;
            let worker = native(&to)?;
            return Ok(Resolved { worker, form });
        }
        if let Some((_, name)) = activity(plain) {
            let to = self.lookup(plain);
            let worker = match to {
                Some(to) => native(&to)?,
                None => Worker::Activity(name.to_owned()),
            };
            let form = Form::Plain;
            return Ok(Resolved { worker, form });
        }
        let to = self.lookup(plain).ok_or_else(|| unmapped(resource))?;
        let worker = native(&to)?;
        let form = match PUBLISHES.contains(&plain) {
            true if by_token => Form::Plain,
            true => Form::Publish,
            false => Form::Plain,
        };
        if form == Form::Publish && !matches!(worker, Worker::Topic(_)) {
            return Err(format!(
                "{plain} sends a message, so it must lead to a wharf:topic:, not to {to}"
            ));
        }
        Ok(Resolved { worker, form })
    }

    fn lookup(&self, arn: &str) -> Option<String> {
        let found = |entry: &Mapping| {
            let name = matched(&entry.arn, arn)?;
            Some(entry.to.replace("NAME", &name))
        };
        self.entries.iter().find_map(found)
    }

    /// Every resource of a machine that leads nowhere, undos included.
    pub(crate) fn unmapped(&self, machine: &Machine) -> Vec<Unmapped> {
        let mut found = Vec::new();
        self.of_flow(&machine.flow, &mut found);
        found
    }

    fn of_flow(&self, flow: &Flow, found: &mut Vec<Unmapped>) {
        for state in &flow.states {
            let mut check = |resource: &str, arguments: &Value| {
                if let Err(why) = self.resolve(resource, arguments) {
                    found.push(Unmapped {
                        state: state.name.clone(),
                        resource: resource.to_owned(),
                        why,
                    });
                }
            };
            let arguments = arguments(state).cloned().unwrap_or_default();
            if let Kind::Task(task) = &state.kind {
                check(&task.resource, &arguments);
            }
            if let Some(undo) = &state.compensate {
                check(
                    &undo.resource,
                    undo.arguments.as_ref().unwrap_or(&Value::Null),
                );
            }
            for flow in flows(&state.kind) {
                self.of_flow(flow, found);
            }
        }
    }
}

/// The template of what goes to the work.
fn arguments(state: &wharf_saga::definition::State) -> Option<&Value> {
    use wharf_saga::definition::Data;
    match &state.data {
        Data::Path(data) => data.parameters.as_ref(),
        Data::Jsonata(data) => data.arguments.as_ref(),
    }
}

/// The flows inside a state.
pub(crate) fn flows(kind: &Kind) -> Vec<&Flow> {
    match kind {
        Kind::Parallel(parallel) => parallel.branches.iter().collect(),
        Kind::Map(map) => vec![&map.processor],
        _ => Vec::new(),
    }
}

/// Every task of a machine with the name of its state.
pub(crate) fn tasks(machine: &Machine) -> Vec<(&str, &Task)> {
    fn of<'a>(flow: &'a Flow, found: &mut Vec<(&'a str, &'a Task)>) {
        for state in &flow.states {
            if let Kind::Task(task) = &state.kind {
                found.push((&state.name, task));
            }
            for flow in flows(&state.kind) {
                of(flow, found);
            }
        }
    }
    let mut found = Vec::new();
    of(&machine.flow, &mut found);
    found
}

/// The resource of every undo of a machine with the name of its state.
pub(crate) fn undos(machine: &Machine) -> Vec<(&str, &str)> {
    fn of<'a>(flow: &'a Flow, found: &mut Vec<(&'a str, &'a str)>) {
        for state in &flow.states {
            let undo = state.compensate.iter();
            found.extend(undo.map(|undo| (state.name.as_str(), undo.resource.as_str())));
            for flow in flows(&state.kind) {
                of(flow, found);
            }
        }
    }
    let mut found = Vec::new();
    of(&machine.flow, &mut found);
    found
}

impl Resolved {
    /// What the worker gets.
    pub(crate) fn arguments(&self, arguments: &Value) -> Value {
        match self.form {
            Form::Plain => arguments.clone(),
            Form::Start | Form::Sync { .. } | Form::StartToken => {
                arguments.get("Input").cloned().unwrap_or(json!({}))
            }
            Form::Invoke | Form::Token => arguments.get("Payload").cloned().unwrap_or(json!({})),
            Form::Publish => ["Message", "MessageBody", "Entries"]
                .iter()
                .find_map(|field| arguments.get(field))
                .unwrap_or(arguments)
                .clone(),
        }
    }

    /// What the saga gets.
    pub(crate) fn result(&self, output: Value) -> Value {
        match self.form {
            Form::Invoke => json!({
                "ExecutedVersion": "$LATEST",
                "Payload": output,
                "StatusCode": 200,
            }),
            _ => output,
        }
    }
}

/// A resource of this house.
fn native(resource: &str) -> Result<Worker, String> {
    let unknown = || {
        format!(
            "{resource:?} is none of wharf:topic:, wharf:http:, wharf:handler:, wharf:activity:, \
             wharf:saga: and wharf:signal: with a name"
        )
    };
    let rest = resource.strip_prefix("wharf:").ok_or_else(unknown)?;
    let (kind, name) = rest.split_once(':').ok_or_else(unknown)?;
    if name.is_empty() || name.len() > 4 * NAME_CHARS_MAX {
        return Err(unknown());
    }
    Ok(match kind {
        "topic" => {
            let topic = TopicName::new(name).map_err(|error| error.to_string())?;
            if topic.is_internal() {
                return Err(format!("{name} is one of Wharf's own topics"));
            }
            Worker::Topic(topic)
        }
        "http" => {
            let address = match name.split_once("://") {
                Some(("http" | "https", host)) if !host.is_empty() => name.to_owned(),
                _ => {
                    return Err(format!(
                        "{name:?} is no address; it begins with http:// or https://"
                    ));
                }
            };
            Worker::Http(address)
        }
        "handler" => Worker::Handler(name.to_owned()),
        "activity" => Worker::Activity(name.to_owned()),
        "saga" => Worker::Saga(name.to_owned()),
        "signal" => Worker::Signal,
        _ => return Err(unknown()),
    })
}

/// What stands for `NAME` in a pattern that fits; empty when it has none.
fn matched(pattern: &str, arn: &str) -> Option<String> {
    let (mut patterns, mut parts) = (pattern.split(':'), arn.split(':'));
    let mut name = String::new();
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return Some(name),
            (Some("NAME"), Some(part)) => part.clone_into(&mut name),
            // `*` in the last place of a short pattern does not swallow what follows.
            (Some("*"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            // Regions and accounts may be left out: `arn:aws:lambda:*:function:NAME`.
            (Some("function"), Some(_)) if parts.clone().next() == Some("function") => {
                parts.next();
            }
            _ => return None,
        }
    }
}

/// Region and name of an activity.
fn activity(arn: &str) -> Option<(&str, &str)> {
    let rest = arn.strip_prefix("arn:aws:states:")?;
    let mut parts = rest.split(':');
    let (region, _account) = (parts.next()?, parts.next()?);
    (parts.next()? == "activity").then_some(())?;
    Some((region, parts.next()?))
}

/// A function's name out of its name, or out of any form of its address.
fn function_name(text: &str) -> &str {
    let name = match text.split_once(":function:") {
        Some((_, name)) => name,
        None => text,
    };
    name.split(':').next().unwrap_or(name)
}

/// An execution of the machine that the arguments name; where an expression names it, that is known
/// only when it is dispatched.
fn started(how: &str, arguments: &Value) -> Result<Resolved, String> {
    let form = match how {
        "" => Form::Start,
        ".sync" => Form::Sync { json: false },
        ".sync:2" => Form::Sync { json: true },
        BY_TOKEN => Form::StartToken,
        _ => {
            return Err(format!(
                "{START}{how} is none of the ways to start an execution"
            ));
        }
    };
    let text = arguments.get("StateMachineArn").and_then(Value::as_str);
    let is_later = arguments.is_null()
        || arguments.is_string()
        || arguments.get("StateMachineArn.$").is_some()
        || text.is_some_and(|text| text.trim_start().starts_with("{%"));
    let name = text.and_then(|text| text.split_once(":stateMachine:"));
    let name = match name {
        Some((_, name)) if !name.is_empty() && !name.contains(':') => name,
        _ if is_later => "",
        _ => return Err("`StateMachineArn` is not the ARN of a state machine".to_owned()),
    };
    let worker = Worker::Saga(name.to_owned());
    Ok(Resolved { worker, form })
}

fn unmapped(resource: &str) -> String {
    format!(
        "{resource} is not in the resource map; add `[[saga.resource]]` with this `arn`, and `to` \
         saying who does it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> ResourceMap {
        let entry = |(arn, to): &(&str, &str)| Mapping {
            arn: (*arn).to_owned(),
            to: (*to).to_owned(),
        };
        ResourceMap::new(entries.iter().map(entry).collect())
    }

    fn worker(map: &ResourceMap, resource: &str) -> Result<Worker, String> {
        map.resolve(resource, &Value::Null)
            .map(|found| found.worker)
    }

    #[test]
    fn resources_of_this_house_need_no_map() {
        let none = ResourceMap::default();
        let topic = TopicName::new("pay").unwrap();
        assert_eq!(worker(&none, "wharf:topic:pay"), Ok(Worker::Topic(topic)));
        assert_eq!(
            worker(&none, "wharf:http:http://127.0.0.1:1/pay"),
            Ok(Worker::Http("http://127.0.0.1:1/pay".to_owned()))
        );
        for (resource, is_known) in [
            ("wharf:handler:pay", true),
            ("wharf:activity:pay", true),
            ("wharf:saga:pay", true),
            ("wharf:signal:paid", true),
            ("wharf:handler:", false),
            ("wharf:pigeon:pay", false),
            ("wharf:topic:a b", false),
            ("wharf:topic:_wharf.sagas", false),
            ("wharf:http:ftp://host", false),
            ("wharf", false),
            ("", false),
        ] {
            assert_eq!(worker(&none, resource).is_ok(), is_known, "{resource}");
        }
    }

    #[test]
    fn foreign_names_are_found_with_or_without_region_and_account() {
        let map = map(&[
            ("arn:aws:lambda:*:function:NAME", "wharf:topic:cmd-NAME"),
            ("arn:aws:states:::sns:publish", "wharf:topic:events"),
        ]);
        let topic = |name: &str| Ok(Worker::Topic(TopicName::new(name).unwrap()));
        let arn = "arn:aws:lambda:eu-west-1:123456789012:function:pay";
        assert_eq!(worker(&map, arn), topic("cmd-pay"));
        let arguments = json!({ "FunctionName": arn, "Payload": { "a": 1 } });
        let found = map.resolve(INVOKE, &arguments).unwrap();
        assert_eq!(Ok(found.worker.clone()), topic("cmd-pay"));
        assert_eq!(found.arguments(&arguments), json!({ "a": 1 }));
        assert_eq!(found.result(json!(2))["Payload"], 2);
        let found = map
            .resolve(PUBLISHES[0], &json!({ "Message": "m" }))
            .unwrap();
        assert_eq!(
            (found.form, found.arguments(&json!({ "Message": "m" }))),
            (Form::Publish, json!("m"))
        );
        let activity = "arn:aws:states:eu-west-1:123456789012:activity:pack";
        assert_eq!(
            worker(&map, activity),
            Ok(Worker::Activity("pack".to_owned()))
        );
        let refusal = worker(&map, "arn:aws:states:::dynamodb:putItem").unwrap_err();
        assert!(refusal.contains("[[saga.resource]]"), "{refusal}");
    }

    #[test]
    fn the_arguments_name_the_machine_that_is_started() {
        let map = map(&[]);
        let named = json!({ "StateMachineArn": "arn:aws:states:eu-west-1:1:stateMachine:pay", "Input": { "n": 1 } });
        for (how, form) in [
            ("", Form::Start),
            (".sync", Form::Sync { json: false }),
            (".sync:2", Form::Sync { json: true }),
            (".waitForTaskToken", Form::StartToken),
        ] {
            let found = map.resolve(&format!("{START}{how}"), &named).unwrap();
            assert_eq!(found.worker, Worker::Saga("pay".to_owned()));
            assert_eq!(
                (found.form, found.arguments(&named)),
                (form, json!({ "n": 1 }))
            );
        }
        let later = json!({ "StateMachineArn.$": "$.machine" });
        assert!(map.resolve(START, &later).is_ok());
        for wrong in [json!({}), json!({ "StateMachineArn": "pay" })] {
            assert!(map.resolve(START, &wrong).is_err(), "{wrong}");
        }
        assert!(map.resolve(&format!("{START}.async"), &named).is_err());
    }
}

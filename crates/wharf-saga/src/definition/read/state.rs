//! The eight kinds of states.

use serde_json::Value;

use super::super::text::clip;
use super::super::{
    Code, Fail, Given, Items, Kind, Map, Next, Parallel, Pass, QueryLanguage, State, Task, Wait,
    escape,
};
use super::expressions::{has_dollar_key, looks_like_path};
use super::fields::Fields;
use super::outline::Node;
use super::{LANGUAGES, Reader, SECONDS_MAX};

/// How long the name of a state may be, in characters.
const NAME_MAX: usize = 80;

const KINDS: &[(&str, &str)] = &[
    ("Task", "Task"),
    ("Pass", "Pass"),
    ("Choice", "Choice"),
    ("Wait", "Wait"),
    ("Succeed", "Succeed"),
    ("Fail", "Fail"),
    ("Parallel", "Parallel"),
    ("Map", "Map"),
];

/// What only a distributed Map of Step Functions has.
const DISTRIBUTED: &[&str] = &["ItemReader", "ItemBatcher", "ResultWriter"];

impl Reader<'_> {
    /// A state, unless something is wrong with it.
    pub(super) fn named_state(&mut self, name: &str, value: &Value, at: String) -> Option<State> {
        let before = self.errors;
        self.outline().states.push(Node {
            name: name.to_owned(),
            kind: "",
            targets: Vec::new(),
            ends: false,
            unclear: true,
        });
        self.name(name, &at);
        let mut fields = Fields::of(self, value, at, "a state")?;
        let why = "it says what the state does; write Task, Pass, Choice, Wait, Succeed, Fail, Parallel or Map";
        fields.need(self, "Type", why)?;
        let kind = fields.word(self, "Type", KINDS)?;
        let comment = fields.text(self, "Comment");
        let language = self.state_language(&mut fields);
        if let Some(node) = self.outline().states.last_mut() {
            node.kind = kind;
            node.unclear = false;
            node.ends = matches!(kind, "Succeed" | "Fail");
        }
        let next = if matches!(kind, "Choice" | "Succeed" | "Fail") {
            Next::End
        } else {
            self.next(&mut fields, kind)
        };
        let data = self.data(&mut fields, kind, language);
        let with = match kind {
            "Task" => Some(self.task(&mut fields, language)),
            "Pass" => Some(self.pass(&mut fields, language)),
            "Choice" => self.choice(&mut fields, language),
            "Wait" => self.wait(&mut fields, language),
            "Succeed" => Some(Kind::Succeed),
            "Fail" => Some(self.fail(&mut fields, language)),
            "Parallel" => self.parallel(&mut fields),
            _ => self.map(&mut fields, language),
        };
        let recovers = matches!(kind, "Task" | "Parallel" | "Map");
        let (mut retry, mut catch, mut compensate) = (Vec::new(), Vec::new(), None);
        if recovers {
            retry = self.retry(&mut fields);
            catch = self.catch(&mut fields, language);
            compensate = self.compensate(&mut fields, language);
        }
        fields.finish(self, Some(language), &format!("{kind} state"));
        let state = State {
            name: name.to_owned(),
            comment,
            kind: with?,
            data,
            next,
            retry,
            catch,
            compensate,
        };
        (self.errors == before + self.unreachable_since(before)).then_some(state)
    }

    fn name(&mut self, name: &str, at: &str) {
        let length = name.chars().count();
        if length == 0 || length > NAME_MAX || name.chars().any(char::is_control) {
            let message = format!(
                "the name of a state has 1 to {NAME_MAX} characters and none that controls, and this one has {length}; choose another"
            );
            self.add(Code::INVALID_STATE_NAME, at, message);
        }
        if let Some(other) = self.names.insert(name.to_owned(), at.to_owned()) {
            let message = format!(
                "the state `{}` is there already, at {other}; names are unique in the whole machine, so that histories are clear",
                clip(name)
            );
            self.add(Code::DUPLICATE_STATE_NAME, at, message);
        }
        if self.names.len() == self.limits.states_max + 1 {
            let message = format!(
                "a machine may have {} states; move some of them into a saga of their own",
                self.limits.states_max
            );
            self.add(Code::TOO_MANY_STATES, at, message);
        }
    }

    fn state_language(&mut self, fields: &mut Fields<'_>) -> QueryLanguage {
        let own = fields.word(self, "QueryLanguage", LANGUAGES);
        if own == Some(QueryLanguage::JsonPath) && self.language == QueryLanguage::Jsonata {
            let message = "the machine is in JSONata, and then no state may be in JSONPath; take QueryLanguage from the machine and give it to the states in JSONata";
            self.add(Code::MIXED_LANGUAGES, fields.at("QueryLanguage"), message);
        }
        own.unwrap_or(self.language)
    }

    fn next(&mut self, fields: &mut Fields<'_>, kind: &str) -> Next {
        let next = fields.text(self, "Next");
        let end = fields.get("End");
        match end {
            Some(Value::Bool(true)) => {
                if let Some(node) = self.outline().states.last_mut() {
                    node.ends = true;
                }
            }
            Some(other) => self.wrong_type(
                &fields.at("End"),
                "End",
                "only true; leave it out where the flow goes on",
                other,
            ),
            None => {}
        }
        match (next, end) {
            (Some(next), None) => {
                self.target(fields.at("Next"), &next);
                Next::To(next)
            }
            (Some(next), Some(_)) => {
                self.conflict(fields.here(), &["Next", "End"]);
                self.target(fields.at("Next"), &next);
                Next::To(next)
            }
            (None, Some(_)) => Next::End,
            (None, None) => {
                if !fields.has("Next") {
                    let message = format!(
                        "a {kind} state needs `Next` or `End`: without them nobody knows where to go on; write \"Next\": \"…\" or \"End\": true"
                    );
                    self.add(Code::MISSING_FIELD, fields.here(), message);
                }
                if let Some(node) = self.outline().states.last_mut() {
                    node.unclear = true;
                }
                Next::End
            }
        }
    }

    fn task(&mut self, fields: &mut Fields<'_>, language: QueryLanguage) -> Kind {
        let resource = self.resource(fields);
        let seconds = (1, SECONDS_MAX);
        let timeout = fields.given_whole(
            self,
            language,
            ("TimeoutSeconds", "TimeoutSecondsPath"),
            seconds,
        );
        let heartbeat = fields.given_whole(
            self,
            language,
            ("HeartbeatSeconds", "HeartbeatSecondsPath"),
            seconds,
        );
        if let (Some(Given::Fixed(timeout)), Some(Given::Fixed(heartbeat))) = (&timeout, &heartbeat)
            && heartbeat >= timeout
        {
            let message = format!(
                "the heartbeat of {heartbeat} s must be shorter than the time-out of {timeout} s, or it never matters"
            );
            self.add(Code::OUT_OF_RANGE, fields.at("HeartbeatSeconds"), message);
        }
        let limit = fields.whole(self, "ConcurrencyLimit", (1, u64::from(u32::MAX)));
        if fields.get("Credentials").is_some() {
            let message = "Credentials are not looked at; who is called, and as whom, is in the resource map of the server";
            self.add(Code::CREDENTIALS_IGNORED, fields.at("Credentials"), message);
        }
        Kind::Task(Task {
            resource,
            timeout_seconds: timeout,
            heartbeat_seconds: heartbeat,
            concurrency_limit: limit.and_then(|limit| u32::try_from(limit).ok()),
        })
    }

    /// `Resource` of a Task or of its undo.
    pub(super) fn resource(&mut self, fields: &mut Fields<'_>) -> String {
        let why = "it names who does the work; write `wharf:topic:NAME`, `wharf:http:NAME`, `wharf:handler:NAME`, `wharf:activity:NAME`, `wharf:saga:TYPE`, `wharf:signal:NAME` or an ARN";
        let resource = fields.need_text(self, "Resource", why);
        if fields.has("Resource")
            && (resource.is_empty()
                || resource.len() > 1024
                || resource
                    .chars()
                    .any(|c| c.is_whitespace() || c.is_control())
                || !resource.contains(':'))
        {
            let message = format!(
                "`{}` is no resource: it has a scheme and no spaces; write `wharf:topic:NAME`, `wharf:http:NAME`, `wharf:handler:NAME`, `wharf:activity:NAME`, `wharf:saga:TYPE`, `wharf:signal:NAME` or an ARN",
                clip(&resource)
            );
            self.add(Code::INVALID_RESOURCE, fields.at("Resource"), message);
        } else if let Some(rest) = resource.strip_prefix("wharf:") {
            let known = ["topic", "http", "handler", "activity", "saga", "signal"];
            let (kind, name) = rest.split_once(':').unwrap_or((rest, ""));
            if !known.contains(&kind) || name.is_empty() {
                let message = format!(
                    "`{}` is none of wharf's resources{}; write `wharf:topic:`, `wharf:http:`, `wharf:handler:`, `wharf:activity:`, `wharf:saga:` or `wharf:signal:` and a name",
                    clip(&resource),
                    super::nearest(kind, known.into_iter()),
                );
                self.add(Code::INVALID_RESOURCE, fields.at("Resource"), message);
            }
        }
        resource
    }

    fn pass(&mut self, fields: &mut Fields<'_>, language: QueryLanguage) -> Kind {
        if language == QueryLanguage::Jsonata {
            return Kind::Pass(Pass::default());
        }
        let result = fields.get("Result");
        if result.is_some_and(has_dollar_key) {
            let message = "Result is taken as it stands, so a key with `.$` stays a key; write Parameters to look paths up";
            self.add(Code::PASS_RESULT_IS_STATIC, fields.at("Result"), message);
        }
        Kind::Pass(Pass {
            result: result.cloned(),
        })
    }

    fn wait(&mut self, fields: &mut Fields<'_>, language: QueryLanguage) -> Option<Kind> {
        let names = ["Seconds", "SecondsPath", "Timestamp", "TimestampPath"];
        let seconds =
            fields.given_whole(self, language, ("Seconds", "SecondsPath"), (0, SECONDS_MAX));
        let until = fields.given(
            self,
            language,
            ("Timestamp", "TimestampPath"),
            |rd, value, at| rd.moment(value, at, "Timestamp"),
        );
        let there: Vec<_> = names.into_iter().filter(|name| fields.has(name)).collect();
        if there.is_empty() {
            let message = "a Wait state needs `Seconds` or `Timestamp`: without them nobody knows how long; write one of them";
            self.add(Code::MISSING_FIELD, fields.here(), message);
        }
        let kinds = [
            fields.has(names[0]) || fields.has(names[1]),
            fields.has(names[2]) || fields.has(names[3]),
        ];
        if kinds == [true, true] {
            self.conflict(fields.here(), &there);
        }
        seconds
            .map(Wait::Seconds)
            .or(until.map(Wait::Until))
            .map(Kind::Wait)
    }

    /// A moment of RFC 3339, with `T` and an offset.
    pub(super) fn moment(&mut self, value: &Value, at: &str, name: &str) -> Option<String> {
        let Some(text) = value.as_str() else {
            self.wrong_type(at, name, "a moment such as 2026-01-31T12:00:00Z", value);
            return None;
        };
        if looks_like_path(text) {
            let message = format!(
                "`{}` looks like a path, and `{name}` takes it as a text; write `{name}Path`",
                clip(text)
            );
            self.add(Code::NO_PATH, at, message);
        }
        if !super::moment::is_moment(text) {
            let message = format!(
                "`{}` is no moment as RFC 3339 has it; write one such as 2026-01-31T12:00:00Z",
                clip(text)
            );
            self.add(Code::INVALID_TIMESTAMP, at, message);
            return None;
        }
        Some(text.to_owned())
    }

    fn fail(&mut self, fields: &mut Fields<'_>, language: QueryLanguage) -> Kind {
        let error = fields.given(self, language, ("Error", "ErrorPath"), |rd, value, at| {
            rd.plain_text(value, at, "Error")
        });
        let cause = fields.given(self, language, ("Cause", "CausePath"), |rd, value, at| {
            rd.plain_text(value, at, "Cause")
        });
        Kind::Fail(Fail { error, cause })
    }

    fn parallel(&mut self, fields: &mut Fields<'_>) -> Option<Kind> {
        let why = "a Parallel state does flows side by side; write them as a list";
        fields.need(self, "Branches", why)?;
        let all = fields.list(self, "Branches")?;
        let at = fields.at("Branches");
        if all.is_empty() {
            self.add(
                Code::EMPTY_LIST,
                &at,
                "a Parallel state needs at least one branch",
            );
        }
        let mut branches = Vec::with_capacity(all.len());
        for (index, value) in all.iter().enumerate() {
            let Some(mut inner) = Fields::of(self, value, format!("{at}/{index}"), "a branch")
            else {
                continue;
            };
            let (flow, _) = self.flow(&mut inner, "branch");
            inner.finish(self, None, "branch");
            branches.extend(flow);
        }
        Some(Kind::Parallel(Parallel { branches }))
    }

    fn map(&mut self, fields: &mut Fields<'_>, language: QueryLanguage) -> Option<Kind> {
        for name in DISTRIBUTED {
            if fields.get(name).is_some() {
                let message = format!(
                    "`{name}` is for Maps that read and write stores outside the saga, which Wharf does not; give the items to the saga, or start a saga for each"
                );
                self.add(Code::UNSUPPORTED, fields.at(name), message);
            }
        }
        let _label = fields.text(self, "Label");
        let items = match language {
            QueryLanguage::JsonPath => {
                let path = fields
                    .text(self, "ItemsPath")
                    .unwrap_or_else(|| "$".to_owned());
                self.path(&path, &fields.at("ItemsPath"));
                Items::Path(path)
            }
            QueryLanguage::Jsonata => Items::Jsonata(self.items(fields)),
        };
        let selector = self.selector(fields, language);
        let concurrency = fields.given_whole(
            self,
            language,
            ("MaxConcurrency", "MaxConcurrencyPath"),
            (0, SECONDS_MAX),
        );
        let failures = ("ToleratedFailureCount", "ToleratedFailureCountPath");
        let tolerated_failures = fields.given_whole(self, language, failures, (0, SECONDS_MAX));
        let share = (
            "ToleratedFailurePercentage",
            "ToleratedFailurePercentagePath",
        );
        let tolerated_percentage = fields.given(self, language, share, |rd, value, at| {
            let share = value.as_f64();
            let fits = share.filter(|share| (0.0..=100.0).contains(share));
            match share {
                None => rd.wrong_type(at, "ToleratedFailurePercentage", "a number", value),
                Some(share) if fits.is_none() => {
                    let message = format!("the percentage is {share}, and it takes 0 to 100");
                    rd.add(Code::OUT_OF_RANGE, at, message);
                }
                Some(_) => {}
            }
            fits
        });
        let processor = self.processor(fields)?;
        Some(Kind::Map(Box::new(Map {
            items,
            selector,
            processor,
            concurrency_max: concurrency.unwrap_or(Given::Fixed(0)),
            tolerated_failures,
            tolerated_percentage,
        })))
    }

    fn items(&mut self, fields: &mut Fields<'_>) -> Option<Value> {
        let value = fields.get("Items")?;
        let at = fields.at("Items");
        match value {
            Value::Array(_) => self.jsonata(value, &at),
            Value::String(text) => self.jsonata_text(text, &at),
            other => self.wrong_type(&at, "Items", "a list or `{% … %}`", other),
        }
        Some(value.clone())
    }

    fn selector(&mut self, fields: &mut Fields<'_>, language: QueryLanguage) -> Option<Value> {
        let both = fields.has("ItemSelector") && fields.has("Parameters");
        match language {
            QueryLanguage::JsonPath if both => {
                self.conflict(fields.here(), &["ItemSelector", "Parameters"]);
                self.template_field(fields, "Parameters");
                self.template_field(fields, "ItemSelector")
            }
            QueryLanguage::JsonPath => {
                let old = self.template_field(fields, "Parameters");
                self.template_field(fields, "ItemSelector").or(old)
            }
            QueryLanguage::Jsonata => self.jsonata_field(fields, "ItemSelector"),
        }
    }

    fn processor(&mut self, fields: &mut Fields<'_>) -> Option<super::Flow> {
        let (new, old) = (fields.get("ItemProcessor"), fields.get("Iterator"));
        if new.is_some() && old.is_some() {
            self.conflict(fields.here(), &["ItemProcessor", "Iterator"]);
        }
        let (value, name) = match (new, old) {
            (Some(value), _) => (value, "ItemProcessor"),
            (None, Some(value)) => (value, "Iterator"),
            (None, None) => {
                let message = "`ItemProcessor` is missing: it is what a Map does with each item; write StartAt and States in it";
                self.add(Code::MISSING_FIELD, fields.here(), message);
                return None;
            }
        };
        let mut inner = Fields::of(
            self,
            value,
            format!("{}/{}", fields.here(), escape(name)),
            name,
        )?;
        if let Some(config) = inner.get("ProcessorConfig") {
            let at = inner.at("ProcessorConfig");
            if let Some(mut config) = Fields::of(self, config, at, "ProcessorConfig") {
                let modes = [("INLINE", false), ("DISTRIBUTED", true)];
                if config.word(self, "Mode", &modes) == Some(true) {
                    let message = "the items run inside this saga and in its history; nothing else of a distributed Map changes";
                    self.add(Code::RUNS_INLINE, config.at("Mode"), message);
                }
                let _kind =
                    config.word(self, "ExecutionType", &[("STANDARD", ()), ("EXPRESS", ())]);
                config.finish(self, None, "ProcessorConfig");
            }
        }
        let (flow, _) = self.flow(&mut inner, "Map's processor");
        inner.finish(self, None, "Map's processor");
        flow
    }

    /// The payload field that a state or an undo has in a language.
    pub(super) fn payload_name(language: QueryLanguage) -> &'static str {
        match language {
            QueryLanguage::JsonPath => "Parameters",
            QueryLanguage::Jsonata => "Arguments",
        }
    }
}

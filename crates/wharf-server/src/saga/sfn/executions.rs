//! Executions: sagas by the name of their machine and their own.
//!
//! The name is the idempotency key, so the saga of an execution is found from its ARN alone, and any
//! saga can be looked at as an execution. Which version and alias started it stands in its attributes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use wharf_message::{Code, Timestamp};
use wharf_saga::machine::{Action, Data, Fact, Order, Saga, SagaId, Start, Status, What};

use super::super::engine::NewSaga;
use super::super::history::Position;
use super::super::view::{Cursor, Row};
use super::Api;
use super::arn::Arn;
use super::fault::Fault;
use super::history::{About, Events, Window, shown};
use super::machines::{included, none, paged};
use super::operations::{Answer, Call};
use super::wire::{self, Fields};
use crate::clock;

/// The attributes that say what started it.
const VERSION: &str = "sfn.version";
const ALIAS: &str = "sfn.alias";
const TRACE: &str = "sfn.trace-header";
/// How long a synchronous execution is waited for, and how often it is looked at.
const SYNC: Duration = Duration::from_secs(300);
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_LAST: Duration = Duration::from_millis(100);
const ERROR_CHARS_MAX: usize = 256;
const CAUSE_CHARS_MAX: usize = 32_768;
const TRACE_CHARS_MAX: usize = 256;

/// An execution at a moment.
struct Execution {
    start: Start,
    started: Timestamp,
    ended: Option<Timestamp>,
    status: Status,
    output: Option<Data>,
    error: Option<(String, String)>,
    redrives: u32,
}

impl Execution {
    fn of(saga: &Saga) -> Option<Self> {
        let error = saga.error();
        Some(Self {
            start: saga.start()?.clone(),
            started: saga.started(),
            ended: saga.ended(),
            status: saga.status(),
            output: saga.output().cloned(),
            error: error.map(|(error, cause)| (error.to_owned(), cause.to_owned())),
            redrives: saga.redrives(),
        })
    }

    fn arn(&self) -> String {
        Arn::Execution(self.start.saga_type.clone(), self.start.key.clone()).to_string()
    }

    fn shown(&self) -> &'static str {
        let error = self.error.as_ref().map(|(error, _)| error.as_str());
        shown(self.status, error)
    }

    /// How it ended, in the fields of an answer.
    fn outcome(&self, answer: &mut Value, with_data: bool) {
        answer["status"] = json!(self.shown());
        if let Some(ended) = self.ended {
            answer["stopDate"] = wire::time(ended);
        }
        if self.status == Status::Completed && with_data {
            let output = self.output.clone().unwrap_or_default();
            answer["output"] = json!(output.to_string());
            answer["outputDetails"] = json!({ "included": true });
        }
        if let Some((error, cause)) = self.error.as_ref().filter(|_| self.ended.is_some()) {
            answer["error"] = json!(error);
            if !cause.is_empty() {
                answer["cause"] = json!(cause);
            }
        }
    }
}

fn attribute_of<'a>(start: &'a Start, name: &str) -> Option<&'a str> {
    start.attributes.get(name).map(String::as_str)
}

/// The ARNs of the version and the alias that started a saga.
fn origins<'a>(
    machine: &str,
    attribute: impl Fn(&str) -> Option<&'a str>,
) -> (Option<String>, Option<String>) {
    let name = || machine.to_owned();
    let version = attribute(VERSION).and_then(|version| version.parse().ok());
    let version = version.map(|version| Arn::Version(name(), version).to_string());
    let alias = attribute(ALIAS);
    let alias = alias.map(|alias| Arn::Alias(name(), alias.to_owned()).to_string());
    (version, alias)
}

fn gone(arn: &str) -> Fault {
    Fault::new(
        "ExecutionDoesNotExist",
        format!("Execution Does Not Exist: '{arn:.2048}'"),
    )
}

impl Api {
    async fn execution(&self, arn: &str) -> Result<(SagaId, Execution), Fault> {
        let (machine, name) = Arn::execution(arn)?;
        let id = SagaId::of(&machine, &name);
        let found = self.engine.look(id, Execution::of).await;
        let found = found.map_err(|refused| match refused.code {
            Code::SAGA_UNKNOWN => gone(arn),
            _ => Fault::of(&refused),
        });
        Ok((id, found?.ok_or_else(|| gone(arn))?))
    }

    /// What an ARN starts: the machine's name, the number that the orchestrator gave the version,
    /// and what to remember of how it was asked for.
    async fn resolve(&self, text: &str) -> Result<Resolved, Fault> {
        let wanted = "a state machine, a version or an alias";
        let arn = Arn::read(text, wanted)?;
        let known = self.catalogue.known().await?;
        let gone = || {
            Fault::new(
                "StateMachineDoesNotExist",
                format!("State Machine Does Not Exist: '{arn}'"),
            )
        };
        let (name, version, alias) = match &arn {
            Arn::Machine(name) => {
                self.machine(&known, name)?;
                return Ok((name.clone(), None, BTreeMap::new()));
            }
            Arn::Version(name, version) => (name, *version, None),
            Arn::Alias(name, alias) => {
                let found = self.machine(&known, name)?;
                let routes = found.record.aliases.get(alias).ok_or_else(gone)?;
                let drawn = uuid::Uuid::new_v4().as_u128() % 100;
                let drawn = u8::try_from(drawn).unwrap_or(0);
                (
                    name,
                    routes.route(drawn).ok_or_else(gone)?,
                    Some(alias.clone()),
                )
            }
            _ => return Err(Fault::arn(text, wanted)),
        };
        let found = self.machine(&known, name)?;
        let published = found.record.version(version).ok_or_else(gone)?;
        let mut attributes = BTreeMap::from([(VERSION.to_owned(), version.to_string())]);
        if let Some(alias) = alias {
            attributes.insert(ALIAS.to_owned(), alias);
        }
        Ok((
            name.clone(),
            Some(published.deployed.to_string()),
            attributes,
        ))
    }

    /// Starts an execution, and says whether it had run already.
    async fn begin(&self, fields: &Fields) -> Result<(SagaId, Execution, bool), Fault> {
        let text = fields.needed("stateMachineArn")?;
        let name = fields.text("name")?.map(wire::name).transpose()?;
        let name = name.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let input = fields
            .json_within(self.data_bytes_max(), "input", "InvalidExecutionInput")?
            .unwrap_or_else(|| json!({}));
        let trace = fields.short("traceHeader", TRACE_CHARS_MAX)?;
        let (saga_type, version, mut attributes) = self.resolve(text).await?;
        if let Some(trace) = trace {
            attributes.insert(TRACE.to_owned(), trace.to_owned());
        }
        let arn = Arn::Execution(saga_type.clone(), name.clone()).to_string();
        let new = NewSaga {
            saga_type: saga_type.clone(),
            version,
            key: Some(name),
            input,
            attributes,
            ..NewSaga::default()
        };
        let taken = || {
            Fault::new(
                "ExecutionAlreadyExists",
                format!("Execution Already Exists: '{arn}'"),
            )
        };
        let started = self
            .engine
            .start(new)
            .await
            .map_err(|refused| match refused.code {
                Code::SAGA_KEY_TAKEN => taken(),
                Code::SAGA_DEFINITION_UNKNOWN => none(&saga_type),
                _ => Fault::of(&refused),
            })?;
        let (id, execution) = self.execution(&arn).await?;
        // The same name and input is the same execution only for as long as it runs.
        if !started.is_new && execution.ended.is_some() {
            return Err(taken());
        }
        Ok((id, execution, started.is_new))
    }
}

type Resolved = (String, Option<String>, BTreeMap<String, String>);

pub(super) async fn start(api: Arc<Api>, call: Call) -> Answer {
    let (_, execution, _) = api.begin(&call.fields).await?;
    Ok(json!({
        "executionArn": execution.arn(),
        "startDate": wire::time(execution.started),
    }))
}

pub(super) async fn start_sync(api: Arc<Api>, call: Call) -> Answer {
    let metadata_only = included(&call.fields)?;
    let (id, mut execution, _) = api.begin(&call.fields).await?;
    let arn = execution.arn();
    let (until, mut pause) = (Instant::now() + SYNC, LOOK_FIRST);
    let mut stop = api.stop.clone();
    while execution.ended.is_none() && Instant::now() < until {
        tokio::select! {
            () = crate::flag::raised(&mut stop) => {
                let status = axum::http::StatusCode::SERVICE_UNAVAILABLE;
                let why = "the node is stopping; the execution goes on when it is back";
                return Err(Fault::server("ServiceUnavailable", status, why));
            }
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(LOOK_LAST);
        if api.engine.row(id).is_some_and(|row| row.ended.is_some()) {
            execution = api.execution(&arn).await?.1;
        }
    }
    let mut answer = json!({
        "executionArn": arn,
        "stateMachineArn": Arn::Machine(execution.start.saga_type.clone()).to_string(),
        "name": execution.start.key,
        "startDate": wire::time(execution.started),
    });
    if !metadata_only {
        answer["input"] = json!(execution.start.input.to_string());
        answer["inputDetails"] = json!({ "included": true });
    }
    execution.outcome(&mut answer, !metadata_only);
    if execution.ended.is_none() {
        let why = "nobody waits for it any longer; the execution goes on, ask for it by its ARN";
        answer["status"] = json!("TIMED_OUT");
        answer["stopDate"] = wire::time(clock::now());
        answer["error"] = json!("States.Timeout");
        answer["cause"] = json!(why);
    }
    Ok(answer)
}

pub(super) async fn describe(api: Arc<Api>, call: Call) -> Answer {
    let arn = call.fields.needed("executionArn")?;
    let metadata_only = included(&call.fields)?;
    let (id, execution) = api.execution(arn).await?;
    let start = &execution.start;
    let (version, alias) = origins(&start.saga_type, |name| attribute_of(start, name));
    let mut answer = json!({
        "executionArn": execution.arn(),
        "stateMachineArn": Arn::Machine(start.saga_type.clone()).to_string(),
        "name": start.key,
        "startDate": wire::time(execution.started),
        "redriveCount": execution.redrives,
    });
    for (field, value) in [
        ("stateMachineVersionArn", version),
        ("stateMachineAliasArn", alias),
        ("traceHeader", start.attributes.get(TRACE).cloned()),
    ] {
        if let Some(value) = value {
            answer[field] = json!(value);
        }
    }
    if !metadata_only {
        answer["input"] = json!(start.input.to_string());
        answer["inputDetails"] = json!({ "included": true });
    }
    execution.outcome(&mut answer, !metadata_only);
    if let Err(why) = redrivable(&api, id, &execution).await? {
        answer["redriveStatus"] = json!("NOT_REDRIVABLE");
        answer["redriveStatusReason"] = json!(why);
    } else {
        answer["redriveStatus"] = json!("REDRIVABLE");
    }
    if execution.redrives > 0 {
        let is = |fact: &Fact| matches!(fact.what, What::Redriven { .. });
        let found = api.engine.find_fact(id, true, is).await;
        if let Some(fact) = found.map_err(|refused| Fault::of(&refused))? {
            answer["redriveDate"] = wire::time(fact.at);
        }
    }
    Ok(answer)
}

/// Whether an execution can be redriven, or why not.
async fn redrivable(
    api: &Api,
    id: SagaId,
    execution: &Execution,
) -> Result<Result<(), &'static str>, Fault> {
    if execution.ended.is_none() {
        return Ok(Err("Execution is RUNNING and cannot be redriven"));
    }
    if execution.status == Status::Completed {
        return Ok(Err("Execution is SUCCEEDED and cannot be redriven"));
    }
    let undone = api.engine.look(id, Saga::is_undoing).await;
    Ok(match undone.map_err(|refused| Fault::of(&refused))? {
        true => Err("What the execution had done was undone; start another one"),
        false => Ok(()),
    })
}

pub(super) async fn machine(api: Arc<Api>, call: Call) -> Answer {
    let metadata_only = included(&call.fields)?;
    let (_, execution) = api.execution(call.fields.needed("executionArn")?).await?;
    let start = &execution.start;
    let known = api.catalogue.known().await?;
    let found = api.machine(&known, &start.saga_type).ok();
    let (version, _) = origins(&start.saga_type, |name| attribute_of(start, name));
    let arn = version.unwrap_or_else(|| Arn::Machine(start.saga_type.clone()).to_string());
    let text = api
        .text(&known, &start.definition)
        .ok_or_else(|| none(&start.saga_type))?;
    let updated = found
        .as_ref()
        .and_then(|found| Timestamp::parse_rfc3339(&found.current.deployed));
    Ok(json!({
        "stateMachineArn": arn,
        "name": start.saga_type,
        "definition": if metadata_only { String::new() } else { text },
        "roleArn": found.map(|found| found.record.role.clone()).unwrap_or_default(),
        "updateDate": wire::time(updated.unwrap_or(execution.started)),
        "loggingConfiguration": { "level": "OFF", "includeExecutionData": false },
        "tracingConfiguration": { "enabled": false },
        "revisionId": start.definition.to_string(),
    }))
}

pub(super) async fn history(api: Arc<Api>, call: Call) -> Answer {
    let fields = &call.fields;
    let size = fields.page_size()?;
    let backwards = fields.flag("reverseOrder")?.unwrap_or(false);
    let with_data = fields.flag("includeExecutionData")?.unwrap_or(true);
    let from: Option<u64> = match fields.text("nextToken")? {
        None => None,
        Some(token) => Some(
            wire::untoken(token)?
                .parse()
                .map_err(|_wrong| wire::stale_token())?,
        ),
    };
    let (id, execution) = api.execution(fields.needed("executionArn")?).await?;
    let start = &execution.start;
    let history = api.engine.history_from(id, Position::default()).await;
    let mut history = history.map_err(|refused| Fault::of(&refused))?;
    let definition = api.engine.definition_by_hash(&start.definition);
    let machine = definition.as_ref().map(|definition| &definition.machine);
    let known = api.catalogue.known().await?;
    let record = known.machines.get(&start.saga_type);
    let (version, alias) = origins(&start.saga_type, |name| attribute_of(start, name));
    let about = About {
        role: record.map(|record| record.role.clone()).unwrap_or_default(),
        version,
        alias,
    };
    let mut events = Events::new(machine, &about, Window::new(size, from, backwards));
    while !events.is_done()
        && let Some(piece) = history
            .next()
            .await
            .map_err(|refused| Fault::of(&refused))?
    {
        piece.facts.iter().for_each(|fact| events.take(fact));
    }
    let (events, next) = events.page();
    let page: Vec<_> = events.iter().map(|event| event.shown(with_data)).collect();
    let next = next.map(|last| wire::token(&last.to_string()));
    Ok(paged(json!({ "events": page }), next))
}

pub(super) async fn list(api: Arc<Api>, call: Call) -> Answer {
    let fields = &call.fields;
    if fields.value("mapRunArn").is_some() {
        let why = "'mapRunArn' cannot be given: there are no runs of Maps here";
        return Err(Fault::validation(why));
    }
    let redriven = fields.word("redriveFilter", &["REDRIVEN", "NOT_REDRIVEN"])?;
    let redriven = redriven.map(|word| word == "REDRIVEN");
    let statuses = [
        "RUNNING",
        "SUCCEEDED",
        "FAILED",
        "TIMED_OUT",
        "ABORTED",
        "PENDING_REDRIVE",
    ];
    let status = fields.word("statusFilter", &statuses)?;
    let (text, wanted) = (
        fields.needed("stateMachineArn")?,
        "a state machine, a version or an alias",
    );
    let (name, number, alias) = match Arn::read(text, wanted)? {
        Arn::Machine(name) => (name, None, None),
        Arn::Version(name, version) => (name, Some(version.to_string()), None),
        Arn::Alias(name, alias) => (name, None, Some(alias)),
        _ => return Err(Fault::arn(text, wanted)),
    };
    let known = api.catalogue.known().await?;
    api.machine(&known, &name)?;
    let after = match fields.text("nextToken")? {
        None => None,
        Some(token) => {
            let cursor = Cursor::parse(wire::untoken(token)?);
            Some(cursor.ok_or_else(wire::stale_token)?)
        }
    };
    let is = |row: &Row, attribute: &str, wanted: Option<&String>| {
        wanted.is_none() || row.attribute(attribute) == wanted.map(String::as_str)
    };
    let meant = |row: &Row| {
        *row.saga_type == *name
            && status.is_none_or(|status| shown(row.status, row.error()) == status)
            && redriven.is_none_or(|redriven| redriven == (row.redrives() > 0))
            && is(row, VERSION, number.as_ref())
            && is(row, ALIAS, alias.as_ref())
    };
    let (rows, next) = api
        .engine
        .shared()
        .index
        .page(&meant, after, fields.page_size()?);
    let executions: Vec<_> = rows.iter().map(|row| item(row)).collect();
    let next = next.map(|cursor| wire::token(&cursor.to_string()));
    Ok(paged(json!({ "executions": executions }), next))
}

/// An execution in a list.
fn item(row: &Row) -> Value {
    let (machine, name) = (row.saga_type.to_string(), row.key.to_string());
    let (version, alias) = origins(&machine, |name| row.attribute(name));
    let mut item = json!({
        "executionArn": Arn::Execution(machine.clone(), name.clone()).to_string(),
        "stateMachineArn": Arn::Machine(machine).to_string(),
        "name": name,
        "status": shown(row.status, row.error()),
        "startDate": wire::time(row.started),
    });
    if let Some(ended) = row.ended {
        item["stopDate"] = wire::time(ended);
    }
    if row.redrives() > 0 {
        item["redriveCount"] = json!(row.redrives());
    }
    for (field, arn) in [
        ("stateMachineVersionArn", version),
        ("stateMachineAliasArn", alias),
    ] {
        if let Some(arn) = arn {
            item[field] = json!(arn);
        }
    }
    item
}

pub(super) async fn stop(api: Arc<Api>, call: Call) -> Answer {
    let fields = &call.fields;
    let error = fields.short("error", ERROR_CHARS_MAX)?.unwrap_or_default();
    let cause = fields.short("cause", CAUSE_CHARS_MAX)?.unwrap_or_default();
    let reason = match (error, cause) {
        ("", "") => "stopped by StopExecution".to_owned(),
        (error, "") => error.to_owned(),
        ("", cause) => cause.to_owned(),
        (error, cause) => format!("{error}: {cause}"),
    };
    let (id, execution) = api.execution(fields.needed("executionArn")?).await?;
    if let Some(ended) = execution.ended {
        return Ok(json!({ "stopDate": wire::time(ended) }));
    }
    // What is being undone already ends by itself.
    if execution.status != Status::Compensating {
        let order = Order {
            action: Action::Abort,
            by: call.by,
            reason,
        };
        let done = api.engine.operate(id, order).await;
        done.map_err(|refused| Fault::of(&refused))?;
    }
    Ok(json!({ "stopDate": wire::time(clock::now()) }))
}

pub(super) async fn redrive(api: Arc<Api>, call: Call) -> Answer {
    let arn = call.fields.needed("executionArn")?;
    let reason = match call.fields.short("clientToken", 64)? {
        None => "redriven by RedriveExecution".to_owned(),
        Some(token) => format!("redriven by RedriveExecution, client token {token}"),
    };
    let has_token = call.fields.value("clientToken").is_some();
    let (id, _) = api.execution(arn).await?;
    if has_token {
        // The same token again is the same redrive.
        let again = |fact: &Fact| match &fact.what {
            What::Acted(order) => order.action == Action::Redrive && order.reason == reason,
            _ => false,
        };
        let found = api.engine.find_fact(id, false, again).await;
        if let Some(fact) = found.map_err(|refused| Fault::of(&refused))? {
            return Ok(json!({ "redriveDate": wire::time(fact.at) }));
        }
    }
    let order = Order {
        action: Action::Redrive,
        by: call.by,
        reason,
    };
    let done = api.engine.operate(id, order).await;
    done.map_err(|refused| match refused.code {
        Code::SAGA_ACTION_REFUSED => {
            let why = format!(
                "Execution is not redrivable: '{arn:.2048}': {}",
                refused.message
            );
            Fault::new("ExecutionNotRedrivable", why)
        }
        _ => Fault::of(&refused),
    })?;
    Ok(json!({ "redriveDate": wire::time(clock::now()) }))
}

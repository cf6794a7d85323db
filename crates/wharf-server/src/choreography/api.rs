//! `/api/v1/choreographies`: the lens, the contracts, and what their instances have come to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wharf_broker::{Broker, Context, TopicRef};
use wharf_message::Code;
use wharf_saga::choreography::contract::check::check;
use wharf_saga::choreography::contract::draw::Drawing;
use wharf_saga::choreography::verdict::{Dropped, Kind};
use wharf_saga::choreography::{Contract, Problem, lens, nearest};

use super::shared::{Command, Shared, Watched, What, locked};
use crate::http::{self, problem};

/// The largest contract.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How many instances are listed when it is not said, and at most.
const LISTED: usize = 100;
const LISTED_MAX: usize = 10_000;
/// How many contracts may be deployed.
const CONTRACTS_MAX: usize = 200;
/// For how many unknown names the nearest known ones are looked for.
const HINTS_MAX: usize = 20;
/// How long a change of contracts may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Service {
    shared: Arc<Shared>,
    broker: Broker,
}

type Cx = State<Arc<Service>>;

/// The routes.
pub(super) fn routes(shared: Arc<Shared>, broker: Broker) -> Router {
    let root = "/api/v1/choreographies";
    Router::new()
        .route(root, get(all))
        .route(&format!("{root}/check"), post(check_text))
        .route(&format!("{root}/lens"), get(lens_kinds))
        .route(&format!("{root}/lens/graph"), get(lens_graph))
        .route(&format!("{root}/lens/instances"), get(lens_instances))
        .route(&format!("{root}/lens/instances/{{id}}"), get(lens_instance))
        .route(&format!("{root}/contracts"), get(all))
        .route(
            &format!("{root}/contracts/{{name}}"),
            get(contract).put(deploy).delete(remove),
        )
        .route(
            &format!("{root}/contracts/{{name}}/graph"),
            get(contract_graph),
        )
        .route(
            &format!("{root}/contracts/{{name}}/instances"),
            get(instances),
        )
        .route(
            &format!("{root}/contracts/{{name}}/instances/{{id}}"),
            get(instance),
        )
        .with_state(Arc::new(Service { shared, broker }))
}

#[derive(Debug, Default)]
struct Asked {
    saga: Option<String>,
    verdict: Option<String>,
    limit: Option<usize>,
    format: Option<String>,
}

impl Asked {
    /// What a query asks; a parameter that is not known is told.
    fn read(query: Option<&str>) -> Result<Self, Box<Response>> {
        let mut asked = Self::default();
        let pairs = query.unwrap_or_default().split('&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8();
            let value =
                value.map_err(|_binary| Box::new(wrong(&format!("`{name}` is no text"))))?;
            let value = value.into_owned();
            match name {
                "saga" => asked.saga = Some(value),
                "verdict" => asked.verdict = Some(value),
                "format" => asked.format = Some(value),
                "limit" => match value.parse() {
                    Ok(limit) => asked.limit = Some(limit),
                    Err(_other) => return Err(Box::new(wrong("`limit` is no number"))),
                },
                other => {
                    let known = "saga, verdict, limit and format";
                    return Err(Box::new(wrong(&format!(
                        "`{other}` is not known; {known} are"
                    ))));
                }
            }
        }
        Ok(asked)
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(LISTED).min(LISTED_MAX)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    name: String,
    description: Option<String>,
    topics: Vec<String>,
    services: Vec<String>,
    is_read: bool,
    instances: BTreeMap<&'static str, u64>,
    reached: BTreeMap<&'static str, u64>,
    dropped: Dropped,
}

impl Shown {
    fn of(watched: &Watched) -> Self {
        let monitor = watched.monitor();
        let contract = monitor.contract();
        let named = |counts: &BTreeMap<Kind, u64>| {
            counts
                .iter()
                .map(|(kind, count)| (kind.name(), *count))
                .collect()
        };
        Self {
            name: contract.name.clone(),
            description: contract.description.clone(),
            topics: watched.topics.clone(),
            services: contract.services().into_iter().map(str::to_owned).collect(),
            is_read: watched.is_read(),
            instances: named(&monitor.counts().now),
            reached: named(&monitor.counts().reached),
            dropped: monitor.dropped(),
        }
    }
}

async fn all(State(cx): Cx) -> Response {
    let contracts = cx.shared.contracts();
    let contracts: Vec<Shown> = contracts.iter().map(|watched| Shown::of(watched)).collect();
    let trouble = locked(&cx.shared.trouble).clone();
    json(&json!({ "contracts": contracts, "trouble": trouble }))
}

async fn lens_kinds(State(cx): Cx) -> Response {
    let lens = locked(&cx.shared.lens);
    json(&json!({
        "sagas": lens.kinds(),
        "instances": lens.instances_len(),
        "dropped": lens.dropped(),
        "isRead": cx.shared.is_lens_read.load(Ordering::Relaxed),
    }))
}

async fn lens_graph(State(cx): Cx, RawQuery(query): RawQuery) -> Response {
    let asked = match Asked::read(query.as_deref()) {
        Ok(asked) => asked,
        Err(answer) => return *answer,
    };
    let lens = locked(&cx.shared.lens);
    let Some(saga) = asked
        .saga
        .clone()
        .or_else(|| Some(lens.kinds().first()?.saga.clone()))
    else {
        return missing(
            "there are no sagas yet",
            "nothing in the topics that are watched is correlated",
        );
    };
    let Some(graph) = lens.graph(&saga) else {
        let kinds = lens.kinds();
        let hint = nearest::hint(&saga, kinds.iter().map(|kind| kind.saga.as_str()));
        return missing(
            "there is no such saga",
            &format!("no saga begins with `{saga}`{hint}"),
        );
    };
    drop(lens);
    drawn(&asked, &Drawing::of_graph(&graph), || json(&graph))
}

fn drawn(asked: &Asked, drawing: &Drawing, json: impl FnOnce() -> Response) -> Response {
    let text = |text: String| {
        ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
    };
    match asked.format.as_deref() {
        None | Some("json") => json(),
        Some("mermaid") => text(drawing.mermaid()),
        Some("dot") => text(drawing.dot()),
        Some(other) => wrong(&format!(
            "`format` is `{other}`, and may be json, mermaid or dot"
        )),
    }
}

async fn lens_instances(State(cx): Cx, RawQuery(query): RawQuery) -> Response {
    let asked = match Asked::read(query.as_deref()) {
        Ok(asked) => asked,
        Err(answer) => return *answer,
    };
    let instances: Vec<lens::Instance> =
        locked(&cx.shared.lens).instances(asked.saga.as_deref(), asked.limit());
    json(&json!({ "instances": instances }))
}

async fn lens_instance(State(cx): Cx, Path(id): Path<String>) -> Response {
    match locked(&cx.shared.lens).instance(&id) {
        Some(instance) => json(&instance),
        None => missing("there is no such instance", "nothing in view has this id"),
    }
}

async fn contract(State(cx): Cx, Path(name): Path<String>) -> Response {
    match cx.shared.contract(&name) {
        Some(watched) => json(&json!({ "name": name, "contract": watched.text })),
        None => unknown(&cx.shared, &name),
    }
}

async fn contract_graph(
    State(cx): Cx,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let asked = match Asked::read(query.as_deref()) {
        Ok(asked) => asked,
        Err(answer) => return *answer,
    };
    let Some(watched) = cx.shared.contract(&name) else {
        return unknown(&cx.shared, &name);
    };
    let drawing = Drawing::of(watched.monitor().contract());
    drawn(&asked, &drawing, || json(&drawing))
}

async fn instances(State(cx): Cx, Path(name): Path<String>, RawQuery(query): RawQuery) -> Response {
    let asked = match Asked::read(query.as_deref()) {
        Ok(asked) => asked,
        Err(answer) => return *answer,
    };
    let Some(watched) = cx.shared.contract(&name) else {
        return unknown(&cx.shared, &name);
    };
    let kind = match asked
        .verdict
        .as_deref()
        .map(|name| (name, Kind::parse(name)))
    {
        None => None,
        Some((_, Some(kind))) => Some(kind),
        Some((name, None)) => {
            let known = Kind::ALL.map(Kind::name).join(", ");
            return wrong(&format!("there is no verdict `{name}`; there are {known}"));
        }
    };
    let instances = watched.monitor().instances(kind, asked.limit());
    json(&json!({ "instances": instances, "isRead": watched.is_read() }))
}

async fn instance(State(cx): Cx, Path((name, id)): Path<(String, String)>) -> Response {
    let Some(watched) = cx.shared.contract(&name) else {
        return unknown(&cx.shared, &name);
    };
    match watched.monitor().instance(&id) {
        Some(instance) => json(&instance),
        None => missing(
            "there is no such instance",
            "the contract has none of this id in view",
        ),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Carried {
    contract: String,
}

/// The text of a contract, and the contract, or the answer that says what is wrong.
async fn read(body: Body) -> Result<(String, Result<Contract, Vec<Problem>>), Box<Response>> {
    let bytes = to_bytes(body, BODY_BYTES_MAX).await;
    let bytes =
        bytes.map_err(|error| Box::new(wrong(&format!("the contract cannot be read: {error}"))))?;
    let text = String::from_utf8(bytes.to_vec());
    let text = text.map_err(|_binary| Box::new(wrong("the contract is no UTF-8 text")))?;
    // The document itself, or one that carries it.
    let text = match serde_json::from_str::<Carried>(&text) {
        Ok(Carried { contract }) => contract,
        Err(_itself) => text,
    };
    let parsed = Contract::parse(&text);
    Ok((text, parsed))
}

async fn check_text(State(cx): Cx, body: Body) -> Response {
    let (_, parsed) = match read(body).await {
        Ok(read) => read,
        Err(answer) => return *answer,
    };
    let (problems, warnings) = match parsed {
        Ok(contract) => (check(&contract), unknown_names(&cx, &contract)),
        Err(problems) => (problems, Vec::new()),
    };
    json(&json!({ "problems": problems, "warnings": warnings }))
}

/// Names that this node does not know: they may come, or be misspelt.
fn unknown_names(cx: &Service, contract: &Contract) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let mut warn =
        |path: String, sentence: &str, name: &str, known: &mut dyn Iterator<Item = &str>| {
            let hint = match warnings.len() < HINTS_MAX {
                true => nearest::hint(name, known),
                false => String::new(),
            };
            let sentence = format!("{sentence}{hint}");
            warnings.push(Problem { path, sentence });
        };
    let topics = cx.broker.topics();
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    for topic in contract.topics() {
        // A topic of dead letters comes with the first of them.
        let of_topic = contract.events.iter().filter(|event| event.topic == topic);
        let mut expected = of_topic.filter(|event| event.dead_letter_of.is_none());
        if !names.contains(&topic) && expected.next().is_some() {
            let sentence = format!("there is no topic `{topic}`");
            let known = &mut names.iter().copied();
            warn("/events".to_owned(), &sentence, topic, known);
        }
    }
    let mut groups = Vec::new();
    for topic in contract.topics() {
        let readers = cx.broker.readers(
            &Context::internal("choreography"),
            &TopicRef::Name(topic.to_owned()),
        );
        groups.extend(
            readers
                .unwrap_or_default()
                .into_iter()
                .map(|reader| reader.group),
        );
    }
    for group in contract.groups() {
        if !groups.iter().any(|known| known == group) {
            let sentence = format!("no group `{group}` reads these topics");
            let known = &mut groups.iter().map(String::as_str);
            warn("/rules".to_owned(), &sentence, group, known);
        }
    }
    let seen = locked(&cx.shared.lens).events();
    for event in &contract.events {
        let is_letter = event.dead_letter_of.is_some();
        if !seen.is_empty() && !is_letter && !seen.contains(&event.name) {
            let sentence = format!("no event `{}` was seen yet", event.name);
            let place = event.name.replace('~', "~0").replace('/', "~1");
            let known = &mut seen.iter().map(String::as_str);
            warn(format!("/events/{place}"), &sentence, &event.name, known);
        }
    }
    warnings
}

async fn deploy(State(cx): Cx, Path(name): Path<String>, body: Body) -> Response {
    let (text, parsed) = match read(body).await {
        Ok(read) => read,
        Err(answer) => return *answer,
    };
    let (problems, contract) = match parsed {
        Ok(contract) => (check(&contract), Some(contract)),
        Err(problems) => (problems, None),
    };
    let contract = match contract {
        Some(contract) if problems.is_empty() => contract,
        _ => return invalid(&problems),
    };
    if contract.name != name {
        return wrong(&format!(
            "the contract calls itself `{}`, and not `{name}`",
            contract.name
        ));
    }
    if cx.shared.contract(&name).is_none() && cx.shared.contracts().len() >= CONTRACTS_MAX {
        return problem(
            StatusCode::CONFLICT,
            None,
            "there are too many contracts",
            &format!("{CONTRACTS_MAX} are watched, and each takes memory; remove one first"),
        );
    }
    let warnings = unknown_names(&cx, &contract);
    match command(&cx.shared, What::Deploy(Box::new(contract), text)).await {
        Ok(was) => json(&json!({ "name": name, "replaced": was, "warnings": warnings })),
        Err(reason) => unavailable(&reason),
    }
}

async fn remove(State(cx): Cx, Path(name): Path<String>) -> Response {
    match command(&cx.shared, What::Remove(name.clone())).await {
        Ok(true) => json(&json!({ "name": name, "removed": true })),
        Ok(false) => unknown(&cx.shared, &name),
        Err(reason) => unavailable(&reason),
    }
}

async fn command(shared: &Shared, what: What) -> Result<bool, String> {
    let stopping = || "the node is stopping".to_owned();
    let (answer, answered) = oneshot::channel();
    let done = async {
        let sent = shared.commands.send(Command { what, answer }).await;
        sent.map_err(|_gone| stopping())?;
        answered.await.map_err(|_gone| stopping())?
    };
    match timeout(PATIENCE, done).await {
        Ok(done) => done,
        Err(_late) => {
            let trouble = locked(&shared.trouble).clone();
            let why = trouble.unwrap_or_else(|| "topics are still being read".to_owned());
            Err(format!(
                "it was not done in time, and may still be done: {why}"
            ))
        }
    }
}

fn json(value: &impl Serialize) -> Response {
    http::json(StatusCode::OK, value)
}

fn invalid(problems: &[Problem]) -> Response {
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let code = Code::CHOREOGRAPHY_CONTRACT_INVALID;
    problem(
        StatusCode::UNPROCESSABLE_ENTITY,
        Some(code),
        code.title(),
        &all.join("\n"),
    )
}

fn unavailable(reason: &str) -> Response {
    let code = Code::CHOREOGRAPHY_UNAVAILABLE;
    problem(
        StatusCode::SERVICE_UNAVAILABLE,
        Some(code),
        code.title(),
        reason,
    )
}

fn missing(title: &str, detail: &str) -> Response {
    problem(StatusCode::NOT_FOUND, None, title, detail)
}

fn unknown(shared: &Shared, name: &str) -> Response {
    let contracts = shared.contracts();
    let names: Vec<String> = contracts
        .iter()
        .map(|watched| watched.monitor().contract().name.clone())
        .collect();
    let hint = nearest::hint(name, names.iter().map(String::as_str));
    missing(
        "there is no such contract",
        &format!("no contract `{name}` is deployed{hint}"),
    )
}

fn wrong(detail: &str) -> Response {
    problem(
        StatusCode::BAD_REQUEST,
        None,
        "the request cannot be used",
        detail,
    )
}

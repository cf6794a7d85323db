//! Activities and their workers: tasks that are asked for, and answers by task token.
//!
//! That a worker has a task is a fact before the worker gets it. A worker that is gone is found out
//! by the state's `HeartbeatSeconds` or `TimeoutSeconds`, as at Amazon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use wharf_message::{Code, Timestamp};
use wharf_saga::machine::{Data, Failure, Outcome, TaskToken};

use super::super::refusal::Refused;
use super::arn::Arn;
use super::catalogue::{Activity, Known, Write};
use super::fault::Fault;
use super::machines::paged;
use super::operations::{Answer, Call};
use super::wire::{self, Fields};
use super::{Api, tags};
use crate::clock;

/// How long a worker waits for a task.
const POLL: Duration = Duration::from_secs(60);
/// How many activities there may be, as at Amazon.
const ACTIVITIES_MAX: usize = 10_000;
const ERROR_CHARS_MAX: usize = 256;
const CAUSE_CHARS_MAX: usize = 32_768;

fn gone(name: &str) -> Fault {
    let arn = Arn::Activity(name.to_owned());
    Fault::new(
        "ActivityDoesNotExist",
        format!("Activity Does Not Exist: '{arn}'"),
    )
}

pub(super) async fn create(api: Arc<Api>, call: Call) -> Answer {
    let name = wire::name(call.fields.needed("name")?)?;
    let tags: BTreeMap<_, _> = tags::read(&call.fields)?;
    if let Some(encryption) = call.fields.object("encryptionConfiguration")?
        && encryption.text("type")? != Some("AWS_OWNED_KEY")
    {
        let why = "Invalid Encryption Configuration: there is no key service here; leave it out";
        return Err(Fault::new("InvalidEncryptionConfiguration", why));
    }
    let now = clock::now().as_millis();
    let change = |known: &Known| {
        // The name alone says which one it is.
        if let Some(there) = known.activities.get(&name) {
            return Ok((Vec::new(), there.created));
        }
        if known.activities.len() >= ACTIVITIES_MAX {
            let why = format!(
                "there are {ACTIVITIES_MAX} activities, and no more may be; delete one first"
            );
            return Err(Fault::new("ActivityLimitExceeded", why));
        }
        let activity = Activity { created: now, tags };
        Ok((vec![Write::Activity(name.clone(), Some(activity))], now))
    };
    let created = api.catalogue.change(change).await?;
    Ok(json!({
        "activityArn": Arn::Activity(name).to_string(),
        "creationDate": wire::time(Timestamp::from_millis(created)),
    }))
}

pub(super) async fn delete(api: Arc<Api>, call: Call) -> Answer {
    let name = Arn::activity(call.fields.needed("activityArn")?)?;
    let change = |known: &Known| {
        let is_there = known.activities.contains_key(&name);
        let writes = is_there.then_some(Write::Activity(name, None));
        Ok((writes.into_iter().collect(), ()))
    };
    api.catalogue.change(change).await?;
    Ok(json!({}))
}

pub(super) async fn describe(api: Arc<Api>, call: Call) -> Answer {
    let name = Arn::activity(call.fields.needed("activityArn")?)?;
    let known = api.catalogue.known().await?;
    let found = known.activities.get(&name).ok_or_else(|| gone(&name))?;
    Ok(json!({
        "activityArn": Arn::Activity(name.clone()).to_string(),
        "name": name,
        "creationDate": wire::time(Timestamp::from_millis(found.created)),
    }))
}

pub(super) async fn list(api: Arc<Api>, call: Call) -> Answer {
    let known = api.catalogue.known().await?;
    let activities: Vec<_> = known.activities.iter().collect();
    let (page, next) = wire::page(&activities, |(name, _)| (*name).clone(), &call.fields)?;
    let page: Vec<_> = page
        .iter()
        .map(|(name, found)| {
            json!({
                "activityArn": Arn::Activity((*name).clone()).to_string(),
                "name": name,
                "creationDate": wire::time(Timestamp::from_millis(found.created)),
            })
        })
        .collect();
    Ok(paged(json!({ "activities": page }), next))
}

pub(super) async fn task(api: Arc<Api>, call: Call) -> Answer {
    let name = Arn::activity(call.fields.needed("activityArn")?)?;
    call.fields.short("workerName", wire::NAME_CHARS_MAX)?;
    let known = api.catalogue.known().await?;
    if !known.activities.contains_key(&name) {
        return Err(gone(&name));
    }
    let Ok(_seat) = api.pollers.try_acquire() else {
        let why = "as many workers wait for tasks as may wait at once; ask again later";
        return Err(Fault::new("ActivityWorkerLimitExceeded", why));
    };
    let mut stop = api.stop.clone();
    let command = tokio::select! {
        biased;
        command = api.engine.poll_activity(&name, POLL) => command,
        () = crate::flag::raised(&mut stop) => None,
    };
    Ok(match command {
        None => json!({}),
        Some(command) => json!({
            "taskToken": api.engine.token(command.token()),
            "input": command.arguments.to_string(),
        }),
    })
}

async fn token(api: &Api, fields: &Fields) -> Result<TaskToken, Fault> {
    let text = fields.needed("taskToken")?;
    if TaskToken::parse(text).is_none() {
        let why = "Invalid Token: the task token is none of ours";
        return Err(Fault::new("InvalidToken", why));
    }
    let task = api.engine.task(text).await;
    task.map_err(|refused| match refused.code {
        Code::SAGA_TOKEN_UNKNOWN => Fault::new("TaskDoesNotExist", refused.message),
        _ => Fault::of(&refused),
    })
}

async fn reply(api: &Api, token: TaskToken, outcome: Outcome) -> Answer {
    let fault = |refused: Refused| match refused.code {
        Code::SAGA_UNKNOWN => Fault::new("TaskDoesNotExist", refused.message),
        // Answered already, replaced by a later attempt, given up, or its execution is over.
        Code::SAGA_TOKEN_UNKNOWN | Code::SAGA_ACTION_REFUSED => Fault::new(
            "TaskTimedOut",
            format!("Task Timed Out: {}", refused.message),
        ),
        Code::SAGA_PAYLOAD_TOO_LARGE => Fault::new("InvalidOutput", refused.message),
        _ => Fault::of(&refused),
    };
    // An answer that nobody waits for is sent all the same: it may tell that there is something to
    // undo. That it changes nothing else, its worker is to know.
    let step = token.step;
    let open = api
        .engine
        .look(token.saga, move |saga| saga.open_step(step));
    let open = open.await.map_err(fault)?;
    let is_waited_for = open.is_some_and(|open| open.command.generation == token.generation);
    api.engine.reply(token, outcome).await.map_err(fault)?;
    match is_waited_for {
        true => Ok(json!({})),
        false => {
            let why =
                "Task Timed Out: the task was answered, given up, or replaced by a later attempt";
            Err(Fault::new("TaskTimedOut", why))
        }
    }
}

pub(super) async fn success(api: Arc<Api>, call: Call) -> Answer {
    let token = token(&api, &call.fields).await?;
    let output = call
        .fields
        .json_within(api.data_bytes_max(), "output", "InvalidOutput")?;
    let output =
        output.ok_or_else(|| Fault::validation("Value at 'output' must not be missing"))?;
    reply(&api, token, Outcome::Success(Data::from(output))).await
}

pub(super) async fn failure(api: Arc<Api>, call: Call) -> Answer {
    let token = token(&api, &call.fields).await?;
    let error = call.fields.short("error", ERROR_CHARS_MAX)?;
    let cause = call.fields.short("cause", CAUSE_CHARS_MAX)?;
    let error = error
        .filter(|error| !error.is_empty())
        .unwrap_or("States.TaskFailed");
    // Nothing in this API vouches that nothing was done, so the step is undone like any other.
    let failure = Failure {
        error: error.to_owned(),
        cause: cause.unwrap_or_default().to_owned(),
        declared: false,
    };
    reply(&api, token, Outcome::Failure(failure)).await
}

pub(super) async fn heartbeat(api: Arc<Api>, call: Call) -> Answer {
    let token = token(&api, &call.fields).await?;
    reply(&api, token, Outcome::Heartbeat).await
}

//! Every operation of Amazon's API, done or absent with its reason: the table that requests are
//! matched with, and that `docs/reference/step-functions-api.md` is generated from.

use std::fmt::Write as _;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::fault::Fault;
use super::wire::Fields;
use super::{Api, activities, aliases, executions, machines, tags, test_state, validate, versions};

/// A request, understood as far as all have in common.
pub(super) struct Call {
    pub(super) fields: Fields,
    /// Who sent it: an access key, or the API's own name where nobody signs.
    pub(super) by: String,
}

/// What comes of it.
pub(super) type Answer = Result<Value, Fault>;
type Does = fn(Arc<Api>, Call) -> BoxFuture<'static, Answer>;

/// Whether an operation is there.
#[derive(Clone, Copy)]
pub(super) enum Status {
    /// It is, and does this.
    Done(Does),
    /// It is not, for this reason.
    Absent(&'static str),
}

/// An operation of the API.
pub(super) struct Operation {
    pub(super) name: &'static str,
    /// What it is for, in a few words.
    about: &'static str,
    pub(super) status: Status,
}

macro_rules! operations {
    ($($name:literal, $about:literal => $does:path;)*) => {
        &[$(Operation {
            name: $name,
            about: $about,
            status: Status::Done(|api, call| Box::pin($does(api, call))),
        }),*]
    };
}

/// Those that are done.
static DONE: &[Operation] = operations! {
    "CreateActivity", "make an activity, whose tasks workers ask for" => activities::create;
    "CreateStateMachine", "deploy a machine; `publish` makes its first version" => machines::create;
    "CreateStateMachineAlias", "name one version, or two with weights" => aliases::create;
    "DeleteActivity", "forget an activity" => activities::delete;
    "DeleteStateMachine", "remove a machine that no running execution needs" => machines::delete;
    "DeleteStateMachineAlias", "remove an alias" => aliases::delete;
    "DeleteStateMachineVersion", "remove a version that no alias leads to" => versions::delete;
    "DescribeActivity", "when it was made" => activities::describe;
    "DescribeExecution", "where an execution stands, its input and output" => executions::describe;
    "DescribeStateMachine", "a machine, a version of it, or what an alias leads to" => machines::describe;
    "DescribeStateMachineAlias", "where an alias leads" => aliases::describe;
    "DescribeStateMachineForExecution", "the definition that an execution is pinned to" => executions::machine;
    "GetActivityTask", "wait up to 60 s for a task" => activities::task;
    "GetExecutionHistory", "the events of an execution, forwards or backwards" => executions::history;
    "ListActivities", "the activities" => activities::list;
    "ListExecutions", "the executions of a machine, newest first" => executions::list;
    "ListStateMachineAliases", "the aliases of a machine, or of one version" => aliases::list;
    "ListStateMachineVersions", "the published versions, newest first" => versions::list;
    "ListStateMachines", "the machines" => machines::list;
    "ListTagsForResource", "the tags of a machine or an activity" => tags::list;
    "PublishStateMachineVersion", "make the current definition a numbered version" => versions::publish;
    "RedriveExecution", "go on where an execution failed" => executions::redrive;
    "SendTaskFailure", "a task failed" => activities::failure;
    "SendTaskHeartbeat", "a task is still being worked on" => activities::heartbeat;
    "SendTaskSuccess", "a task is done" => activities::success;
    "StartExecution", "start an execution; its name is the idempotency key" => executions::start;
    "StartSyncExecution", "start an execution and wait up to 5 minutes for its end" => executions::start_sync;
    "StopExecution", "abort an execution: what was done is undone first" => executions::stop;
    "TagResource", "add tags" => tags::add;
    "TestState", "run one state alone, with a mocked result for a Task, a Parallel or a Map" => test_state::run;
    "UntagResource", "remove tags" => tags::remove;
    "UpdateStateMachine", "deploy another definition, or give another role" => machines::update;
    "UpdateStateMachineAlias", "lead an alias elsewhere" => aliases::update;
    "ValidateStateMachineDefinition", "every problem of a definition at once" => validate::run;
};

const MAP_RUNS: &str = "a Map runs inside its execution; there are no runs of their own";

/// Those that are not.
static ABSENT: &[Operation] = &[
    absent("DescribeMapRun", MAP_RUNS),
    absent("ListMapRuns", MAP_RUNS),
    absent("UpdateMapRun", MAP_RUNS),
];

const fn absent(name: &'static str, why: &'static str) -> Operation {
    Operation {
        name,
        about: "",
        status: Status::Absent(why),
    }
}

fn all() -> Vec<&'static Operation> {
    let mut all: Vec<_> = DONE.iter().chain(ABSENT).collect();
    all.sort_by_key(|operation| operation.name);
    all
}

/// The operation of that name.
pub(super) fn find(name: &str) -> Option<&'static Operation> {
    let mut all = DONE.iter().chain(ABSENT);
    all.find(|operation| operation.name == name)
}

/// The Markdown of `docs/reference/step-functions-api.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# The Step Functions API\n\n\
         Generated from the table of operations by a test; do not edit.\n\
         It is Amazon's, as of botocore 1.44; [run Step Functions clients](../how-to/saga-step-functions.md) \
         says how to use it and what differs.\n\n\
         Every operation is `POST /` on the HTTP listener with `X-Amz-Target: AWSStepFunctions.NAME` and \
         `Content-Type: application/x-amz-json-1.0`.\n\
         What is absent, or not in the table, is answered with `UnknownOperationException`.\n\n\
         | operation | what | status |\n|---|---|---|\n",
    );
    for Operation {
        name,
        about,
        status,
    } in all()
    {
        let status = match status {
            Status::Done(_) => "done".to_owned(),
            Status::Absent(why) => format!("absent: {why}"),
        };
        writeln!(text, "| `{name}` | {about} | {status} |").expect("a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_operation_is_there_twice() {
        let all = all();
        for pair in all.windows(2) {
            assert_ne!(pair[0].name, pair[1].name);
        }
        assert_eq!(all.len(), 37);
    }
}

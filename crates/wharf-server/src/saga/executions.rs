//! Sagas that a task starts by Amazon's call, `states:startExecution` in its four forms.
//!
//! The name of the execution is its idempotency key, as everywhere, so what is sent again after a
//! restart starts nothing twice. One that is waited for (`.sync`) is aborted when nobody waits for it
//! any more; all others are sagas of their own, which an undo or an abort of the saga that started
//! them does not reach.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use wharf_message::Code;
use wharf_saga::machine::{
    ChildEnd, Command, Data, Failure, Input, Outcome, Parent, Saga, SagaId, Start,
};

use super::deciding::{failed, succeeded};
use super::refusal::Refused;
use super::resources::{Form, Worker};
use super::sfn::{execution_arn, machine_arn};
use super::shard::{After, Work};
use super::shared::Shared;
use crate::clock;

/// The name of the execution that a command starts.
pub(super) fn key(command: &Command) -> String {
    let named = command.arguments.get("Name").and_then(Value::as_str);
    match (named, command.attempt) {
        (Some(name), _) if !name.is_empty() => name.to_owned(),
        (_, 0 | 1) => command.idempotency_key.replace('/', "-"),
        (_, attempt) => format!("{}-{attempt}", command.idempotency_key.replace('/', "-")),
    }
}

impl Shared {
    /// Starts an execution; the task is answered when that is durable, or when it ends.
    pub(super) fn execution(&self, command: &Command, name: String, form: Form, input: Data) {
        let found = self.definitions.find(&name, None);
        let (version, definition) = match found {
            Ok(found) => found,
            Err(refused) => {
                let error = "StepFunctions.StateMachineDoesNotExistException";
                self.send(vec![failed(command, error, refused.message)]);
                return;
            }
        };
        let key = key(command);
        let id = SagaId::of(&name, &key);
        let waits = matches!(form, Form::Sync { .. });
        let parent = waits.then_some(Parent {
            saga: command.saga,
            step: command.step,
            generation: command.generation,
        });
        let start = Start {
            id,
            saga_type: name.clone(),
            definition: version.hash,
            key: key.clone(),
            input,
            correlation: command.correlation.clone(),
            traceparent: command.traceparent.clone(),
            attributes: BTreeMap::new(),
            parent,
        };
        let (answer, answered) = oneshot::channel();
        let work = Work::Start {
            start: Box::new(start),
            definition,
            answer: Some(answer),
        };
        self.follow_up_with(id, work);
        let (queue, command) = (self.follow_ups_of(command.saga), command.clone());
        tokio::spawn(async move {
            // Not answered means that the node is stopping: it is sent again at the next start.
            let Ok(outcome) = answered.await else {
                return;
            };
            let Some(After::Send(saga, input)) = told(&command, outcome, form, &name, &key) else {
                return;
            };
            if let Some(queue) = queue {
                drop(queue.send(Work::Input {
                    saga,
                    input: Box::new(input),
                    answer: None,
                }));
            }
        });
    }

    /// The end of a saga that was started: of an execution it is the answer to the task.
    pub(super) fn execution_ended(&self, saga: &Saga, of: (u32, u32), end: ChildEnd) -> Input {
        let (step, generation) = of;
        let open = saga.open_step(step);
        let open = open.filter(|open| open.command.generation == generation);
        let resolved = open.and_then(|open| {
            let command = open.command;
            let resolved = self
                .resources
                .resolve(&command.resource, &command.arguments);
            Some((resolved.ok()?, command))
        });
        let Some((resolved, command)) = resolved else {
            return Input::ChildEnded {
                step,
                generation,
                end,
            };
        };
        let (Form::Sync { json }, Worker::Saga(name)) = (resolved.form, resolved.worker) else {
            return Input::ChildEnded {
                step,
                generation,
                end,
            };
        };
        let key = key(&command);
        let input = resolved_input(&command);
        let mut answer = json!({
            "ExecutionArn": execution_arn(&name, &key),
            "StateMachineArn": machine_arn(&name),
            "Name": key,
            "Input": if json { input } else { Value::from(input.to_string()) },
            "StopDate": clock::now().as_millis(),
        });
        let outcome = match end {
            ChildEnd::Completed(output) => {
                let output = output.value().clone();
                answer["Status"] = json!("SUCCEEDED");
                answer["Output"] = if json {
                    output
                } else {
                    output.to_string().into()
                };
                Outcome::Success(Data::from(answer))
            }
            ChildEnd::Compensated(failure) | ChildEnd::Aborted(failure) => {
                answer["Status"] = json!("FAILED");
                answer["Error"] = json!(failure.error);
                answer["Cause"] = json!(failure.cause);
                Outcome::Failure(Failure {
                    error: "States.TaskFailed".to_owned(),
                    cause: answer.to_string(),
                    ..failure
                })
            }
        };
        Input::Reply {
            step,
            generation,
            outcome,
        }
    }
}

fn resolved_input(command: &Command) -> Value {
    command.arguments.get("Input").cloned().unwrap_or(json!({}))
}

/// What the task is told of the start; nothing where it waits for more.
fn told(
    command: &Command,
    outcome: Result<bool, Refused>,
    form: Form,
    name: &str,
    key: &str,
) -> Option<After> {
    match outcome {
        Ok(_) if form == Form::Start => {
            let answer = json!({
                "ExecutionArn": execution_arn(name, key),
                "StartDate": clock::now().as_millis(),
            });
            Some(succeeded(command, answer))
        }
        Ok(_) => None,
        Err(refused) => {
            let error = match refused.code {
                Code::SAGA_KEY_TAKEN => "StepFunctions.ExecutionAlreadyExistsException",
                _ => "StepFunctions.SfnException",
            };
            Some(failed(command, error, refused.message))
        }
    }
}

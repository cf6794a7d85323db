//! What goes out once a commit is durable: tasks, sub-sagas, answers to other sagas, alarms.
//!
//! Losing any of it to a crash loses nothing: what is still open is found in the sagas at the next
//! start and goes out again, under the same key.

use std::sync::Arc;

use serde_json::json;
use wharf_message::Timestamp;
use wharf_saga::machine::{Command, Data, Input, Outcome, Parent, Saga, SagaId, Start};

use super::deciding::{failed, succeeded};
use super::resources::{Form, Worker};
use super::shard::{After, Work};
use super::shared::Shared;

impl Shared {
    /// An answer as the saga gets it: in the envelope that its resource promises.
    pub(super) fn read(&self, saga: &Saga, input: Input, now: Timestamp) -> Input {
        let (step, generation, output) = match input {
            Input::Reply {
                step,
                generation,
                outcome: Outcome::Success(output),
            } => (step, generation, output),
            Input::ChildEnded {
                step,
                generation,
                end,
            } => return self.execution_ended(saga, (step, generation), end),
            other => return other,
        };
        let open = saga.open_step(step);
        let open = open.filter(|open| open.command.generation == generation);
        let outcome = match open {
            None => output,
            Some(open) => {
                let took = now.since(open.since);
                let command = &open.command;
                self.metrics
                    .stepped(&command.saga_type, &command.step_name, took);
                match self
                    .resources
                    .resolve(&command.resource, &command.arguments)
                {
                    Ok(found) if found.form == Form::Invoke => {
                        Data::from(found.result(output.value().clone()))
                    }
                    Ok(_) | Err(_) => output,
                }
            }
        };
        let outcome = Outcome::Success(outcome);
        Input::Reply {
            step,
            generation,
            outcome,
        }
    }

    /// What an open task needs after a restart: what went out with its commit needs nothing.
    pub(super) fn again(&self, command: Command, after: &mut Vec<After>) {
        match self
            .resources
            .resolve(&command.resource, &command.arguments)
        {
            Ok(resolved) if matches!(resolved.worker, Worker::Topic(_)) => {
                if resolved.form == Form::Publish {
                    let output = json!({ "MessageId": command.token().to_string() });
                    after.push(succeeded(&command, output));
                }
            }
            Ok(_) => after.push(After::Task(Box::new(command))),
            Err(cause) => after.push(failed(&command, "Wharf.ResourceUnmapped", cause)),
        }
    }

    /// Sends what is to go out.
    pub(super) fn send(&self, after: Vec<After>) {
        for after in after {
            match after {
                After::Task(command) => self.task(*command),
                After::Child(command) => self.child(&command),
                After::Send(saga, input) => self.follow_up(saga, input),
                After::Abort(child, parent) => {
                    self.follow_up_with(child, Work::Abort { child, parent });
                }
                After::Ask(child, parent) => {
                    self.follow_up_with(parent.saga, Work::Wanted { child, parent });
                }
                After::Cancel(token) => {
                    self.stop_started(Parent {
                        saga: token.saga,
                        step: token.step,
                        generation: token.generation,
                    });
                    self.handlers.cancel(token);
                    self.activities.cancel(token);
                    if let Some(http) = self.http.get() {
                        http.cancel(token);
                    }
                }
                After::Alarm(alarm) => self.alarms.raise(alarm),
            }
        }
    }

    fn task(&self, mut command: Command) {
        let resolved = match self
            .resources
            .resolve(&command.resource, &command.arguments)
        {
            Ok(resolved) => resolved,
            Err(cause) => {
                self.send(vec![failed(&command, "Wharf.ResourceUnmapped", cause)]);
                return;
            }
        };
        let arguments = resolved.arguments(&command.arguments);
        match resolved.worker {
            Worker::Http(url) => {
                let callback = self.callback(command.token());
                if let Some(http) = self.http.get() {
                    http.run(&url, command, arguments, callback);
                }
            }
            Worker::Handler(name) => {
                command.arguments = arguments.into();
                self.handlers.run(&name, command);
            }
            Worker::Activity(name) => {
                command.arguments = arguments.into();
                self.activities.offer(&name, command);
            }
            Worker::Saga(name) if resolved.form != Form::Plain => {
                self.execution(&command, name, resolved.form, arguments.into());
            }
            Worker::Saga(name) => {
                command.resource = format!("wharf:saga:{name}");
                command.arguments = arguments.into();
                self.child(&command);
            }
            // Topics were told with the commit, signals are the machine's own.
            Worker::Topic(_) | Worker::Signal => {}
        }
    }

    /// Starts a sub-saga, once for each attempt of its step.
    fn child(&self, command: &Command) {
        let resolved = self
            .resources
            .resolve(&command.resource, &command.arguments);
        let name = match resolved.map(|resolved| resolved.worker) {
            Ok(Worker::Saga(name)) => name,
            Ok(_) | Err(_) => command.resource.clone(),
        };
        let (name, version) = named(&name);
        let (version, definition) = match self.definitions.find(&name, version.as_deref()) {
            Ok(found) => found,
            Err(refused) => {
                self.send(vec![failed(command, "Wharf.SagaUnknown", refused.message)]);
                return;
            }
        };
        let key = child_key(command);
        let id = SagaId::of(&name, &key);
        let start = Start {
            id,
            saga_type: name,
            definition: version.hash,
            key,
            input: command.arguments.clone(),
            correlation: command.correlation.clone(),
            traceparent: command.traceparent.clone(),
            attributes: std::collections::BTreeMap::new(),
            parent: Some(Parent {
                saga: command.saga,
                step: command.step,
                generation: command.generation,
            }),
        };
        let work = Work::Start {
            start: Box::new(start),
            definition: Arc::clone(&definition),
            answer: None,
        };
        self.follow_up_with(id, work);
    }
}

/// The key of the sub-saga that a command starts.
pub(super) fn child_key(command: &Command) -> String {
    match command.attempt {
        0 | 1 => command.idempotency_key.clone(),
        attempt => format!("{}/{attempt}", command.idempotency_key),
    }
}

/// A type, and the version of it that is meant.
pub(super) fn named(name: &str) -> (String, Option<String>) {
    match name.split_once('@') {
        Some((name, version)) => (name.to_owned(), Some(version.to_owned())),
        None => (name.to_owned(), None),
    }
}

//! Tasks that wait to be taken, by name, each in the order in which it came.
//!
//! There are as many as there are open tasks, which may be very many behind a worker that is gone: adding
//! one, finding one and taking one away never looks at the others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use wharf_saga::machine::{Command, TaskToken};

/// The tasks.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_name: HashMap<Arc<str>, BTreeMap<u64, Command>>,
    places: HashMap<TaskToken, (Arc<str>, u64)>,
    /// How many ever came.
    count: u64,
}

impl Waiting {
    /// A task comes; one that waits already keeps its place.
    pub(super) fn add(&mut self, name: &str, command: Command) {
        let token = command.token();
        if self.places.contains_key(&token) {
            return;
        }
        let known = self.by_name.get_key_value(name);
        let name = known.map_or_else(|| Arc::from(name), |(name, _)| Arc::clone(name));
        self.count += 1;
        self.places.insert(token, (Arc::clone(&name), self.count));
        let tasks = self.by_name.entry(name).or_default();
        tasks.insert(self.count, command);
    }

    /// Takes the task that waits longest.
    pub(super) fn first(&mut self, name: &str) -> Option<Command> {
        let tasks = self.by_name.get_mut(name)?;
        let (_, command) = tasks.pop_first()?;
        if tasks.is_empty() {
            self.by_name.remove(name);
        }
        self.places.remove(&command.token());
        Some(command)
    }

    /// Takes all tasks of a name, in their order.
    pub(super) fn all(&mut self, name: &str) -> Vec<Command> {
        let tasks = self.by_name.remove(name).unwrap_or_default();
        let tasks: Vec<_> = tasks.into_values().collect();
        for command in &tasks {
            self.places.remove(&command.token());
        }
        tasks
    }

    /// A task is not to be done any more.
    pub(super) fn remove(&mut self, token: TaskToken) {
        let Some((name, place)) = self.places.remove(&token) else {
            return;
        };
        let Some(tasks) = self.by_name.get_mut(&name) else {
            return;
        };
        tasks.remove(&place);
        if tasks.is_empty() {
            self.by_name.remove(&name);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use wharf_saga::machine::{Data, SagaId};

    use super::*;

    pub(in super::super) fn command(key: &str) -> Command {
        Command {
            saga: SagaId::of("checkout", key),
            saga_type: "checkout".to_owned(),
            step: 1,
            step_name: "Pay".to_owned(),
            attempt: 1,
            generation: 1,
            undo: false,
            resource: "wharf:activity:pay".to_owned(),
            arguments: Data::null(),
            idempotency_key: format!("{key}/1"),
            deadline: None,
            heartbeat: None,
            correlation: None,
            traceparent: None,
        }
    }

    #[test]
    fn who_waits_longest_is_taken_first_and_who_is_cancelled_never() {
        let mut waiting = Waiting::default();
        for key in ["1", "2", "3", "1"] {
            waiting.add("pay", command(key));
        }
        waiting.add("ship", command("4"));
        waiting.remove(command("2").token());
        waiting.remove(command("2").token());
        assert_eq!(waiting.first("pay"), Some(command("1")));
        assert_eq!(waiting.first("pay"), Some(command("3")));
        assert_eq!(waiting.first("pay"), None);
        waiting.add("ship", command("1"));
        assert_eq!(waiting.all("ship"), [command("4"), command("1")]);
        assert!(waiting.by_name.is_empty() && waiting.places.is_empty());
    }
}

//! One event, and how clients read it.

use serde_json::{Map, Value, json};
use wharf_message::Timestamp;

use super::super::wire;

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Event {
    pub(super) id: u64,
    pub(super) previous: u64,
    pub(super) at: Timestamp,
    pub(super) kind: String,
    pub(super) details: Map<String, Value>,
}

impl Event {
    /// As clients read it; without inputs and outputs where they were not asked for.
    pub(in super::super) fn shown(&self, with_data: bool) -> Value {
        let mut event = Map::new();
        event.insert("timestamp".to_owned(), wire::time(self.at));
        event.insert("type".to_owned(), json!(self.kind));
        event.insert("id".to_owned(), json!(self.id));
        event.insert("previousEventId".to_owned(), json!(self.previous));
        if !self.details.is_empty() {
            let mut details = self.details.clone();
            if !with_data {
                details.retain(|name, _| !is_data(name));
            }
            event.insert(self.key(), Value::Object(details));
        }
        Value::Object(event)
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.details.values().filter_map(Value::as_str);
        texts.map(str::len).sum::<usize>() + 256
    }

    /// The name of the field with the details.
    fn key(&self) -> String {
        if self.kind.ends_with("StateEntered") {
            return "stateEnteredEventDetails".to_owned();
        }
        if self.kind.ends_with("StateExited") {
            return "stateExitedEventDetails".to_owned();
        }
        let mut key = self.kind.clone();
        if let Some(first) = key.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        key + "EventDetails"
    }
}

fn is_data(name: &str) -> bool {
    matches!(
        name,
        "input" | "output" | "parameters" | "cause" | "error" | "assignedVariables"
    ) || name.ends_with("Details")
}

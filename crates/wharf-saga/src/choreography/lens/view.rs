//! What people are shown of the lens.

use serde::{Deserialize, Serialize};

/// A type of saga: what begins with the same event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// The event it begins with.
    pub saga: String,
    /// Instances seen.
    pub instances: u64,
    /// Events known.
    pub events: usize,
    /// Pairs of which the one followed the other.
    pub edges: usize,
}

/// The mined graph of a type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Graph {
    /// The event it begins with.
    pub saga: String,
    /// Instances seen.
    pub instances: u64,
    /// Its events, by name.
    pub events: Vec<Event>,
    /// What followed what, by names.
    pub edges: Vec<Edge>,
    /// What usually follows and sometimes did not.
    pub missing: Vec<Missing>,
    /// How often something followed beyond the limit of edges.
    pub edges_dropped: u64,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Its type.
    pub event: String,
    /// How often it came.
    pub count: u64,
    /// How many instances began with it.
    pub starts: u64,
    /// How often nothing followed it in an instance that has come to rest.
    pub ends: u64,
    /// The topics it was in.
    pub topics: Vec<String>,
    /// The services it came from, as far as they say so.
    pub services: Vec<String>,
}

/// That one event followed another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// The one.
    pub from: String,
    /// The other.
    pub to: String,
    /// How often.
    pub count: u64,
    /// How many of a hundred times that the one came, the other followed.
    pub percent: f64,
    /// Half of the times it took no longer, in milliseconds.
    pub p50_ms: u64,
    /// Of a hundred times, 99 took no longer, in milliseconds.
    pub p99_ms: u64,
    /// Whether it hardly ever follows.
    pub is_rare: bool,
}

/// An event that something nearly always follows, and did not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    /// The event.
    pub after: String,
    /// What nearly always follows it, the most usual first.
    pub usually: Vec<String>,
    /// How often nothing did.
    pub instances: u64,
    /// Some of the instances, those that rest longest.
    pub examples: Vec<String>,
}

/// An instance: everything that one id correlates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// The id.
    pub id: String,
    /// The event it began with.
    pub saga: String,
    /// What correlates it: the name of the header, `key` or a path.
    pub by: String,
    /// When it began, RFC 3339.
    pub began_at: String,
    /// The time of its last event, RFC 3339.
    pub last_at: String,
    /// Whether nothing has come for so long that it is taken to be over.
    pub is_at_rest: bool,
    /// Its events, in order.
    pub events: Vec<Step>,
    /// Events beyond the limit of one instance.
    pub events_dropped: u64,
}

/// An event of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its type.
    pub event: String,
    /// When, RFC 3339.
    pub at: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The message's id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Who made it, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The index of the event that it followed, among these; none for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follows: Option<usize>,
}

/// What was let go of to stay within the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// Records that nothing correlates.
    pub uncorrelated: u64,
    /// Instances let go of while events still came.
    pub instances: u64,
    /// Events beyond what one instance may have.
    pub events: u64,
    /// Events whose name was one too many; they are called `(other)`.
    pub names: u64,
    /// Instances whose type was one too many; their type is called `(other)`.
    pub kinds: u64,
    /// Messages that came again, which change nothing.
    pub redelivered: u64,
}

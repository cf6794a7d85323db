//! What people are shown of instances and their verdicts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Finding, Kind, Verdict};

/// A verdict that has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The contract.
    pub choreography: String,
    /// The instance.
    pub instance: String,
    /// What it was.
    pub was: Kind,
    /// What it is.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// When, RFC 3339: everything that happened before was read.
    pub at: String,
}

/// How many instances have which verdict, and how many came to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Now.
    pub now: BTreeMap<Kind, u64>,
    /// Since the beginning.
    pub reached: BTreeMap<Kind, u64>,
}

/// What was let go of to stay within the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// Records of the contract's events that nothing correlates.
    pub uncorrelated: u64,
    /// Instances let go of while they ran.
    pub running: u64,
    /// Instances let go of with a bad verdict, before their time.
    pub bad: u64,
    /// Events beyond what one instance may have.
    pub events: u64,
    /// Records that came again, which change nothing.
    pub redelivered: u64,
    /// Records of instances that are remembered no more.
    pub late: u64,
    /// Instances whose beginning was no more in their topics, which are not judged.
    pub unjudged: u64,
}

/// An instance in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The id that correlates it.
    pub instance: String,
    /// The verdict.
    pub verdict: Kind,
    /// Its first event's time, RFC 3339.
    pub began_at: String,
    /// Its last event.
    pub last_event: String,
    /// That event's time, RFC 3339.
    pub last_at: String,
    /// What is wrong, as sentences.
    pub findings: Vec<String>,
}

/// An instance with everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceView {
    /// The contract.
    pub choreography: String,
    /// In short.
    #[serde(flatten)]
    pub summary: Summary,
    /// What is wrong, for programs.
    pub details: Vec<Finding>,
    /// Until when what comes next is waited for, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<String>,
    /// Its events, in the order of their times.
    pub events: Vec<Step>,
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
}

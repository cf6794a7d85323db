//! Orchestrators, ledgers, workers and people that break their promises, to show of every checker
//! that it notices.

use bytes::Bytes;
use serde_json::Value;
use wharf_message::ledger::{Commit, Record};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Parked sagas raise no alarm.
    NoAlarms,
    /// Workers never hear of some tasks.
    LostTasks,
    /// Workers do a task again for every command.
    RepeatedEffects,
    /// Workers say that they undid, and did not.
    EmptyUndos,
    /// It is forgotten that a step was undone.
    ForgottenUndos,
    /// Everything is undone at once, and judged as though it had an order.
    NoOrder,
    /// A worker is told to go forward once more, after the turn.
    ForwardAgain,
    /// Every undo costs a fee.
    Fees,
    /// The ledger answers before it has written.
    EarlyAnswers,
    /// The orchestrator's clock runs ahead.
    FastClock,
    /// Time stands still for the orchestrator's timers: what is due is left out.
    LateTimers,
    /// Snapshots are those of before.
    OldSnapshots,
    /// Sagas take resources of another version.
    OtherVersions,
    /// Answers count for an older dispatch.
    OldGenerations,
    /// Every caller is told that the saga is new.
    AlwaysNew,
    /// What is listed lags behind.
    OldLists,
    /// Orders leave no audit.
    NoAudit,
    /// The disk under the log says that it synced, and did not.
    LyingDisk,
    /// The ledger writes a commit in two halves.
    HalfCommits,
}

impl Sabotage {
    /// Whether it needs the node's own log.
    pub(super) fn is_of_the_log(self) -> bool {
        matches!(self, Self::LyingDisk | Self::HalfCommits)
    }
}

/// What the ledger does to what is written.
pub(super) struct Tamper {
    sabotage: Sabotage,
    snapshots: std::collections::BTreeMap<Bytes, Bytes>,
    forward: Option<(wharf_message::ledger::Partition, Record)>,
}

impl Tamper {
    pub(super) fn new(sabotage: Sabotage) -> Self {
        Self {
            sabotage,
            snapshots: std::collections::BTreeMap::new(),
            forward: None,
        }
    }

    pub(super) fn answers_early(&self, commit: &Commit) -> bool {
        let mut keys = commit
            .records
            .iter()
            .map(|(_, record)| record.key.as_deref());
        self.sabotage == Sabotage::EarlyAnswers && keys.all(|key| key != Some(b"start"))
    }

    pub(super) fn lies_about_syncs(&self) -> bool {
        self.sabotage == Sabotage::LyingDisk
    }

    pub(super) fn writes_halves(&self) -> bool {
        self.sabotage == Sabotage::HalfCommits
    }

    pub(super) fn commit(&mut self, commit: &mut Commit) {
        match self.sabotage {
            Sabotage::NoAlarms => drop_topic(commit, "_wharf.saga-alarms"),
            Sabotage::NoAudit => drop_topic(commit, "_wharf.audit"),
            Sabotage::ForgottenUndos => facts(commit, |facts| {
                facts.retain(|fact| fact.pointer("/is/undone").is_none());
            }),
            Sabotage::OtherVersions => facts(commit, |facts| {
                for fact in facts {
                    if let Some(resource) = fact.pointer_mut("/is/dispatched/resource") {
                        let other = resource.as_str().unwrap_or_default().replace(":v", ":w");
                        *resource = Value::from(other);
                    }
                }
            }),
            Sabotage::OldGenerations => facts(commit, |facts| {
                for fact in facts {
                    if let Some(generation) = fact.pointer_mut("/is/succeeded/generation")
                        && generation.as_u64() > Some(1)
                    {
                        *generation = Value::from(1);
                    }
                }
            }),
            Sabotage::LostTasks => commit.records.retain(|(partition, _)| {
                !partition.topic.as_str().ends_with("Task2")
                    && !partition.topic.as_str().ends_with("Deposit")
            }),
            Sabotage::OldSnapshots => self.old_snapshots(commit),
            Sabotage::ForwardAgain => self.forward_again(commit),
            _ => {}
        }
    }

    fn old_snapshots(&mut self, commit: &mut Commit) {
        for (partition, record) in &mut commit.records {
            let (Some(key), Some(value)) = (&record.key, &mut record.value) else {
                continue;
            };
            if partition.topic.as_str() == "_wharf.sagas" && !key.contains(&b'/') {
                let before = self.snapshots.insert(key.clone(), value.clone());
                if let Some(before) = before {
                    *value = before;
                }
            }
        }
    }

    fn forward_again(&mut self, commit: &mut Commit) {
        let is_undo = |record: &Record| record.headers.iter().any(|(name, _)| name == "undo");
        let mut commands = commit.records.iter();
        let commands = commands
            .by_ref()
            .filter(|(partition, _)| !partition.topic.as_str().starts_with('_'));
        let mut again = None;
        for (partition, record) in commands {
            match &self.forward {
                Some((_, before)) if is_undo(record) && before.key == record.key => {
                    again.clone_from(&self.forward);
                }
                _ if is_undo(record) => {}
                _ => self.forward = Some((partition.clone(), record.clone())),
            }
        }
        commit.records.extend(again);
    }
}

fn drop_topic(commit: &mut Commit, topic: &str) {
    commit
        .records
        .retain(|(partition, _)| partition.topic.as_str() != topic);
}

/// Changes the facts of a commit.
fn facts(commit: &mut Commit, change: impl Fn(&mut Vec<Value>)) {
    for (partition, record) in &mut commit.records {
        let is_facts = record.key.as_ref().is_some_and(|key| key.contains(&b'/'));
        if partition.topic.as_str() != "_wharf.sagas" || !is_facts {
            continue;
        }
        let read = record.value.as_deref().map(serde_json::from_slice);
        if let Some(Ok(mut read)) = read {
            change(&mut read);
            record.value = serde_json::to_vec(&read).ok().map(Bytes::from);
        }
    }
}

//! What the broker asks of the registry: whether the records of a topic keep its contract.
//!
//! The registry is asked in memory, as of its last commit; nothing here waits. Before its topic was
//! read for the first time nothing is let in or refused: the producer comes again. What is counted
//! and logged is bounded, whatever clients call themselves.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry as Metrics;
use wharf_broker::records::Record;
use wharf_broker::{
    Context, SchemaAction, SchemaCheck, SchemaCounts, SchemaDepth, SchemaRefusal, SchemaRules,
    SubjectStrategy,
};
use wharf_message::{Code, TopicName};
use wharf_schema::contract::{Contract, Part, Strategy};

use super::Schemas;

/// How many pairs of topic and client are counted apart; further ones are counted as `other`.
const COUNTED_MAX: usize = 1_000;
/// The label of those.
const OTHER: &str = "other";
/// How often one topic's broken records are told in the log, and of how many topics the last time is
/// remembered.
const TOLD_EVERY: Duration = Duration::from_secs(10);
const TOLD_MAX: usize = 1_000;

/// Who wrote, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Written {
    topic: String,
    client: String,
}

/// The same, with what became of the records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Broken {
    topic: String,
    client: String,
    action: &'static str,
}

/// The answers to the broker.
#[derive(Debug)]
pub(super) struct Validation {
    schemas: Schemas,
    checked: Family<Written, Counter>,
    broken: Family<Broken, Counter>,
    counted: Mutex<HashSet<Written>>,
    told: Mutex<HashMap<TopicName, Told>>,
}

/// When a topic's broken records were told last, and how many came since.
#[derive(Debug)]
struct Told {
    at: Instant,
    since: u64,
}

impl Validation {
    /// The answers by this registry, with what is counted registered.
    pub(super) fn new(schemas: Schemas, metrics: &mut Metrics) -> Self {
        let validation = Self {
            schemas,
            checked: Family::default(),
            broken: Family::default(),
            counted: Mutex::default(),
            told: Mutex::default(),
        };
        metrics.register(
            "checked_records",
            "Records whose schema was checked, by topic and client",
            validation.checked.clone(),
        );
        metrics.register(
            "broken_records",
            "Records that break the contract of their topic, by topic, client and what became of them",
            validation.broken.clone(),
        );
        validation
    }

    /// The labels of a client, or those of all others when there are too many.
    fn labels(&self, cx: &Context, topic: &TopicName) -> Written {
        let written = Written {
            topic: topic.to_string(),
            client: cx.client_id.to_string(),
        };
        let mut counted = locked(&self.counted);
        if counted.contains(&written) {
            return written;
        }
        if counted.len() < COUNTED_MAX {
            counted.insert(written.clone());
            return written;
        }
        Written {
            topic: OTHER.to_owned(),
            client: OTHER.to_owned(),
        }
    }

    /// How many broken records are to be told of now, if any.
    fn to_tell(&self, topic: &TopicName, broken: u64, now: Instant) -> Option<u64> {
        let mut told = locked(&self.told);
        if let Some(told) = told.get_mut(topic) {
            told.since += broken;
            if now.duration_since(told.at) < TOLD_EVERY {
                return None;
            }
            told.at = now;
            return Some(std::mem::take(&mut told.since));
        }
        if told.len() >= TOLD_MAX {
            told.retain(|_, told| now.duration_since(told.at) < TOLD_EVERY);
        }
        if told.len() >= TOLD_MAX {
            return None;
        }
        told.insert(topic.clone(), Told { at: now, since: 0 });
        Some(broken)
    }
}

impl SchemaCheck for Validation {
    fn check(
        &self,
        topic: &TopicName,
        rules: &SchemaRules,
        record: &Record,
    ) -> Result<(), SchemaRefusal> {
        if !self.schemas.published.is_read() {
            return Err(SchemaRefusal::NotReady);
        }
        let registry = self.schemas.registry();
        for (part, rule, bytes) in [
            (Part::Key, rules.key, &record.key),
            (Part::Value, rules.value, &record.value),
        ] {
            let (Some(rule), Some(bytes)) = (rule, bytes) else {
                continue;
            };
            let name = part.header().as_bytes();
            let mut headers = record.headers.iter().rev();
            let header = headers.find(|(found, _)| found == name);
            let header = header.map(|(_, value)| value.as_deref().unwrap_or_default());
            let contract = Contract {
                topic: topic.as_str(),
                part,
                strategy: match rule {
                    SubjectStrategy::Topic => Strategy::Topic,
                    SubjectStrategy::Record => Strategy::Record,
                    SubjectStrategy::TopicRecord => Strategy::TopicRecord,
                },
                is_deep: rules.depth == SchemaDepth::Payload,
            };
            let checked = contract.check(&registry, header, bytes);
            checked.map_err(|why| {
                SchemaRefusal::Broken(format!("{why} ({})", Code::SCHEMA_CONTRACT_BROKEN))
            })?;
        }
        Ok(())
    }

    fn count(
        &self,
        cx: &Context,
        topic: &TopicName,
        action: SchemaAction,
        counts: &SchemaCounts<'_>,
    ) {
        let written = self.labels(cx, topic);
        self.checked.get_or_create(&written).inc_by(counts.checked);
        let Some(why) = counts.first else {
            return;
        };
        let Written {
            topic: name,
            client,
        } = written;
        let action = match action {
            SchemaAction::Warn => "warned",
            SchemaAction::Reject => "rejected",
        };
        let labels = Broken {
            topic: name,
            client,
            action,
        };
        self.broken.get_or_create(&labels).inc_by(counts.broken);
        if let Some(broken) = self.to_tell(topic, counts.broken, Instant::now()) {
            let client = &*cx.client_id;
            tracing::warn!(%topic, client, broken, action, why, "records break the contract of their topic");
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Client quotas: how much a user, a client or an address may take (KIP-13, KIP-55, KIP-124,
//! KIP-546, KIP-612).
//!
//! A quota is durable state like a topic's settings; what was taken lately is memory and starts
//! anew with the node. Nothing is ever refused for a quota: the broker says how long the client
//! has to wait, and whoever reads its connection keeps to that (KIP-219). Only a new connection
//! that comes too early is turned away.

mod accounts;
mod bucket;
mod entity;
mod record;
mod table;

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wharf_log::{CommitError, Condition, StateChange, Unit};

use crate::{Broker, Context, Error, ErrorKind, commit, sync};
pub(crate) use accounts::Quotas;
use bucket::ms;
pub use entity::{QuotaEntity, QuotaKey, QuotaName};

/// The most entities that have quotas: bounds what a start reads and a description answers.
const ENTITIES_MAX: usize = 10_000;
/// How often a change is decided anew because another change of the same entity came first.
const ATTEMPTS_MAX: usize = 100;
/// The longest a client waits at once; what it owes beyond that counts against what comes next.
const WAIT_MAX: Duration = Duration::from_secs(10 * 60);
/// The longest a client waits at once for the time its requests took, as in Kafka.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(1);

/// The quotas of one entity, at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaEntry {
    /// Whose.
    pub entity: QuotaEntity,
    /// How much, by key.
    pub values: BTreeMap<QuotaKey, f64>,
}

/// What a fetch may take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// At most so many bytes at once; the first batch comes whole all the same.
    pub(crate) bytes_max: usize,
    /// Nothing yet, but again after this time; zero for now.
    pub(crate) wait: Duration,
}

impl Broker {
    /// Whether there is any quota at all; as long as there is none, nothing needs to be measured.
    pub fn has_quotas(&self) -> bool {
        self.shared.quotas.are_set()
    }

    /// Every entity with its quotas.
    pub fn quotas(&self, cx: &Context) -> Vec<QuotaEntry> {
        let _anyone_may_ask = cx;
        let table = sync::read(&self.shared.quotas.table);
        let entry = |(entity, stored): (&QuotaEntity, &table::Stored)| QuotaEntry {
            entity: entity.clone(),
            values: stored.values.clone(),
        };
        table.entries().map(entry).collect()
    }

    /// Sets (`Some`) and removes (`None`) quotas of one entity by name, all or none, durable when
    /// this returns. With `validate_only` nothing is changed.
    pub async fn alter_quotas(
        &self,
        cx: &Context,
        entity: &QuotaEntity,
        changes: &[(String, Option<f64>)],
        validate_only: bool,
    ) -> Result<(), Error> {
        let _anyone_may_change = cx;
        let changes = entity::check(entity, changes)?;
        for _ in 0..ATTEMPTS_MAX {
            let Some(unit) = self.quota_unit(entity, &changes)? else {
                return Ok(());
            };
            if validate_only {
                return Ok(());
            }
            match self.submit_quotas(entity.clone(), unit).wait().await {
                Ok(_) => return Ok(()),
                Err(CommitError::ConditionFailed(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let message = "the quotas were changed by others all the time; try again";
        Err(Error::new(ErrorKind::RequestTimedOut, message))
    }

    /// The unit that makes the changes; `None` when they change nothing.
    fn quota_unit(
        &self,
        entity: &QuotaEntity,
        changes: &[(QuotaKey, Option<f64>)],
    ) -> Result<Option<Unit>, Error> {
        let table = sync::read(&self.shared.quotas.table);
        let stored = table.get(entity);
        let before = stored.map(|stored| stored.encoded.clone());
        let mut values = stored
            .map(|stored| stored.values.clone())
            .unwrap_or_default();
        for (key, value) in changes {
            match value {
                Some(value) => values.insert(*key, *value),
                None => values.remove(key),
            };
        }
        let after = (!values.is_empty()).then(|| record::encode(&values));
        if before == after {
            return Ok(None);
        }
        if before.is_none() && table.len() >= ENTITIES_MAX {
            let message = format!("this node holds quotas of {ENTITIES_MAX} entities at most");
            return Err(Error::new(ErrorKind::PolicyViolation, message));
        }
        let key = record::key(entity);
        Ok(Some(Unit {
            conditions: vec![Condition::StateEquals {
                key: key.clone(),
                value: before,
            }],
            state: vec![StateChange { key, value: after }],
            ..Unit::default()
        }))
    }

    fn submit_quotas(&self, entity: QuotaEntity, unit: Unit) -> commit::Outcome {
        let shared = Arc::clone(&self.shared);
        let after: Option<Bytes> = unit.state[0].value.clone();
        commit::submit(&self.shared.appender, unit, move |outcome| {
            if outcome.is_ok() {
                shared.quotas.put(entity, after);
            }
        })
    }

    /// Counts what a client has taken: bytes, or nanoseconds of
    /// [`QuotaKey::RequestPercentage`]. Returns how long it has to wait before it may ask again.
    pub fn charge(&self, cx: &Context, key: QuotaKey, amount: f64) -> Duration {
        let Some((account, rate)) = self.shared.quotas.of_client(cx, key) else {
            return Duration::ZERO;
        };
        let wait_max = match key {
            QuotaKey::RequestPercentage => REQUEST_WAIT_MAX,
            _ => WAIT_MAX,
        };
        let now = self.shared.runtime.steady();
        self.shared
            .quotas
            .charge(account, rate, amount, now)
            .min(wait_max)
    }

    /// Counts a new connection from `address`. When it comes too early it is not counted, and the
    /// wait until it would not have been too early is returned: close it after that time.
    pub fn charge_connection(&self, address: IpAddr) -> Duration {
        let Some((account, rate)) = self.shared.quotas.of_address(address) else {
            return Duration::ZERO;
        };
        let now = self.shared.runtime.steady();
        self.shared
            .quotas
            .take_one(account, rate, now)
            .min(WAIT_MAX)
    }

    /// What a fetch of this client may take.
    pub(crate) fn fetch_allowance(&self, cx: &Context) -> Allowance {
        let quotas = &self.shared.quotas;
        let Some((account, rate)) = quotas.of_client(cx, QuotaKey::ConsumerByteRate) else {
            return Allowance {
                bytes_max: usize::MAX,
                wait: Duration::ZERO,
            };
        };
        let now = self.shared.runtime.steady();
        let wait = quotas.charge(account, rate, 0.0, now).min(WAIT_MAX);
        Allowance {
            bytes_max: bucket::burst(rate),
            wait: ms(wait),
        }
    }
}

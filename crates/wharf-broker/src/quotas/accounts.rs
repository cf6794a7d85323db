//! Who has taken how much lately: one bucket per quota and whoever shares it.
//!
//! A quota of a user is shared by all the user's clients; one of a client id by all connections
//! that call themselves so. Clients choose their ids, so the number of buckets is bounded: full
//! ones are forgotten, and when too many are in use the rest share one.

use core::net::IpAddr;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use bytes::Bytes;
use wharf_log::Reader;
use wharf_message::Timestamp;

use super::bucket::Bucket;
use super::entity::{QuotaEntity, QuotaKey};
use super::table::Table;
use crate::{Context, Error, sync};

/// The most buckets kept.
const BUCKETS_MAX: usize = 100_000;
/// Full buckets are looked for this often at most.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Who shares a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Account {
    key: QuotaKey,
    user: Option<Arc<str>>,
    client_id: Option<Arc<str>>,
    address: Option<IpAddr>,
}

impl Account {
    /// The one for whoever finds no place of their own.
    fn crowd(key: QuotaKey) -> Self {
        Self {
            key,
            user: None,
            client_id: None,
            address: None,
        }
    }
}

/// The quotas and what was taken of them.
#[derive(Debug)]
pub(crate) struct Quotas {
    pub(super) table: RwLock<Table>,
    /// Whether the table holds anything: asked for every request.
    are_set: AtomicBool,
    buckets: Mutex<Buckets>,
    buckets_max: usize,
}

#[derive(Debug, Default)]
struct Buckets {
    entries: HashMap<Account, Entry>,
    /// When full ones were last looked for.
    swept: Option<Timestamp>,
}

impl Buckets {
    /// The bucket of an account, or that of the crowd when there is no room for another.
    fn entry(&mut self, account: Account, rate: f64, now: Timestamp, max: usize) -> &mut Entry {
        let mut account = account;
        if self.entries.len() >= max && !self.entries.contains_key(&account) {
            self.sweep(now);
            if self.entries.len() >= max {
                account = Account::crowd(account.key);
            }
        }
        let full = || Entry {
            bucket: Bucket::full(rate, now),
            rate,
        };
        self.entries.entry(account).or_insert_with(full)
    }

    /// Forgets full buckets, not more often than they can have filled.
    fn sweep(&mut self, now: Timestamp) {
        if self
            .swept
            .is_none_or(|swept| now.since(swept) >= SWEEP_EVERY)
        {
            self.entries
                .retain(|_, entry| !entry.bucket.is_full(entry.rate, now));
            self.swept = Some(now);
        }
    }
}

#[derive(Debug)]
struct Entry {
    bucket: Bucket,
    /// The rate it was last used with.
    rate: f64,
}

impl Quotas {
    /// Reads the quotas from the log's state.
    pub(crate) fn recover(reader: &Reader) -> Result<Self, Error> {
        Ok(Self::new(Table::recover(reader)?, BUCKETS_MAX))
    }

    fn new(table: Table, buckets_max: usize) -> Self {
        let are_set = AtomicBool::new(table.len() > 0);
        Self {
            table: RwLock::new(table),
            are_set,
            buckets: Mutex::default(),
            buckets_max,
        }
    }

    /// Whether there is any quota.
    pub(super) fn are_set(&self) -> bool {
        self.are_set.load(Ordering::Relaxed)
    }

    /// Puts an entity's value as it was committed.
    pub(super) fn put(&self, entity: QuotaEntity, value: Option<Bytes>) {
        let mut table = sync::write(&self.table);
        table
            .put(entity, value)
            .expect("what this node encoded it decodes");
        self.are_set.store(table.len() > 0, Ordering::Relaxed);
    }

    /// The bucket and rate of a client's quota, if it has one. The node's own roles have none.
    pub(super) fn of_client(&self, cx: &Context, key: QuotaKey) -> Option<(Account, f64)> {
        if !self.are_set() || cx.principal.is_internal() {
            return None;
        }
        let user: Arc<str> = user_name(cx.principal.as_str()).into();
        let (entity, quota) = sync::read(&self.table).of_client(key, &user, &cx.client_id)?;
        let account = Account {
            key,
            user: entity.user.map(|_| user),
            client_id: entity.client_id.map(|_| Arc::clone(&cx.client_id)),
            address: None,
        };
        Some((account, key.rate(quota)))
    }

    /// The bucket and rate of an address, if it has a quota.
    pub(super) fn of_address(&self, address: IpAddr) -> Option<(Account, f64)> {
        if !self.are_set() {
            return None;
        }
        let key = QuotaKey::ConnectionCreationRate;
        let address = address.to_canonical();
        let quota = sync::read(&self.table).of_address(key, &address.to_string().into())?;
        let account = Account {
            address: Some(address),
            ..Account::crowd(key)
        };
        Some((account, key.rate(quota)))
    }

    /// Takes `amount` from a bucket; see [`Bucket::charge`].
    pub(super) fn charge(
        &self,
        account: Account,
        rate: f64,
        amount: f64,
        now: Timestamp,
    ) -> Duration {
        self.with(account, rate, now, |bucket| {
            bucket.charge(amount, rate, now)
        })
    }

    /// Takes one from a bucket if there is one; see [`Bucket::take_one`].
    pub(super) fn take_one(&self, account: Account, rate: f64, now: Timestamp) -> Duration {
        self.with(account, rate, now, |bucket| bucket.take_one(rate, now))
    }

    fn with<T>(
        &self,
        account: Account,
        rate: f64,
        now: Timestamp,
        work: impl FnOnce(&mut Bucket) -> T,
    ) -> T {
        let mut buckets = sync::lock(&self.buckets);
        let entry = buckets.entry(account, rate, now, self.buckets_max);
        entry.rate = rate;
        work(&mut entry.bucket)
    }
}

/// The user of a principal (`User:alice`).
fn user_name(principal: &str) -> &str {
    principal
        .split_once(':')
        .map_or(principal, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use wharf_message::Principal;

    use super::*;
    use crate::quotas::{QuotaName, record};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn context(client_id: &str) -> Context {
        Context {
            principal: Principal::anonymous(),
            client_id: client_id.into(),
            client_host: "/127.0.0.1".into(),
            connection: 1,
        }
    }

    fn quotas(entity: QuotaEntity, buckets_max: usize) -> Quotas {
        let quotas = Quotas::new(Table::default(), buckets_max);
        let values = [(QuotaKey::ProducerByteRate, 100.0)].into();
        quotas.put(entity, Some(record::encode(&values)));
        quotas
    }

    fn charge(quotas: &Quotas, client_id: &str, amount: f64, now: Timestamp) -> Duration {
        let (account, rate) = quotas
            .of_client(&context(client_id), QuotaKey::ProducerByteRate)
            .expect("a quota");
        quotas.charge(account, rate, amount, now)
    }

    fn of_user() -> QuotaEntity {
        let user = Some(QuotaName::Named("ANONYMOUS".into()));
        QuotaEntity {
            user,
            ..QuotaEntity::default()
        }
    }

    fn of_each_client() -> QuotaEntity {
        QuotaEntity {
            client_id: Some(QuotaName::Default),
            ..QuotaEntity::default()
        }
    }

    #[test]
    fn clients_of_a_user_share_the_users_quota_and_default_clients_have_one_each() {
        let shared = quotas(of_user(), 10);
        assert_eq!(charge(&shared, "a", 100.0, NOW), Duration::ZERO);
        assert_eq!(charge(&shared, "b", 100.0, NOW), Duration::from_secs(1));
        let each = quotas(of_each_client(), 10);
        assert_eq!(charge(&each, "a", 100.0, NOW), Duration::ZERO);
        assert_eq!(charge(&each, "b", 100.0, NOW), Duration::ZERO);
        assert_eq!(charge(&each, "a", 100.0, NOW), Duration::from_secs(1));
    }

    #[test]
    fn many_client_ids_take_bounded_memory_and_nobody_gets_more_for_it() {
        let each = quotas(of_each_client(), 2);
        for client in ["a", "b", "c", "d"] {
            charge(&each, client, 200.0, NOW);
        }
        assert_eq!(
            sync::lock(&each.buckets).entries.len(),
            3,
            "two and the crowd"
        );
        assert_eq!(charge(&each, "e", 0.0, NOW), Duration::from_secs(3));
        assert_eq!(charge(&each, "a", 0.0, NOW), Duration::from_secs(1));
        let later = NOW.after(Duration::from_secs(60));
        assert_eq!(charge(&each, "f", 0.0, later), Duration::ZERO);
        assert_eq!(
            sync::lock(&each.buckets).entries.len(),
            1,
            "full buckets are forgotten"
        );
    }

    #[test]
    fn the_nodes_own_roles_and_a_node_without_quotas_are_not_limited() {
        let quotas = quotas(of_user(), 10);
        let cx = Context::internal("relay");
        assert!(quotas.of_client(&cx, QuotaKey::ProducerByteRate).is_none());
        assert!(
            quotas
                .of_client(&context("a"), QuotaKey::ConsumerByteRate)
                .is_none()
        );
        quotas.put(of_user(), None);
        assert!(!quotas.are_set());
    }
}

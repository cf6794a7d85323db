//! Pure: topics, partitions, producers, groups and the embedded ledger over the log.
//!
//! Opens no socket and no file, reads no clock and starts no thread: time, tasks and randomness
//! come in through [`Runtime`]. Speaks no wire format: `wharf-kafka` translates. Every call takes
//! a [`Context`] with the principal first, so that access rules need no new arguments later.
//! Everything here is a view of the log: state is written there first and becomes visible after.

mod codec;
mod commit;
mod config;
mod context;
mod encoding;
mod error;
mod fetch;
pub mod group;
mod keys;
mod ledger;
mod offsets;
mod produce;
mod producers;
mod quotas;
mod recompress;
mod record_checks;
pub mod records;
mod runtime;
mod schemas;
mod sync;
mod time_index;
mod topics;
mod transactions;

pub use config::{
    ConfigChange, ConfigEntry, ConfigOperation, ConfigSource, TopicConfig, topic_settings_table,
};
pub use context::Context;
pub use error::{Error, ErrorKind, RECORD_ERRORS_MAX, RecordError};
pub use fetch::{Fetch, FetchPartition, FetchSession, Fetched, FetchedPartition};
pub use ledger::EmbeddedLedger;
pub use offsets::{
    DeletedRecords, EpochEnd, ListedOffset, OffsetQuery, OffsetQueryAt, PartitionDescription,
    ProducerDescription,
};
pub use produce::{Produce, Produced};
pub use producers::ProducerIdentity;
pub use quotas::{QuotaEntity, QuotaEntry, QuotaKey, QuotaName};
pub use recompress::StoredCodec;
pub use runtime::Runtime;
pub use schemas::{
    SchemaAction, SchemaCheck, SchemaCounts, SchemaDepth, SchemaRefusal, SchemaRules,
    SubjectStrategy,
};
pub use topics::{CreateTopic, RetentionPolicy, Topic, TopicRef};
pub use transactions::{
    InitTransactions, ListedTransaction, Protocol, TransactionCounts, TransactionDescription,
    TransactionState, TransactionalProducer, WriteMarker,
};

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use uuid::Uuid;
use wharf_log::{Appender, PartitionId, Reader};

/// Settings of the broker that are not per topic.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node's id in the protocol.
    pub node_id: i32,
    /// The cluster's id.
    pub cluster_id: String,
    /// The directory the log is kept in, as tools are told it.
    pub log_directory: String,
    /// Create a topic when a client asks for its metadata or produces to it.
    pub auto_create_topics: bool,
    /// Partitions of topics created without a count.
    pub default_partitions: i32,
    /// The most partitions the node holds.
    pub partitions_max: usize,
    /// Default topic settings (names and values as Kafka tools write them).
    pub topic_defaults: Vec<(String, String)>,
    /// Wait before the first rebalance of an empty group (`group.initial.rebalance.delay.ms`).
    pub group_initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub group_session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub group_session_timeout_max: Duration,
    /// `group.max.size`.
    pub group_members_max: usize,
    /// How many groups the node holds.
    pub groups_max: usize,
    /// `group.consumer.session.timeout.ms`.
    pub consumer_session_timeout: Duration,
    /// `group.consumer.min.session.timeout.ms`: the least a group may set for itself.
    pub consumer_session_timeout_min: Duration,
    /// `group.consumer.max.session.timeout.ms`: the most a group may set for itself.
    pub consumer_session_timeout_max: Duration,
    /// `group.consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval: Duration,
    /// `group.consumer.min.heartbeat.interval.ms`: the least a group may set for itself.
    pub consumer_heartbeat_interval_min: Duration,
    /// `group.consumer.max.heartbeat.interval.ms`: the most a group may set for itself.
    pub consumer_heartbeat_interval_max: Duration,
    /// `group.consumer.max.size`.
    pub consumer_members_max: usize,
    /// `group.consumer.migration.policy`.
    pub consumer_migration_policy: group::MigrationPolicy,
    /// Offsets of an empty group are kept this long (`offsets.retention.minutes`).
    pub offsets_retention: Duration,
    /// The longest metadata text of a committed offset in bytes (`offset.metadata.max.bytes`).
    pub offset_metadata_bytes_max: usize,
    /// How many transactional ids the node holds.
    pub transactional_ids_max: usize,
    /// The longest time-out a transaction may ask for (`transaction.max.timeout.ms`).
    pub transaction_timeout_max: Duration,
    /// A transactional id without transactions is forgotten after this long
    /// (`transactional.id.expiration.ms`).
    pub transactional_id_expiration: Duration,
    /// Fetch sessions kept (`max.incremental.fetch.session.cache.slots`).
    pub fetch_sessions_max: usize,
    /// The most bytes one fetch answers (`fetch.max.bytes` of the broker).
    pub fetch_bytes_max: usize,
    /// The most bytes that all open connections together should be answered at once; each may
    /// have its share of it ([`Broker::share_fetches`]).
    pub fetches_bytes_max: usize,
    /// What a fetch finds in one partition on the disk is read while it is being sent when it is at
    /// least so large.
    pub stretch_bytes_min: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node_id: 1,
            cluster_id: "wharf".to_owned(),
            log_directory: String::new(),
            auto_create_topics: true,
            default_partitions: 1,
            partitions_max: 200_000,
            topic_defaults: Vec::new(),
            group_initial_rebalance_delay: Duration::from_secs(3),
            group_session_timeout_min: Duration::from_secs(6),
            group_session_timeout_max: Duration::from_secs(30 * 60),
            group_members_max: 10_000,
            groups_max: 100_000,
            consumer_session_timeout: Duration::from_secs(45),
            consumer_session_timeout_min: Duration::from_secs(45),
            consumer_session_timeout_max: Duration::from_secs(60),
            consumer_heartbeat_interval: Duration::from_secs(5),
            consumer_heartbeat_interval_min: Duration::from_secs(5),
            consumer_heartbeat_interval_max: Duration::from_secs(15),
            consumer_members_max: 10_000,
            consumer_migration_policy: group::MigrationPolicy::Bidirectional,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            offset_metadata_bytes_max: 4096,
            transactional_ids_max: 100_000,
            transaction_timeout_max: Duration::from_secs(15 * 60),
            transactional_id_expiration: Duration::from_secs(7 * 24 * 60 * 60),
            fetch_sessions_max: 1000,
            fetch_bytes_max: 55 << 20,
            fetches_bytes_max: 512 << 20,
            stretch_bytes_min: 128 << 10,
        }
    }
}

/// The broker. Cheap to clone; every method may be called from any task.
#[derive(Clone, Debug)]
pub struct Broker {
    shared: Arc<Shared>,
}

/// What the parts of the broker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) appender: Appender,
    pub(crate) reader: Reader,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) topics: Arc<topics::Topics>,
    pub(crate) producers: producers::Producers,
    pub(crate) quotas: quotas::Quotas,
    pub(crate) fetch: fetch::Fetching,
    pub(crate) groups: group::Groups,
    pub(crate) transactions: transactions::Transactions,
    pub(crate) timers: ledger::Timers,
    pub(crate) schemas: OnceLock<Arc<dyn SchemaCheck>>,
    pub(crate) incarnation: Uuid,
}

/// Wakes waiting fetches when the log grows. Made before the log opens, given to both.
#[derive(Clone, Debug, Default)]
pub struct Wakeups {
    pub(crate) inner: Arc<fetch::Waiters>,
}

impl wharf_log::Observer for Wakeups {
    fn appended(&self, partitions: &[PartitionId]) {
        self.inner.appended(partitions);
    }
}

impl Broker {
    /// Builds the broker's views from the log's state. `wakeups` must be the observer the log was
    /// opened with.
    pub fn open(
        options: Options,
        appender: Appender,
        reader: Reader,
        wakeups: &Wakeups,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Self, Error> {
        let topics = Arc::new(topics::Topics::recover(&options, &reader)?);
        let producers = producers::Producers::recover(&reader)?;
        let quotas = quotas::Quotas::recover(&reader)?;
        let groups =
            group::Groups::recover(&options, &appender, &reader, &topics, runtime.clone())?;
        let transactions = transactions::Transactions::recover(
            &options,
            &appender,
            &reader,
            runtime.clone(),
            &groups,
        )?;
        let timers = ledger::Timers::recover(&reader)?;
        let fetch = fetch::Fetching::new(&options, wakeups);
        let incarnation = Uuid::from_bytes(runtime.random());
        let shared = Shared {
            options,
            appender,
            reader,
            runtime,
            topics,
            producers,
            quotas,
            fetch,
            groups,
            transactions,
            timers,
            schemas: OnceLock::new(),
            incarnation,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The broker's settings.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Another one each time a broker is opened: tells what belongs to this life of it from what an
    /// earlier one left behind.
    pub fn incarnation(&self) -> Uuid {
        self.shared.incarnation
    }

    /// What its clock says.
    pub fn now(&self) -> wharf_message::Timestamp {
        self.shared.runtime.now()
    }

    /// The log's reader, for metrics and health.
    pub fn reader(&self) -> &Reader {
        &self.shared.reader
    }
}

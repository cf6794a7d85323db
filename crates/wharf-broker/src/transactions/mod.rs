//! Transactions: the pure machine of a transactional id, its shell, and the broker's calls.
//!
//! One unit of the log ends a transaction: the markers in every partition, the offsets it
//! committed, and the id's new record, whole or not at all. So Kafka's states between
//! (`PrepareCommit`, `PrepareAbort`) never occur. Every unit that is a part of a transaction is
//! conditional on the producer's guard, which the end changes: nothing that comes late can open
//! the transaction again. KIP-98, KIP-360, KIP-447, KIP-588, KIP-664, KIP-890.

mod admin;
mod calls;
mod keys;
mod machine;
mod record;
mod shell;
mod watch;

pub use record::TransactionState;
pub(crate) use shell::{Participation, Transactions, Writer};

use std::sync::Arc;
use std::time::Duration;

use wharf_message::TopicName;

use crate::ProducerIdentity;

/// Who says what belongs to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The client adds partitions and groups before it writes to them, and keeps its epoch when
    /// the transaction ends (transaction version 1 and before).
    Explicit,
    /// Writing adds; each end raises the epoch (transaction version 2, KIP-890).
    Implicit,
}

/// A producer that acts for a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionalProducer {
    /// The transactional id.
    pub id: String,
    /// Who the client believes it is.
    pub producer: ProducerIdentity,
}

/// InitProducerId with a transactional id.
#[derive(Clone, Debug)]
pub struct InitTransactions {
    /// The transactional id.
    pub id: String,
    /// An open transaction is aborted after this long.
    pub timeout: Duration,
    /// Who the client is, when it goes on after an error (KIP-360).
    pub current: Option<ProducerIdentity>,
}

/// A transactional id described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDescription {
    /// The transactional id.
    pub id: String,
    /// The state.
    pub state: TransactionState,
    /// Who may act for it.
    pub producer: ProducerIdentity,
    /// The time-out.
    pub timeout: Duration,
    /// When the open transaction began, or the one that ended last, in milliseconds; `None` when
    /// the producer has begun none since it was initialised.
    pub started_at: Option<i64>,
    /// The partitions of the open transaction, in order.
    pub partitions: Vec<(TopicName, i32)>,
}

/// A transactional id in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTransaction {
    /// The transactional id.
    pub id: Arc<str>,
    /// The producer id.
    pub producer: i64,
    /// The state.
    pub state: TransactionState,
    /// How long the open transaction has lasted; `None` when none is open.
    pub age: Option<Duration>,
}

/// A marker to write into partitions, as an administrator asks for it (WriteTxnMarkers).
#[derive(Clone, Debug)]
pub struct WriteMarker {
    /// Whose transaction ends.
    pub producer: ProducerIdentity,
    /// Whether it is committed; aborted if not.
    pub commit: bool,
    /// Where: topic name and partition index.
    pub partitions: Vec<(String, i32)>,
}

/// How many transactions there are and were, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionCounts {
    /// Transactional ids known.
    pub ids: usize,
    /// Open transactions.
    pub ongoing: usize,
    /// Committed since the node started.
    pub committed: u64,
    /// Aborted since the node started, for whatever reason.
    pub aborted: u64,
    /// Of those, the ones that lived longer than their time-out.
    pub timed_out: u64,
}

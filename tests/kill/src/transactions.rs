//! What is known of transactions: what each one sent, which input it stands for, how it ended.

use std::collections::BTreeMap;

use crate::history::{Place, Stamp};

/// The producer and its number of the transaction.
pub(crate) type TransactionId = (usize, u64);

/// How many messages a transaction may have: their numbers are the low bits of a sequence.
const MESSAGES_BITS: u32 = 16;

/// The sequence of a transaction's message.
pub(crate) fn sequence(number: u64, index: usize) -> u64 {
    (number << MESSAGES_BITS) | u64::try_from(index).unwrap_or(0)
}

/// The transaction that a message belongs to.
pub(crate) fn transaction_of(stamp: Stamp) -> TransactionId {
    (stamp.producer, stamp.sequence >> MESSAGES_BITS)
}

/// How a transaction ended, as far as its client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nobody asked for its commit, nor will.
    #[default]
    Open,
    /// A commit was asked for and not answered: it happened or it did not.
    CommitAttempted,
    Committed,
    Aborted,
}

/// Input that a transaction stands for: offsets of a partition from one up to, not including, another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) place: Place,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// One transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) messages: Vec<(Place, Stamp)>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) ending: Ending,
}

/// All of them.
pub(crate) type Transactions = BTreeMap<TransactionId, Transaction>;

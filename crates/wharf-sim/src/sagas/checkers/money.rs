//! 6: money is neither made nor lost: what is in the accounts is what the transfers that completed
//! moved, and nothing else.

use std::collections::BTreeMap;

use wharf_saga::machine::Status;

use super::{Broken, broken};
use crate::sagas::definitions::{TRANSFER, Transfer};
use crate::sagas::participants::Participants;
use crate::sagas::watch::Watch;

pub(crate) const PROMISE: &str = "money is neither made nor lost";

/// Once all transfers are over.
pub(crate) fn settled(watch: &Watch, workers: &Participants) -> Result<(), Broken> {
    let mut expected = BTreeMap::new();
    for seen in watch.sagas.values() {
        let completed = seen.saga.status() == Status::Completed;
        let start = seen.saga.start().filter(|_| completed);
        let start = start.filter(|start| start.saga_type == TRANSFER);
        if let Some(transfer) = start.and_then(|start| Transfer::read(&start.input)) {
            *expected.entry(transfer.from).or_insert(0) -= transfer.amount;
            *expected.entry(transfer.to).or_insert(0) += transfer.amount;
        }
    }
    let held = workers.balances();
    let total: i64 = held.values().sum();
    for (account, balance) in held {
        let wanted = expected.get(account).copied().unwrap_or(0);
        if *balance != wanted {
            let detail = format!(
                "{account} changed by {balance} and should have by {wanted}; all by {total}"
            );
            return broken(PROMISE, detail);
        }
    }
    if total != 0 {
        return broken(PROMISE, format!("the accounts changed by {total} in all"));
    }
    Ok(())
}

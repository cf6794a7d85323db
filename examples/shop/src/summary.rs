//! The end of a run: the figures, and whether they add up.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::event;
use crate::tally::{Count, ServiceView, Tally};

/// Where checkouts go that the order service cannot read.
const DEAD_LETTERS: &str = "dlq.shop.checkouts.order";

/// One thing that must hold, with both sides of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What must hold, in words.
    pub claim: String,
    /// The left side.
    pub left: u64,
    /// The right side.
    pub right: u64,
}

impl Check {
    /// A claim with both sides of it.
    pub fn new(claim: &str, left: u64, right: u64) -> Self {
        Self {
            claim: claim.to_owned(),
            left,
            right,
        }
    }

    /// Whether it does.
    pub fn holds(&self) -> bool {
        self.left == self.right
    }
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The name of the run, which its orders' numbers begin with.
    pub run: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Checkouts sent, repeats and malformed ones included.
    pub checkouts: u64,
    /// Checkouts sent a second time.
    pub repeated: u64,
    /// Orders placed.
    pub placed: u64,
    /// Orders completed.
    pub completed: u64,
    /// Orders rejected.
    pub rejected: u64,
    /// Orders rejected because the stock was not there.
    pub out_of_stock: u64,
    /// Orders rejected because the card was declined.
    pub declined: u64,
    /// Attempts made again after one that failed, over all services.
    pub retried: u64,
    /// Repeats that changed nothing, over all services.
    pub suppressed: u64,
    /// Messages set aside as dead letters.
    pub set_aside: u64,
    /// Messages of an earlier run that were left alone.
    pub leftover: u64,
    /// Messages received, over all services.
    pub received: u64,
    /// What must hold.
    pub checks: Vec<Check>,
}

impl Summary {
    pub(crate) fn new(
        run: &str,
        tally: &Tally,
        services: &[ServiceView],
        outbox: &Outbox,
        written: impl Fn(&str) -> u64,
        elapsed: Duration,
    ) -> Self {
        let total = |figure: fn(&ServiceView) -> u64| services.iter().map(figure).sum::<u64>();
        let suppressed = total(|service| service.suppressed);
        let set_aside = total(|service| service.set_aside);
        let retried = total(|service| service.retried);
        let mut checks = intake(tally, suppressed, set_aside, retried);
        checks.extend(books(tally));
        checks.extend(outbox.checks(tally));
        checks.extend(evidence(tally, set_aside, written));
        Self {
            run: run.to_owned(),
            seconds: elapsed.as_secs_f64(),
            checkouts: tally.checkouts.get(),
            repeated: tally.checkouts_repeated.get(),
            placed: tally.placed.get(),
            completed: tally.completed.get(),
            rejected: tally.rejected.get(),
            out_of_stock: tally.unavailable.get(),
            declined: tally.declined.get(),
            retried,
            suppressed,
            set_aside,
            leftover: total(|service| service.leftover),
            received: total(|service| service.received),
            checks,
        }
    }

    /// Whether everything that must hold does.
    pub fn adds_up(&self) -> bool {
        self.checks.iter().all(Check::holds)
    }
}

/// What is in the outbox, and what of it is in the topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outbox {
    rows: u64,
    messages: u64,
    /// Rows that never became a message.
    unsent: u64,
    /// Messages beyond one for each row.
    excess: u64,
}

impl Outbox {
    /// Compares how often each event is in the outbox with how often it is in its topic.
    pub(crate) fn new(rows: &BTreeMap<String, u64>, messages: &BTreeMap<String, u64>) -> Self {
        let beyond = |these: &BTreeMap<String, u64>, those: &BTreeMap<String, u64>| {
            let those = |event| those.get(event).copied().unwrap_or(0);
            let each = these.iter();
            each.map(|(event, times)| times.saturating_sub(those(event)))
                .sum()
        };
        Self {
            rows: rows.values().sum(),
            messages: messages.values().sum(),
            unsent: beyond(rows, messages),
            excess: beyond(messages, rows),
        }
    }

    fn checks(&self, tally: &Tally) -> Vec<Check> {
        let count = |counts: &[&Count]| counts.iter().map(|count| count.get()).sum();
        let events = [
            &tally.placed,
            &tally.completed,
            &tally.rejected,
            &tally.captured,
            &tally.payments_repeated,
            &tally.declined,
        ];
        vec![
            Check::new(
                "rows in the outbox = what became of orders and payments",
                self.rows,
                count(&events),
            ),
            Check::new(
                "rows in the outbox = messages in their topics",
                self.rows,
                self.messages,
            ),
            Check::new("rows that were not relayed = none", self.unsent, 0),
            Check::new("messages without a row of their own = none", self.excess, 0),
        ]
    }
}

/// The services' books agree with each other.
fn books(tally: &Tally) -> Vec<Check> {
    let (completed, rejected) = (tally.completed.get(), tally.rejected.get());
    let (captured, declined) = (tally.captured.get(), tally.declined.get());
    vec![
        Check::new(
            "orders placed = completed + rejected",
            tally.placed.get(),
            completed + rejected,
        ),
        Check::new(
            "rejected = out of stock + card declined",
            rejected,
            tally.unavailable.get() + declined,
        ),
        Check::new(
            "stock reserved = payments captured + declined",
            tally.reserved.get(),
            captured + declined,
        ),
        Check::new(
            "stock released = cards declined",
            tally.released.get(),
            declined,
        ),
        Check::new(
            "payments captured = parcels shipped",
            captured,
            tally.shipped.get(),
        ),
        Check::new(
            "parcels shipped = orders completed",
            tally.shipped.get(),
            completed,
        ),
        Check::new(
            "customers notified = completed + rejected",
            tally.notified.get(),
            completed + rejected,
        ),
    ]
}

/// What was sent in, sent twice or failed at first is accounted for.
fn intake(tally: &Tally, suppressed: u64, set_aside: u64, retried: u64) -> Vec<Check> {
    let repeated = tally.checkouts_repeated.get();
    vec![
        Check::new(
            "checkouts sent = orders placed + repeats + set aside",
            tally.checkouts.get(),
            tally.placed.get() + repeated + set_aside,
        ),
        // Only shipping handles captured payments; the other readers of the topic pass them over.
        Check::new(
            "repeats sent = repeats suppressed",
            repeated + tally.payments_repeated.get(),
            suppressed,
        ),
        Check::new(
            "malformed sent = set aside",
            tally.checkouts_malformed.get(),
            set_aside,
        ),
        Check::new(
            "failures of the payment gateway = attempts made again",
            tally.gateway_failures.get(),
            retried,
        ),
    ]
}

/// The broker's own offsets say the same.
fn evidence(tally: &Tally, set_aside: u64, written: impl Fn(&str) -> u64) -> Vec<Check> {
    let ended = tally.completed.get() + tally.rejected.get();
    vec![
        Check::new(
            "records in shop.checkouts = checkouts sent",
            written(event::CHECKOUTS),
            tally.checkouts.get(),
        ),
        Check::new(
            "records in shop.orders = orders placed",
            written(event::ORDERS),
            tally.placed.get(),
        ),
        Check::new(
            "records in shop.outcomes = completed + rejected",
            written(event::OUTCOMES),
            ended,
        ),
        Check::new(
            "records in the dead-letter topic = set aside",
            written(DEAD_LETTERS),
            set_aside,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_row_and_a_message_that_came_twice_do_not_make_up_for_each_other() {
        let counts = |events: &[(&str, u64)]| {
            let events = events.iter();
            events.map(|&(id, times)| (id.to_owned(), times)).collect()
        };
        let rows = counts(&[("a", 1), ("b", 2), ("c", 1)]);
        let outbox = Outbox::new(&rows, &counts(&[("a", 1), ("b", 3), ("d", 1)]));
        assert_eq!((outbox.rows, outbox.messages), (4, 5));
        assert_eq!((outbox.unsent, outbox.excess), (1, 2));
        let same = Outbox::new(&rows, &rows);
        assert_eq!((same.unsent, same.excess), (0, 0));
    }
}

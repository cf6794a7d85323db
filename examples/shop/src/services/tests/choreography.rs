//! What the services really send, judged by the shop's own contract.

use wharf::Message;
use wharf_message::Timestamp;
use wharf_message::ledger::Record;
use wharf_saga::choreography::verdict::{Kind, Limits};
use wharf_saga::choreography::{Contract, Monitor, Observed};

use super::{Opened, RUN};
use crate::CHOREOGRAPHY;
use crate::storefront::{self, Dice, submission};

/// Long after everything has happened.
const LATER: Timestamp = Timestamp::from_millis(1 << 50);

fn monitor() -> Monitor {
    Monitor::new(Contract::parse(CHOREOGRAPHY).unwrap(), Limits::default())
}

fn record(message: &Message) -> Record {
    let header = |(name, value): (&str, Option<&[u8]>)| {
        let value = value.map(|value| value.to_vec().into());
        (name.to_owned().into(), value)
    };
    Record {
        timestamp: message.timestamp.unwrap(),
        key: message.key.clone(),
        value: message.payload.clone(),
        headers: message.headers.iter().map(header).collect(),
    }
}

/// Shows the monitor all messages of its topics; what it did not take.
fn watch(monitor: &mut Monitor, shop: &Opened) -> Vec<Record> {
    let topics: Vec<String> = monitor
        .contract()
        .topics()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut left = Vec::new();
    for topic in topics {
        for (offset, message) in (0..).zip(shop.transport.messages(&topic)) {
            let record = record(&message);
            let seen = Observed {
                topic: &topic,
                partition: 0,
                offset,
                record: &record,
            };
            if !monitor.observe(&seen) {
                left.push(record);
            }
        }
    }
    left
}

#[tokio::test]
async fn every_checkout_begins_an_instance() {
    let shop = Opened::new().await;
    let storefront = shop.bus("storefront");
    let first = submission(&mut Dice::new(42), RUN, 0);
    storefront::submit(&storefront, first).await.unwrap();
    let mut monitor = monitor();
    let left = watch(&mut monitor, &shop);
    assert!(left.is_empty(), "{left:#?}");
    shop.idle().await;
    shop.close().await;
}

#[tokio::test]
async fn every_order_keeps_the_contract() {
    let shop = Opened::new().await;
    shop.sells(42, 600).await;
    let mut monitor = monitor();
    let left = watch(&mut monitor, &shop);
    assert!(left.is_empty(), "{left:#?}");
    monitor.tick(LATER);
    let (tally, counts) = (&shop.tally, monitor.counts().clone());
    let set_aside = shop.total(|service| service.set_aside);
    let reached = |kind: Kind| counts.reached.get(&kind).copied().unwrap_or(0);
    assert_eq!(reached(Kind::Completed), tally.completed.get());
    let compensated = tally.rejected.get() + set_aside;
    assert_eq!(reached(Kind::Compensated), compensated);
    assert!(set_aside > 0 && tally.declined.get() > 0);
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_bad()) {
        let ill = monitor.instances(Some(kind), 3);
        assert_eq!(reached(kind), 0, "{ill:#?}");
    }
    // A second click, and a payment that is reported twice, are the same message again.
    let repeats = tally.checkouts_repeated.get() + tally.payments_repeated.get();
    assert_eq!(monitor.dropped().redelivered, repeats);
    assert!(repeats > 0);
    shop.close().await;
}

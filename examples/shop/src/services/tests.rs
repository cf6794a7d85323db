//! The five services without a broker: messages are passed by hand, and the numbers add up.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Inventory, Notification, OrderDesk, Payment, Shipping};
use crate::event::{CHECKOUTS, Delivery, Outgoing, kind};
use crate::inbox::Inbox;
use crate::service::Service;
use crate::storefront::{Dice, Submission, submission};
use crate::tally::Tally;

struct ByHand {
    services: Vec<(Box<dyn Service>, Inbox)>,
    waiting: VecDeque<Delivery>,
    suppressed: u64,
    set_aside: u64,
}

fn delivery(id: &str, event: &Outgoing) -> Delivery {
    Delivery {
        topic: event.topic.to_owned(),
        partition: 0,
        offset: 0,
        key: None,
        payload: event.payload.clone(),
        id: id.to_owned(),
        kind: event.kind.to_owned(),
        run: String::new(),
        correlation: event.order.clone(),
        sent_millis: 0,
    }
}

impl ByHand {
    fn new(tally: &Arc<Tally>) -> Self {
        let tally = || Arc::clone(tally);
        let services: [Box<dyn Service>; 5] = [
            Box::new(OrderDesk::new(tally())),
            Box::new(Inventory::new(tally())),
            Box::new(Payment::new(tally())),
            Box::new(Shipping::new(tally())),
            Box::new(Notification::new(tally())),
        ];
        let services = services
            .into_iter()
            .map(|service| (service, Inbox::default()))
            .collect();
        Self {
            services,
            waiting: VecDeque::new(),
            suppressed: 0,
            set_aside: 0,
        }
    }

    fn run_dry(&mut self) {
        while let Some(message) = self.waiting.pop_front() {
            for (service, inbox) in &mut self.services {
                if !service.topics().contains(&message.topic.as_str()) {
                    continue;
                }
                if !inbox.first_sight(&message.id) {
                    self.suppressed += 1;
                    continue;
                }
                let Ok(events) = service.handle(&message) else {
                    self.set_aside += 1;
                    continue;
                };
                for event in events {
                    let id = event.id(service.name(), &message.id);
                    self.waiting
                        .extend((0..event.times).map(|_| delivery(&id, &event)));
                }
            }
        }
    }
}

#[test]
fn every_order_ends_and_every_repeat_is_suppressed() {
    let tally = Arc::new(Tally::default());
    let mut shop = ByHand::new(&tally);
    let mut dice = Dice::new(42);
    let (mut baskets, mut repeats, mut rubbish) = (0, 0, 0);
    for number in 0..5_000 {
        let (payload, order, times) = match submission(&mut dice, "run", number) {
            Submission::Basket { checkout, times } => {
                baskets += 1;
                (
                    serde_json::to_vec(&checkout).expect("plain struct"),
                    checkout.order,
                    times,
                )
            }
            Submission::Rubbish { order, payload } => {
                rubbish += 1;
                (payload, order, 1)
            }
        };
        repeats += u64::from(times) - 1;
        let event = Outgoing {
            topic: CHECKOUTS,
            kind: kind::CHECKOUT,
            order,
            payload,
            times,
        };
        let id = format!("checkout-{number}");
        shop.waiting
            .extend((0..times).map(|_| delivery(&id, &event)));
        shop.run_dry();
    }
    assert_eq!(tally.placed.get(), baskets);
    assert_eq!(shop.set_aside, rubbish);
    assert_eq!(
        tally.placed.get(),
        tally.completed.get() + tally.rejected.get()
    );
    assert_eq!(
        tally.rejected.get(),
        tally.unavailable.get() + tally.declined.get()
    );
    assert_eq!(tally.shipped.get(), tally.completed.get());
    assert_eq!(tally.notified.get(), baskets);
    assert_eq!(shop.suppressed, repeats + 3 * tally.payments_repeated.get());
    assert!(
        tally.unavailable.get() > 0 && tally.declined.get() > 0,
        "both kinds of rejection occur"
    );
    assert!(
        tally.payments_repeated.get() > 0 && repeats > 0 && rubbish > 0,
        "nothing is missing"
    );
}

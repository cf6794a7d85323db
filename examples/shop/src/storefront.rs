//! The storefront: customers who fill baskets, click twice, and sometimes send rubbish.
//!
//! Everything about the stream follows from the seed, so two runs sell the same things.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use wharf::{Bus, BusError, Event, Message, TopicName, header};

use crate::event::{CHECKOUTS, Checkout, Line};
use crate::services::DECLINED_CARD;
use crate::tally::Tally;

/// One checkout in so many is sent twice.
const REPEAT_ONE_IN: u64 = 50;
/// One checkout in so many cannot be read.
const MALFORMED_ONE_IN: u64 = 150;
/// One card in so many is declined.
const DECLINED_ONE_IN: u64 = 20;
/// Customers come back: there are only so many.
const CUSTOMERS: u64 = 400;
/// Checkouts that may wait for their acknowledgement.
const IN_FLIGHT_MAX: usize = 5_000;

const ARTICLES: [(&str, u64); 12] = [
    ("anchor-chain", 8_900),
    ("brass-lantern", 4_250),
    ("canvas-bag", 2_900),
    ("deck-shoes", 7_400),
    ("enamel-mug", 1_200),
    ("fog-horn", 3_650),
    ("hemp-rope", 1_850),
    ("oilskin", 12_900),
    ("pilot-chart", 2_100),
    ("sextant", 34_900),
    ("signal-flags", 5_600),
    ("tar-soap", 650),
];

/// A small seeded generator (splitmix64); the shop needs variety, not secrets.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// One thing a customer sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Submission {
    /// A basket, sent once or twice.
    Basket { checkout: Checkout, times: u8 },
    /// Bytes that are no basket.
    Rubbish { order: String, payload: Vec<u8> },
}

/// The next thing a customer sends.
pub(crate) fn submission(dice: &mut Dice, run: &str, number: u64) -> Submission {
    let order = format!("{run}-{number:06}");
    if dice.one_in(MALFORMED_ONE_IN) {
        let payloads: [&[u8]; 3] = [
            b"{\"order\": ",
            b"<checkout/>",
            b"{\"customer\":\"nobody\"}",
        ];
        let choice = usize::try_from(dice.below(3)).unwrap_or(0);
        return Submission::Rubbish {
            order,
            payload: payloads[choice].to_vec(),
        };
    }
    let card = if dice.one_in(DECLINED_ONE_IN) {
        DECLINED_CARD.to_owned()
    } else {
        format!("{:04}", 1_000 + dice.below(9_000))
    };
    let lines = (0..=dice.below(3)).map(|_| line(dice)).collect();
    let customer = format!("customer-{:03}", dice.below(CUSTOMERS));
    let times = if dice.one_in(REPEAT_ONE_IN) { 2 } else { 1 };
    Submission::Basket {
        checkout: Checkout {
            order,
            customer,
            card,
            lines,
        },
        times,
    }
}

fn line(dice: &mut Dice) -> Line {
    // The lower of two throws: some articles sell better than others.
    let count = u64::try_from(ARTICLES.len()).unwrap_or(1);
    let choice = dice.below(count).min(dice.below(count));
    let (sku, price_cents) = ARTICLES[usize::try_from(choice).unwrap_or(0)];
    let quantity = 1 + u32::try_from(dice.below(3)).unwrap_or(0);
    Line {
        sku: sku.to_owned(),
        quantity,
        price_cents,
    }
}

/// What the storefront shall do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) checkouts: Option<u64>,
    pub(crate) per_second: u64,
    pub(crate) seed: u64,
    /// So many may be sent by now.
    pub(crate) allowed: watch::Receiver<u64>,
}

/// Sends checkouts until the plan is done or `stop` turns true; returns when all of them are
/// acknowledged.
pub(crate) async fn run(
    plan: Plan,
    bus: Bus,
    run: String,
    tally: Arc<Tally>,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut dice = Dice::new(plan.seed);
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = Instant::now();
    let mut sent = 0;
    let mut in_flight = FuturesUnordered::new();
    while plan.checkouts.is_none_or(|limit| sent < limit) {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        let due = u64::try_from(start.elapsed().as_millis()).unwrap_or(0) * plan.per_second / 1000;
        let due = plan.checkouts.map_or(due, |limit| due.min(limit));
        let due = due.min(*plan.allowed.borrow());
        while sent < due {
            sent += 1;
            let submission = submission(&mut dice, &run, sent);
            count(&tally, &submission);
            in_flight.push(submit(&bus, submission));
            while in_flight.len() > IN_FLIGHT_MAX {
                in_flight.next().await.unwrap_or(Ok(()))?;
            }
        }
        // Polls the sends, so that they leave.
        while let Some(Some(done)) = in_flight.next().now_or_never() {
            done?;
        }
    }
    while let Some(done) = in_flight.next().await {
        done?;
    }
    Ok(())
}

pub(crate) fn count(tally: &Tally, submission: &Submission) {
    match submission {
        Submission::Basket { times, .. } => {
            tally.checkouts.add(u64::from(*times));
            tally.checkouts_repeated.add(u64::from(*times) - 1);
        }
        Submission::Rubbish { .. } => {
            tally.checkouts.add(1);
            tally.checkouts_malformed.add(1);
        }
    }
}

/// Sends it; done when the broker has acknowledged it. A checkout's id is its order's number, so a
/// second click is the same event.
pub(crate) async fn submit(bus: &Bus, submission: Submission) -> Result<(), BusError> {
    match submission {
        Submission::Basket { checkout, times } => {
            for _ in 0..times {
                bus.publish(&checkout).await?;
            }
            Ok(())
        }
        Submission::Rubbish { order, payload } => {
            let message = Message::new(payload)
                .with_key(order)
                .with_header(header::CE_TYPE, Checkout::TYPE);
            let topic = TopicName::new(CHECKOUTS).expect("the name is valid");
            bus.send(topic, message).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_customers_and_everything_that_real_life_brings() {
        let stream = |seed| {
            let mut dice = Dice::new(seed);
            (0..3_000)
                .map(|number| submission(&mut dice, "run", number))
                .collect::<Vec<_>>()
        };
        let first = stream(7);
        assert_eq!(first, stream(7));
        assert_ne!(first, stream(8));
        let count =
            |wanted: fn(&Submission) -> bool| first.iter().filter(|one| wanted(one)).count();
        assert!(count(|one| matches!(one, Submission::Rubbish { .. })) > 0);
        assert!(count(|one| matches!(one, Submission::Basket { times: 2, .. })) > 0);
        assert!(
            count(
                |one| matches!(one, Submission::Basket { checkout, .. } if checkout.card == DECLINED_CARD)
            ) > 0
        );
    }
}

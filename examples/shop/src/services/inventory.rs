//! The inventory service: reserves stock for orders, and gives it back when the money fails.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wharf::{Msg, Publish, Router, State, Unknown, group};

use super::{Kit, Service, TOGETHER};
use crate::event::{
    Line, ORDERS, OrderPlaced, PAYMENTS, PaymentDeclined, StockReleased, StockReserved,
    StockUnavailable,
};
use crate::tally::Tally;

/// Pieces a delivery from the supplier brings.
const SUPPLY: u32 = 400;
/// Orders turned away at an empty shelf before the supplier comes.
const SUPPLIER_AFTER: u32 = 15;

pub(super) const SERVICE: Service = Service {
    name: "inventory",
    topics: &[ORDERS, PAYMENTS],
    router,
};

#[derive(Debug)]
struct Shelf {
    pieces: u32,
    turned_away: u32,
}

/// Shelves by article.
#[derive(Debug, Default)]
struct Shelves(BTreeMap<String, Shelf>);

impl Shelves {
    fn of(&mut self, sku: &str) -> &mut Shelf {
        self.0.entry(sku.to_owned()).or_insert(Shelf {
            pieces: SUPPLY,
            turned_away: 0,
        })
    }

    /// All lines or none. An article may be on several lines.
    fn reserve(&mut self, lines: &[Line]) -> Result<(), String> {
        let mut wanted: BTreeMap<&str, u32> = BTreeMap::new();
        for line in lines {
            let pieces = wanted.entry(&line.sku).or_default();
            *pieces = pieces.saturating_add(line.quantity);
        }
        for (&sku, &pieces) in &wanted {
            let shelf = self.of(sku);
            if shelf.pieces < pieces {
                shelf.turned_away += 1;
                if shelf.turned_away >= SUPPLIER_AFTER {
                    *shelf = Shelf {
                        pieces: shelf.pieces + SUPPLY,
                        turned_away: 0,
                    };
                }
                return Err(format!("{sku} is out of stock"));
            }
        }
        for (sku, pieces) in wanted {
            self.of(sku).pieces -= pieces;
        }
        Ok(())
    }

    fn release(&mut self, lines: &[Line]) {
        for line in lines {
            self.of(&line.sku).pieces += line.quantity;
        }
    }
}

#[derive(Clone, Debug)]
struct Warehouse {
    shelves: Arc<Mutex<Shelves>>,
    tally: Arc<Tally>,
}

impl Warehouse {
    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn router(Kit { tally, intake, .. }: Kit) -> Router {
    let route = group(SERVICE.name)
        .on(reserve)
        .on(release)
        .unknown(Unknown::Skip)
        .concurrency(TOGETHER)
        .layer(intake.with_memory());
    let shelves = Arc::default();
    Router::new()
        .topics(SERVICE.topics.iter().copied(), route)
        .with_state(Warehouse { shelves, tally })
}

/// One of the two is published.
type Answer = (
    Option<Publish<StockReserved>>,
    Option<Publish<StockUnavailable>>,
);

async fn reserve(
    State(warehouse): State<Warehouse>,
    Msg(OrderPlaced { order }): Msg<OrderPlaced>,
) -> Answer {
    let reserved = warehouse.shelves().reserve(&order.lines);
    match reserved {
        Ok(()) => {
            warehouse.tally.reserved.add(1);
            (Some(Publish(StockReserved { order })), None)
        }
        Err(reason) => {
            warehouse.tally.unavailable.add(1);
            (None, Some(Publish(StockUnavailable { order, reason })))
        }
    }
}

async fn release(
    State(warehouse): State<Warehouse>,
    Msg(PaymentDeclined { order, .. }): Msg<PaymentDeclined>,
) -> Publish<StockReleased> {
    warehouse.shelves().release(&order.lines);
    warehouse.tally.released.add(1);
    Publish(StockReleased { order })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sku: &str, quantity: u32) -> Line {
        Line {
            sku: sku.to_owned(),
            quantity,
            price_cents: 100,
        }
    }

    #[test]
    fn an_order_gets_all_its_lines_or_none() {
        let mut shelves = Shelves::default();
        let all_but_one = [line("rope", SUPPLY - 1)];
        assert_eq!(shelves.reserve(&all_but_one), Ok(()));
        let (one, two) = (
            [line("rope", 1)],
            [line("mug", 5), line("rope", 1), line("rope", 1)],
        );
        assert_eq!(
            shelves.reserve(&two),
            Err("rope is out of stock".to_owned())
        );
        assert_eq!(shelves.of("mug").pieces, SUPPLY, "nothing was taken");
        assert_eq!(shelves.reserve(&one), Ok(()));
        shelves.release(&one);
        assert_eq!(shelves.reserve(&one), Ok(()));
    }

    #[test]
    fn an_empty_shelf_is_filled_after_enough_have_asked() {
        let mut shelves = Shelves::default();
        assert_eq!(shelves.reserve(&[line("rope", SUPPLY)]), Ok(()));
        for _ in 0..SUPPLIER_AFTER {
            assert!(shelves.reserve(&[line("rope", 1)]).is_err());
        }
        assert_eq!(shelves.reserve(&[line("rope", SUPPLY)]), Ok(()));
    }
}

//! The inventory service: reserves stock for orders, and gives it back when the money fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::{Delivery, Line, ORDERS, Order, Outgoing, PAYMENTS, Refusal, STOCK, kind};
use crate::service::{Malformed, Service};
use crate::tally::Tally;

/// Pieces a delivery from the supplier brings.
const SUPPLY: u32 = 400;
/// Orders turned away at an empty shelf before the supplier comes.
const SUPPLIER_AFTER: u32 = 15;

#[derive(Debug)]
struct Shelf {
    pieces: u32,
    turned_away: u32,
}

/// Shelves by article.
#[derive(Debug)]
pub(crate) struct Inventory {
    shelves: BTreeMap<String, Shelf>,
    tally: Arc<Tally>,
}

impl Inventory {
    pub(crate) fn new(tally: Arc<Tally>) -> Self {
        Self {
            shelves: BTreeMap::new(),
            tally,
        }
    }

    fn shelf(&mut self, sku: &str) -> &mut Shelf {
        self.shelves.entry(sku.to_owned()).or_insert(Shelf {
            pieces: SUPPLY,
            turned_away: 0,
        })
    }

    /// All lines or none. An article may be on several lines.
    fn reserve(&mut self, lines: &[Line]) -> Result<(), String> {
        let mut wanted: BTreeMap<&str, u32> = BTreeMap::new();
        for line in lines {
            *wanted.entry(&line.sku).or_default() += line.quantity;
        }
        for (&sku, &pieces) in &wanted {
            let shelf = self.shelf(sku);
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
            self.shelf(sku).pieces -= pieces;
        }
        Ok(())
    }

    fn place(&mut self, order: Order) -> Outgoing {
        match self.reserve(&order.lines) {
            Ok(()) => {
                self.tally.reserved.add(1);
                Outgoing::new(STOCK, kind::RESERVED, &order.order, &order)
            }
            Err(reason) => {
                self.tally.unavailable.add(1);
                let id = order.order.clone();
                Outgoing::new(STOCK, kind::UNAVAILABLE, &id, &Refusal { order, reason })
            }
        }
    }

    fn release(&mut self, order: &Order) -> Outgoing {
        for line in &order.lines {
            self.shelf(&line.sku).pieces += line.quantity;
        }
        self.tally.released.add(1);
        Outgoing::new(STOCK, kind::RELEASED, &order.order, order)
    }
}

impl Service for Inventory {
    fn name(&self) -> &'static str {
        "inventory"
    }

    fn topics(&self) -> &'static [&'static str] {
        &[ORDERS, PAYMENTS]
    }

    fn handle(&mut self, delivery: &Delivery) -> Result<Vec<Outgoing>, Malformed> {
        match delivery.kind.as_str() {
            kind::PLACED => Ok(vec![self.place(delivery.read().map_err(Malformed)?)]),
            kind::DECLINED => {
                let refusal: Refusal = delivery.read().map_err(Malformed)?;
                Ok(vec![self.release(&refusal.order)])
            }
            _ => Ok(Vec::new()),
        }
    }
}

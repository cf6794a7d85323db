//! The services of the orchestrated shop. Each handler does one step, or undoes one, in the transaction
//! that has the command's row in the inbox: a repeat has no second effect, and what fails leaves nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use sqlx::Pool;
use wharf::saga::{Done, Start, Task, UndoTask};
use wharf::{Failure, Msg, Router, SqlInbox, State, Tx, group, outbox};

use super::definition::{CHARGE, NAME, REFUND, RELEASE, RESERVE, SHIP, TELL};
use crate::database::{Sql, Value};
use crate::event::{CHECKOUTS, Checkout, Order};
use crate::intake::Intake;
use crate::services::{DECLINED_CARD, TOGETHER, accepted};

/// Pieces that a delivery from the supplier brings.
pub(super) const SUPPLY: u64 = 400;
/// One call of the payment gateway in so many fails.
const FAILS_ONE_IN: u64 = 60;
/// The accounts of cards that end in this are closed by the time of a refund.
const CLOSED: char = '8';
/// What the carrier does not take, from so many pieces on.
const HEAVY: (&str, u32) = ("anchor-chain", 3);

pub(super) const TABLES: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS saga_orders (number TEXT PRIMARY KEY, total_cents BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS saga_shelves (
        sku TEXT PRIMARY KEY, pieces BIGINT NOT NULL CHECK (pieces >= 0), supplied BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS saga_reservations (
        order_number TEXT NOT NULL, sku TEXT NOT NULL, pieces BIGINT NOT NULL,
        PRIMARY KEY (order_number, sku))",
    "CREATE TABLE IF NOT EXISTS saga_payments (
        order_number TEXT PRIMARY KEY, total_cents BIGINT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('captured', 'refunded')))",
    "CREATE TABLE IF NOT EXISTS saga_parcels (
        order_number TEXT PRIMARY KEY, told BIGINT NOT NULL DEFAULT 0)",
];

/// What a service refuses, by name: nothing was done.
#[derive(Debug, thiserror::Error, Failure)]
pub(super) enum Refusal {
    #[error("{0} is out of stock")]
    #[failure(declared)]
    OutOfStock(String),
    #[error("the bank declines the card of {0}")]
    #[failure(declared)]
    CardDeclined(String),
    #[error("the parcel of {0} is too heavy for the carrier")]
    #[failure(declared)]
    TooHeavy(String),
    #[error("the account behind the card of {0} is closed; nothing can be paid back to it")]
    #[failure(declared)]
    AccountClosed(String),
    #[error("the payment gateway does not answer")]
    #[failure(retry)]
    Unreachable,
    #[error("the database")]
    #[failure(retry)]
    Database(#[from] sqlx::Error),
}

/// What an undo is told.
#[derive(Debug, Deserialize)]
struct Undone {
    order: String,
    total_cents: u64,
    card: String,
}

/// The payment provider, as far as the shop knows it.
#[derive(Clone, Debug, Default)]
struct Gateway(Arc<AtomicU64>);

impl Gateway {
    fn call(&self) -> Result<(), Refusal> {
        let call = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        match call.is_multiple_of(FAILS_ONE_IN) {
            true => Err(Refusal::Unreachable),
            false => Ok(()),
        }
    }
}

/// Whether a refund to this card is refused.
pub(super) fn is_closed(card: &str) -> bool {
    card.ends_with(CLOSED)
}

/// Whether the carrier takes this basket.
pub(super) fn is_too_heavy(order: &Order) -> bool {
    let (sku, pieces) = HEAVY;
    order
        .lines
        .iter()
        .any(|line| line.sku == sku && line.quantity >= pieces)
}

/// All of them; `orders` counts what the order service takes in.
pub(super) fn router<D: Sql>(pool: &Pool<D>, orders: Intake) -> Router {
    let inbox = |service| SqlInbox::new(pool.clone(), service);
    let order = group("order")
        .on(place::<D>)
        .concurrency(TOGETHER)
        .layer(Intake::behind_inbox())
        .inbox(inbox("order"))
        .layer(orders);
    // One inbox for a step and its undo, so that an undo which comes first bars the step.
    let worker = |service| group(service).concurrency(TOGETHER).inbox(inbox(service));
    Router::new()
        .topic(CHECKOUTS, order)
        .topic(RESERVE, worker("stock").on(reserve::<D>))
        .topic(RELEASE, worker("stock").on(release::<D>))
        .topic(CHARGE, worker("bank").on(charge::<D>))
        .topic(REFUND, worker("bank").on(refund::<D>))
        .topic(SHIP, worker("carrier").on(ship::<D>))
        .topic(TELL, worker("carrier").on(tell::<D>))
        .with_state(Gateway::default())
}

/// The order's row and the start of its saga, or neither.
async fn place<D: Sql>(mut tx: Tx<D>, Msg(checkout): Msg<Checkout>) -> Result<(), wharf::Error> {
    let order = accepted(checkout)?;
    let sql = "INSERT INTO saga_orders (number, total_cents) VALUES ($1, $2)";
    let row = [Value::Text(&order.number), Value::Number(order.total_cents)];
    D::change(&mut tx, sql, &row).await?;
    let start = Start::of(NAME, &order).key(&order.number);
    outbox::emit(&mut tx, start.attribute("customer", &order.customer)).await?;
    Ok(())
}

/// What is reserved, by article: one may be on several lines.
#[derive(Debug, Serialize)]
struct Reserved {
    pieces: u64,
}

async fn reserve<D: Sql>(mut tx: Tx<D>, task: Task<Order>) -> Result<Done<Reserved>, Refusal> {
    let mut pieces = 0;
    let mut lines = task.lines.clone();
    // In the same order everywhere, so that nobody waits for each other.
    lines.sort_by(|one, other| one.sku.cmp(&other.sku));
    for line in &lines {
        let (sku, quantity) = (Value::Text(&line.sku), Value::Number(line.quantity.into()));
        let sql = "INSERT INTO saga_shelves (sku, pieces, supplied) VALUES ($1, $2, $2)
            ON CONFLICT (sku) DO NOTHING";
        D::change(&mut tx, sql, &[sku, Value::Number(SUPPLY)]).await?;
        let sql = "UPDATE saga_shelves SET pieces = pieces - $2 WHERE sku = $1 AND pieces >= $2";
        if D::change(&mut tx, sql, &[sku, quantity]).await? == 0 {
            return Err(Refusal::OutOfStock(line.sku.clone()));
        }
        let sql = "INSERT INTO saga_reservations (order_number, sku, pieces) VALUES ($3, $1, $2)
            ON CONFLICT (order_number, sku)
            DO UPDATE SET pieces = saga_reservations.pieces + excluded.pieces";
        D::change(&mut tx, sql, &[sku, quantity, Value::Text(&task.number)]).await?;
        pieces += u64::from(line.quantity);
    }
    Ok(Done(Reserved { pieces }))
}

async fn release<D: Sql>(mut tx: Tx<D>, UndoTask(task): UndoTask<Undone>) -> Result<(), Refusal> {
    let order = [Value::Text(&task.order)];
    let sql = "UPDATE saga_shelves SET pieces = pieces + (
            SELECT reserved.pieces FROM saga_reservations AS reserved
            WHERE reserved.order_number = $1 AND reserved.sku = saga_shelves.sku)
        WHERE sku IN (SELECT sku FROM saga_reservations WHERE order_number = $1)";
    D::change(&mut tx, sql, &order).await?;
    let sql = "DELETE FROM saga_reservations WHERE order_number = $1";
    D::change(&mut tx, sql, &order).await?;
    Ok(())
}

/// What the bank says of a payment, for the refund.
#[derive(Debug, Serialize)]
struct Receipt {
    cents: u64,
}

async fn charge<D: Sql>(
    State(gateway): State<Gateway>,
    mut tx: Tx<D>,
    task: Task<Order>,
) -> Result<Done<Receipt>, Refusal> {
    gateway.call()?;
    if task.card.ends_with(DECLINED_CARD) {
        return Err(Refusal::CardDeclined(task.number.clone()));
    }
    let sql =
        "INSERT INTO saga_payments (order_number, total_cents, state) VALUES ($1, $2, 'captured')";
    let row = [Value::Text(&task.number), Value::Number(task.total_cents)];
    D::change(&mut tx, sql, &row).await?;
    let cents = task.total_cents;
    Ok(Done(Receipt { cents }))
}

async fn refund<D: Sql>(mut tx: Tx<D>, UndoTask(task): UndoTask<Undone>) -> Result<(), Refusal> {
    if is_closed(&task.card) {
        return Err(Refusal::AccountClosed(task.order.clone()));
    }
    let sql =
        "UPDATE saga_payments SET state = 'refunded' WHERE order_number = $1 AND total_cents = $2";
    let payment = [Value::Text(&task.order), Value::Number(task.total_cents)];
    D::change(&mut tx, sql, &payment).await?;
    Ok(())
}

/// The parcel that the carrier fetches.
async fn ship<D: Sql>(mut tx: Tx<D>, task: Task<Order>) -> Result<Done<String>, Refusal> {
    if is_too_heavy(&task) {
        return Err(Refusal::TooHeavy(task.number.clone()));
    }
    let sql = "INSERT INTO saga_parcels (order_number) VALUES ($1)";
    D::change(&mut tx, sql, &[Value::Text(&task.number)]).await?;
    Ok(Done(format!("parcel-{}", task.number)))
}

async fn tell<D: Sql>(mut tx: Tx<D>, task: Task<Order>) -> Result<(), Refusal> {
    let sql = "UPDATE saga_parcels SET told = told + 1 WHERE order_number = $1";
    D::change(&mut tx, sql, &[Value::Text(&task.number)]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storefront::{Dice, Submission, submission};

    /// `wharf demo --style orchestration` shows a declined card and a parked refund, even when it is short.
    #[test]
    fn the_first_customers_of_the_usual_seed_bring_all_that_can_happen() {
        let mut dice = Dice::new(1);
        let (mut declined, mut parked) = (0, 0);
        for number in 0..200 {
            if let Submission::Basket { checkout, .. } = submission(&mut dice, "run", number) {
                declined += usize::from(checkout.card.ends_with(DECLINED_CARD));
                let order = accepted(checkout).unwrap();
                parked += usize::from(is_too_heavy(&order) && is_closed(&order.card));
            }
        }
        assert!(
            declined > 0 && parked > 0,
            "{declined} declined, {parked} parked"
        );
    }
}

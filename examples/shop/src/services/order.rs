//! The order service: accepts checkouts, follows every order to its end, and says how it ended.
//!
//! Its orders are rows, and what it publishes is written beside them, in the outbox: both in the
//! transaction that has the message's row in the inbox. A repeat does not get here, and an event is
//! sent exactly when its order is kept.

use sqlx::Pool;
use wharf::{Msg, Router, SqlInbox, Tx, Unknown, group, outbox};

use super::{Kit, Service, TOGETHER};
use crate::database::{Database, Sql, Value};
use crate::event::{
    CHECKOUTS, Checkout, Line, Order, OrderCompleted, OrderPlaced, OrderRejected, PAYMENTS,
    ParcelShipped, PaymentDeclined, SHIPMENTS, STOCK, StockUnavailable,
};
use crate::intake::Intake;

pub(super) const SERVICE: Service = Service {
    name: "order",
    topics: &[CHECKOUTS, STOCK, PAYMENTS, SHIPMENTS],
    router,
};

fn router(kit: Kit) -> Router {
    match kit.database {
        Database::Sqlite(pool) => routes(pool, kit.intake),
        Database::Postgres(pool) => routes(pool, kit.intake),
    }
}

fn routes<D: Sql>(pool: Pool<D>, intake: Intake) -> Router {
    let route = group(SERVICE.name)
        .on(place::<D>)
        .on(turn_away::<D>)
        .on(refuse::<D>)
        .on(complete::<D>)
        .unknown(Unknown::Skip)
        .concurrency(TOGETHER)
        .layer(Intake::behind_inbox())
        .inbox(SqlInbox::new(pool, SERVICE.name))
        .layer(intake);
    Router::new().topics(SERVICE.topics.iter().copied(), route)
}

async fn place<D: Sql>(mut tx: Tx<D>, Msg(checkout): Msg<Checkout>) -> Result<(), wharf::Error> {
    let order = accepted(checkout)?;
    let sql =
        "INSERT INTO orders (number, customer, total_cents, state) VALUES ($1, $2, $3, 'open')";
    let row = [
        Value::Text(&order.number),
        Value::Text(&order.customer),
        Value::Number(order.total_cents),
    ];
    D::change(&mut tx, sql, &row).await?;
    outbox::publish(&mut tx, &OrderPlaced { order }).await?;
    Ok(())
}

async fn turn_away<D: Sql>(
    tx: Tx<D>,
    Msg(StockUnavailable { order, reason }): Msg<StockUnavailable>,
) -> Result<(), wharf::Error> {
    reject(tx, order, reason).await
}

async fn refuse<D: Sql>(
    tx: Tx<D>,
    Msg(PaymentDeclined { order, reason }): Msg<PaymentDeclined>,
) -> Result<(), wharf::Error> {
    reject(tx, order, reason).await
}

async fn reject<D: Sql>(mut tx: Tx<D>, order: Order, reason: String) -> Result<(), wharf::Error> {
    if close(&mut tx, &order, "rejected").await? {
        outbox::publish(&mut tx, &OrderRejected { order, reason }).await?;
    }
    Ok(())
}

async fn complete<D: Sql>(
    mut tx: Tx<D>,
    Msg(ParcelShipped { order }): Msg<ParcelShipped>,
) -> Result<(), wharf::Error> {
    if close(&mut tx, &order, "completed").await? {
        outbox::publish(&mut tx, &OrderCompleted { order }).await?;
    }
    Ok(())
}

/// Whether it was open.
async fn close<D: Sql>(tx: &mut Tx<D>, order: &Order, state: &str) -> Result<bool, sqlx::Error> {
    let sql = "UPDATE orders SET state = $1 WHERE number = $2 AND state = 'open'";
    let values = [Value::Text(state), Value::Text(&order.number)];
    Ok(D::change(tx, sql, &values).await? == 1)
}

/// The order that a checkout becomes. An empty basket is none, and never will be one.
pub(crate) fn accepted(checkout: Checkout) -> Result<Order, wharf::Error> {
    if checkout.lines.is_empty() || checkout.lines.iter().any(|line| line.quantity == 0) {
        let why = format!("the basket of {} is empty", checkout.order);
        return Err(wharf::Error::dead_letter(why));
    }
    let price = |line: &Line| line.price_cents.saturating_mul(line.quantity.into());
    let prices = checkout.lines.iter().map(price);
    Ok(Order {
        total_cents: prices.fold(0, u64::saturating_add),
        number: checkout.order,
        customer: checkout.customer,
        card: checkout.card,
        lines: checkout.lines,
    })
}

#[cfg(test)]
mod tests {
    use wharf::{Disposition, IntoFailed as _};

    use super::*;

    #[test]
    fn an_empty_basket_is_no_order() {
        let checkout = Checkout {
            order: "o-1".to_owned(),
            customer: "c".to_owned(),
            card: "4711".to_owned(),
            lines: Vec::new(),
        };
        let refused = accepted(checkout).unwrap_err().into_failed();
        assert_eq!(refused.disposition, Disposition::DeadLetter);
        assert_eq!(refused.error, "the basket of o-1 is empty");
    }
}

//! What the shop has promised about its events: the schema of each, by its subject, and the topic that
//! takes nothing else.

use crate::event::SHIPMENTS;

/// The text in `schemas/`, with its subject.
macro_rules! schema {
    ($subject:literal) => {
        (
            $subject,
            include_str!(concat!("../schemas/", $subject, ".json")),
        )
    };
}

/// The JSON Schema of every event, by its subject. They are registered before the services start,
/// which themselves register nothing.
pub const SCHEMAS: [(&str, &str); 10] = [
    schema!("shop.checkouts-value"),
    schema!("shop.orders-value"),
    schema!("shop.outcomes-shop.order.completed"),
    schema!("shop.outcomes-shop.order.rejected"),
    schema!("shop.payments-shop.payment.captured"),
    schema!("shop.payments-shop.payment.declined"),
    schema!("shop.shipments-value"),
    schema!("shop.stock-shop.stock.released"),
    schema!("shop.stock-shop.stock.reserved"),
    schema!("shop.stock-shop.stock.unavailable"),
];

/// What follows what in the shop, for a node that watches choreographies.
pub const CHOREOGRAPHY: &str = include_str!("../choreography.yaml");

/// The topic whose events the services write and read with their schema.
pub const CHECKED: &str = SHIPMENTS;

/// What its broker is told: to refuse what is not as its schema says.
pub const CHECKS: [(&str, &str); 2] = [
    ("wharf.schema.validation", "reject"),
    ("wharf.schema.validation.depth", "payload"),
];

//! A delivery is settled by value.

use std::time::Duration;

use wharf_message::transport::Delivery;

fn settle(delivery: Delivery) {
    delivery.accept();
    delivery.retry(Duration::ZERO);
}

fn main() {}

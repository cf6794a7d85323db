//! A transaction must not wait for a reply.

use wharf::{Raw, Requests, Router, Tx, group};

async fn handle(_tx: Tx<sqlx::Sqlite>, _requests: Requests, Raw(_): Raw) {}

fn main() {
    let _: Router = Router::new().topic("orders", group("g").on(handle));
}

//! A handler is async.

use wharf::{Raw, Router, group};

fn handle(Raw(_): Raw) {}

fn main() {
    let _: Router = Router::new().topic("orders", group("g").on(handle));
}

//! A handler returns what can be published.

use wharf::{Raw, Router, group};

async fn handle(Raw(_): Raw) -> u64 {
    7
}

fn main() {
    let _: Router = Router::new().topic("orders", group("g").on(handle));
}

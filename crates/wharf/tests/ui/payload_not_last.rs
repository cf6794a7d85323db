//! The payload comes last.

use wharf::{Attempt, Raw, Router, group};

async fn handle(Raw(_): Raw, Attempt(_): Attempt) {}

fn main() {
    let _: Router = Router::new().topic("orders", group("g").on(handle));
}

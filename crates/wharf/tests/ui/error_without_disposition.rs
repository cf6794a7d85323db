//! An error says what is to be done about it.

use wharf::{Raw, Router, group};

struct Oops;

async fn handle(Raw(_): Raw) -> Result<(), Oops> {
    Err(Oops)
}

fn main() {
    let _: Router = Router::new().topic("orders", group("g").on(handle));
}

//! The future of a handler is `Send`.

use std::rc::Rc;

use wharf::{Raw, Router, group};

async fn handle(Raw(_): Raw) {
    let shared = Rc::new(1);
    std::future::ready(()).await;
    drop(shared);
}

fn main() {
    let _: Router = Router::new().topic("orders", group("g").on(handle));
}

//! What keeps the future of a handler from being `Send`.

use std::rc::Rc;

use wharf::Raw;

#[wharf::handler]
async fn handle(Raw(_): Raw) {
    let shared = Rc::new(1);
    std::future::ready(()).await;
    drop(shared);
}

fn main() {}

//! What a handler cannot return.

use wharf::Raw;

struct Oops;

#[wharf::handler]
async fn number(Raw(_): Raw) -> u64 {
    7
}

#[wharf::handler]
async fn failure(Raw(_): Raw) -> Result<(), Oops> {
    Err(Oops)
}

fn main() {}

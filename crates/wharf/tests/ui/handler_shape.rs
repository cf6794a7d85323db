//! Functions that no handler can be.

use wharf::{Attempt as A, Raw, State};

#[wharf::handler]
fn not_async(Raw(_): Raw) {}

#[wharf::handler]
async fn nothing_to_handle() {}

#[wharf::handler]
async fn generic<T: wharf::Event>(wharf::Msg(_): wharf::Msg<T>) {}

#[wharf::handler]
async fn some_type(_: impl Send, Raw(_): Raw) {}

#[wharf::handler]
async fn nine(_: A, _: A, _: A, _: A, _: A, _: A, _: A, _: A, Raw(_): Raw) {}

#[wharf::handler]
async fn two_states(State(_): State<u8>, State(_): State<u16>, Raw(_): Raw) {}

#[wharf::handler(status = u8)]
async fn no_such_setting(Raw(_): Raw) {}

struct Shop;

impl Shop {
    #[wharf::handler]
    async fn method(&self, Raw(_): Raw) {}
}

fn main() {}

//! A shop of five services that talk only through the broker, as ordinary Kafka clients, written
//! with the library.
//!
//! The *storefront* sends checkouts; *order* turns them into orders and follows each to its end;
//! *inventory* reserves stock; *payment* charges cards; *shipping* sends parcels; *notification*
//! tells customers. Each service is its own consumer group and its own task. Nothing passes from
//! one to another but messages: delete the broker and they are five islands.
//!
//! What real life brings is in the stream: customers who click twice, a payment gateway that calls
//! back twice, cards that are declined, shelves that are empty, and checkouts nobody can read.
//! At the end the numbers must add up; [`Summary::checks`] says so line by line.
//!
//! Service state lives in memory: a run starts with a fresh shop, on a broker that may be kept.

mod event;
mod inbox;
mod intake;
mod observer;
mod python;
mod services;
mod shop;
mod storefront;
mod summary;
mod tally;
pub mod view;

pub use event::TOPICS;
pub use python::Python;
pub use shop::{Options, run};
pub use summary::{Check, Summary};
pub use tally::{ServiceView, Snapshot};

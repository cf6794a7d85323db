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
//! *Order* and *payment* have a database: their rows, the inbox row of the message and the events that
//! follow from it are committed together, and a relay moves the events from the outbox to their topics.
//! The state of the others lives in memory: a run starts with fresh shelves, on a broker and a database
//! that may be kept.

mod contract;
mod database;
mod event;
mod inbox;
mod intake;
mod observer;
mod opening;
pub mod orchestration;
mod pause;
mod python;
mod relay;
mod services;
mod shop;
mod storefront;
mod summary;
mod tally;
pub mod view;

pub use contract::{CHECKED, CHECKS, CHOREOGRAPHY, SCHEMAS};
pub use database::{Database, SCHEMA};
pub use event::TOPICS;
pub use pause::Pause;
pub use python::Python;
pub use relay::{TOPIC, relay};
pub use shop::{Options, create_topics, run};
pub use summary::{Check, Summary};
pub use tally::{ServiceView, Snapshot};

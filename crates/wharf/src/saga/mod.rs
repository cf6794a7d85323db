//! Sagas: work of several services that is done as a whole, or undone as a whole.
//!
//! A [`Saga`] is defined here or as a text, deployed on a node, and started under an idempotency key.
//! The node gives each step to a worker: a handler of a [`Router`](crate::Router) that takes a [`Task`],
//! or a function in the process of an embedded node ([`Sagas::handle`]). The worker's answer decides what
//! is next; after a declared failure, what was done before is undone by the workers that take
//! [`UndoTask`]s.
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::future::IntoFuture;
//! use std::time::Duration;
//! use serde::{Deserialize, Serialize};
//! use wharf::embedded::Embedded;
//! use wharf::saga::{Done, Saga, Start, Status, Step, Task, Undo, UndoTask};
//! use wharf::{Bus, Failure, Router, group};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order { article: String, cents: u64 }
//!
//! #[derive(Debug, thiserror::Error, Failure)]
//! enum ChargeError {
//!     #[error("the bank says no to {0} cents")]
//!     #[failure(declared)]
//!     CardDeclined(u64),
//! }
//!
//! async fn reserve(task: Task<Order>) -> Done<String> {
//!     Done(format!("one {}", task.article))
//! }
//!
//! async fn release(UndoTask(task): UndoTask<serde_json::Value>) {
//!     println!("{} is free again", task.arguments);
//! }
//!
//! async fn charge(task: Task<Order>) -> Result<Done<u64>, ChargeError> {
//!     if task.cents > 100_000 { Err(ChargeError::CardDeclined(task.cents)) } else { Ok(Done(task.cents)) }
//! }
//!
//! let checkout = Saga::define("checkout")
//!     .step("ReserveStock", Step::topic("stock").timeout(30).result_path("$.reserved"))
//!     .undo(Undo::topic("stock-release").timeout(30))
//!     .step("ChargeCard", Step::topic("payments").timeout(30).result_path("$.charged"))
//!     .pivot("ChargeCard");
//!
//! let node = Embedded::open("embedded://temporary?kafka=127.0.0.1:0", "shop").await?;
//! let sagas = node.sagas().ok_or("the node is stopped")?;
//! sagas.deploy(&checkout).await?;
//!
//! let router = Router::new()
//!     .topic("stock", group("inventory").on(reserve))
//!     .topic("stock-release", group("inventory").on(release))
//!     .topic("payments", group("bank").on(charge));
//! let bus = Bus::new(std::sync::Arc::new(node), "shop");
//! let serving = tokio::spawn(bus.serve(router).into_future());
//!
//! let order = Order { article: "teapot".to_owned(), cents: 995 };
//! let started = sagas.start(Start::of("checkout", &order).key("order-1")).await?;
//! let ended = sagas.ended(started.id, Duration::from_secs(30)).await?;
//! assert_eq!(ended.status, Status::Completed);
//!
//! let order = Order { article: "yacht".to_owned(), cents: 900_000_00 };
//! let started = sagas.start(Start::of("checkout", &order).key("order-2")).await?;
//! let ended = sagas.ended(started.id, Duration::from_secs(30)).await?;
//! assert_eq!((ended.status, ended.error.as_deref()), (Status::Compensated, Some("CardDeclined")));
//! # serving.abort();
//! # bus.transport().shutdown().await?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "embedded"))]
//! # fn main() {}
//! ```
//!
//! What must never happen here: an answer that goes to another dispatch than the one that was handled,
//! and a failed attempt of which its saga is not told.

mod error;
#[cfg(feature = "embedded")]
mod handler;
mod heartbeat;
mod http;
mod reply;
mod sagas;
mod start;
mod task;

pub use error::SagaError;
pub use heartbeat::Heartbeat;
pub use reply::{Answer, Done, Later};
pub(crate) use reply::{address, answered, readdress};
pub use sagas::{Deployment, Parked, Sagas, Started, State};
pub use start::Start;
pub use task::{Task, UndoTask};
pub use wharf_saga::definition::{
    self, Branch, Catch, Definition, Each, OnDeadline, Problem, Problems, QueryLanguage, Retry,
    Saga, Step, Undo, When,
};
pub use wharf_saga::machine::{Action, Mark, Order, SagaId, Status, TaskToken};

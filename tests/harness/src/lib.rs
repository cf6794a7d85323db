//! Test-only: starts the real binary and other servers, and makes sure that they end.
//!
//! Every child runs in a process group of its own. A group is killed when its owner is dropped and
//! when this process is interrupted, so a failed or cancelled run leaves nothing behind. Nothing
//! here ends a process that it did not start. Beside that stands what the front door and the programs
//! that it starts must say alike.

mod database;
mod group;
mod kafka;
mod mount;
mod node;
mod port;
mod proxy;
mod selection;
pub mod servers;

pub use database::{Database, DatabaseKind};
pub use group::{Group, interrupted, kill_groups_on_interrupt};
pub use kafka::ApacheKafka;
pub use mount::Mount;
pub use node::{Launch, Node};
pub use port::Port;
pub use proxy::Proxy;
pub use selection::Selection;

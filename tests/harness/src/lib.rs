//! Test-only: starts the real binary and other servers, and makes sure that they end.
//!
//! Every child runs in a process group of its own. A group is killed when its owner is dropped and
//! when this process is interrupted, so a failed or cancelled run leaves nothing behind. Nothing
//! here ends a process that it did not start. Beside that stands what the front door and the programs
//! that it starts must say alike.

mod database;
mod group;
mod kafka;
mod node;
mod proxy;
mod selection;
pub mod servers;

use std::net::TcpListener;

use anyhow::Result;

pub use database::{Database, DatabaseKind};
pub use group::{Group, interrupted, kill_groups_on_interrupt};
pub use kafka::ApacheKafka;
pub use node::{Launch, Node};
pub use proxy::Proxy;
pub use selection::Selection;

/// A port that was free a moment ago; most servers of others cannot choose one themselves.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

//! The clients, one file per protocol, behind one small seam: every server gets the same loops.
//!
//! Invariants: a message counts only once the server has acknowledged it; one that is refused fails
//! the measurement. Messages of one partition stay in order, so nobody gains by giving that up.

mod amqp;
mod kafka;
mod nats;
pub(crate) mod raw;
mod redis;
mod tasks;
mod window;

use std::time::Duration;

use anyhow::{Result, bail};

pub(crate) use kafka::{Counter, Kafka, Mock, Reporting};
pub(crate) use window::Window;

use crate::servers::Protocol;

/// The longest anything may take to finish.
pub(crate) const WITHIN: Duration = Duration::from_secs(20);

/// How a producer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Many under way, gathered into batches where the protocol knows them.
    Bulk,
    /// Each leaves at once.
    Prompt,
}

/// How a producer compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    Lz4,
}

/// From where a consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Beginning,
    End,
}

/// What stands for a Kafka topic: so many logs, each in order.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) partitions: usize,
}

impl Topic {
    pub(crate) fn new(name: impl Into<String>, partitions: usize) -> Self {
        Self {
            name: name.into(),
            partitions,
        }
    }

    /// The name of one partition, for servers that know no partitions.
    fn part(&self, partition: usize) -> String {
        format!("{}-{partition}", self.name)
    }

    fn parts(&self) -> impl Iterator<Item = String> {
        (0..self.partitions).map(|partition| self.part(partition))
    }
}

/// A connection to one server.
pub(crate) trait Client: Send + Sync {
    /// Makes a topic.
    fn make(&self, topic: &Topic) -> Result<()>;
    /// Removes a topic.
    fn remove(&self, topic: &Topic) -> Result<()>;
    /// A producer to it.
    fn producer(&self, topic: &Topic, pace: Pace, codec: Codec) -> Result<Box<dyn Producer>>;
    /// A consumer of all its partitions that has found its place.
    fn consumer(&self, topic: &Topic, from: From) -> Result<Box<dyn Consumer>>;
}

/// Sends messages.
pub(crate) trait Producer: Send {
    /// Hands a message over. Waits while too many are under way.
    fn send(&mut self, partition: usize, payload: &[u8]) -> Result<()>;
    /// Waits until all are acknowledged.
    fn flush(&mut self) -> Result<()>;
}

/// Receives messages.
pub(crate) trait Consumer: Send {
    /// Shows what has arrived, waiting at most `patience` for the first.
    fn poll(&mut self, patience: Duration, each: &mut dyn FnMut(&[u8])) -> Result<()>;
}

/// The best-kept client for a protocol, or why the protocol cannot do what is asked.
pub(crate) fn connect(protocol: Protocol, address: &str) -> Result<Box<dyn Client>> {
    Ok(match protocol {
        Protocol::Kafka => Box::new(Kafka::new(address)),
        Protocol::Nats => Box::new(nats::Nats::connect(address)?),
        Protocol::Redis => Box::new(redis::Redis::connect(address)?),
        Protocol::Amqp => Box::new(amqp::Amqp::connect(address)?),
        Protocol::Http => bail!("HTTP moves no messages"),
    })
}

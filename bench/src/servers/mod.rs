//! The servers that are measured: how each is started (one file each, where the tests do not start it
//! too; how they are watched is the harness's), and what its acknowledgement means.

mod kafka;
mod process;
mod redis;
mod tools;
mod wharf;

use std::path::Path;

use anyhow::Result;
use harness::servers::{self, Plan, Site, nats, rabbitmq};

pub(crate) use harness::servers::{Protocol, Running};
pub(crate) use process::{Usage, own_cpu, peak_memory};
pub(crate) use tools::{Tool, Tools};

/// One kind of server.
pub(crate) struct Server {
    /// The name in options and files.
    pub(crate) key: &'static str,
    /// The name for people.
    pub(crate) name: &'static str,
    /// What has happened to a message when it is acknowledged.
    pub(crate) acknowledged: &'static str,
    pub(crate) protocol: Protocol,
    /// What must be installed.
    pub(crate) tool: &'static str,
    plan: fn(&Site<'_>, &Tool) -> Result<Plan>,
}

/// All servers, Wharf first.
pub(crate) const SERVERS: &[Server] = &[
    Server {
        key: "wharf",
        name: "Wharf",
        acknowledged: "synced to the disk",
        protocol: Protocol::Kafka,
        tool: "wharf",
        plan: |site, _| wharf::plan(site),
    },
    Server {
        key: "kafka",
        name: "Apache Kafka",
        acknowledged: "in the page cache",
        protocol: Protocol::Kafka,
        tool: "kafka",
        plan: |site, tool| kafka::plan(site, tool, ""),
    },
    Server {
        key: "kafka-flush",
        name: "Apache Kafka, flush.messages=1",
        acknowledged: "synced to the disk",
        protocol: Protocol::Kafka,
        tool: "kafka",
        plan: |site, tool| kafka::plan(site, tool, "log.flush.interval.messages=1\n"),
    },
    Server {
        key: "nats",
        name: "NATS JetStream",
        acknowledged: "in the page cache",
        protocol: Protocol::Nats,
        tool: "nats",
        plan: |site, _| nats::plan(site, None),
    },
    Server {
        key: "nats-sync",
        name: "NATS JetStream, sync_interval: always",
        acknowledged: "synced to the disk",
        protocol: Protocol::Nats,
        tool: "nats",
        plan: |site, _| nats::plan(site, Some("always")),
    },
    Server {
        key: "redis",
        name: "Redis streams, appendfsync always",
        acknowledged: "synced to the disk",
        protocol: Protocol::Redis,
        tool: "redis",
        plan: |site, _| redis::plan(site),
    },
    Server {
        key: "rabbitmq",
        name: "RabbitMQ quorum queues",
        acknowledged: "synced to the disk",
        protocol: Protocol::Amqp,
        tool: "rabbitmq",
        plan: |site, _| rabbitmq::plan(site, ""),
    },
    Server {
        key: "tansu",
        name: "Tansu, in memory",
        acknowledged: "in memory only",
        protocol: Protocol::Kafka,
        tool: "tansu",
        plan: |site, _| Ok(tools::tansu(site)),
    },
    Server {
        key: "klite",
        name: "klite",
        acknowledged: "synced to the disk, every 2 ms",
        protocol: Protocol::Kafka,
        tool: "klite",
        plan: |site, _| tools::klite(site),
    },
];

/// A server's place on this machine, whether it runs or not.
pub(crate) struct Place<'a> {
    server: &'a Server,
    tool: &'a Tool,
    place: servers::Place,
}

impl<'a> Place<'a> {
    /// A fresh place below `scratch`.
    pub(crate) fn new(server: &'a Server, tool: &'a Tool, scratch: &Path) -> Result<Self> {
        let place = servers::Place::new(server.protocol, scratch.join(server.key))?;
        Ok(Self {
            server,
            tool,
            place,
        })
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(&mut self) -> Result<Running> {
        let plan = |site: &Site<'_>| (self.server.plan)(site, self.tool);
        self.place.start(&self.tool.path, plan)
    }
}

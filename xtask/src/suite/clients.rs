//! The clients that are not Apache Kafka's own: how each one's cases are run. What is missing for it
//! is installed first.

use std::process::Command;

use anyhow::Result;

use super::Context;
use crate::setup;

/// A client with cases.
pub(super) struct Client {
    pub(super) name: &'static str,
    /// What runs its cases; takes the server's address, or `--list`.
    pub(super) find: fn(&Context<'_>, &str) -> Result<Found>,
}

/// What there is to run.
pub(super) enum Found {
    Command(Command),
    /// Something cannot be had here: why.
    Missing(String),
}

impl Found {
    fn of<T>(needed: Result<T>, command: impl FnOnce(T) -> Command) -> Self {
        match needed {
            Ok(needed) => Self::Command(command(needed)),
            Err(error) => Self::Missing(format!("{error:#}")),
        }
    }
}

/// In the order of the columns of the table in `compat/README.md`.
pub(super) const CLIENTS: &[Client] = &[
    Client {
        name: "kcat",
        find: kcat,
    },
    Client {
        name: "rdkafka",
        find: rdkafka,
    },
    Client {
        name: "confluent-kafka",
        find: python,
    },
    Client {
        name: "kafka-python",
        find: python,
    },
    Client {
        name: "aiokafka",
        find: python,
    },
    Client {
        name: "kafkajs",
        find: kafkajs,
    },
    Client {
        name: "franz-go",
        find: go,
    },
    Client {
        name: "sarama",
        find: go,
    },
    Client {
        name: "kafka-go",
        find: go,
    },
];

fn kcat(cx: &Context<'_>, name: &str) -> Result<Found> {
    let script = format!("compat/{name}/run.py");
    Ok(Found::of(
        setup::debian(cx.workspace, "kcat", "kcat"),
        |()| cx.workspace.command("python3", &[&script]),
    ))
}

fn python(cx: &Context<'_>, name: &str) -> Result<Found> {
    let script = format!("compat/{name}/run.py");
    Ok(Found::of(setup::python(cx.workspace), |interpreter| {
        cx.workspace.command(interpreter, &[&script])
    }))
}

fn kafkajs(cx: &Context<'_>, name: &str) -> Result<Found> {
    let script = format!("compat/{name}/run.mjs");
    Ok(Found::of(setup::node(cx.workspace, name), |modules| {
        let mut command = cx.workspace.command("node", &[&script]);
        command.env("NODE_PATH", modules);
        command
    }))
}

fn go(cx: &Context<'_>, name: &str) -> Result<Found> {
    Ok(Found::of(setup::go(cx.workspace, name), |binary| {
        cx.workspace.command(binary, &[])
    }))
}

/// It is part of the workspace: that it does not build is no reason to skip it.
fn rdkafka(cx: &Context<'_>, _: &str) -> Result<Found> {
    let binary = cx.workspace.build_all("compat-rdkafka")?;
    Ok(Found::Command(cx.workspace.command(binary, &[])))
}

//! The relay beside a Debezium that runs for real: both read one Postgres, and every record of the one is
//! compared with that of the other.

use std::path::PathBuf;

use anyhow::Result;
use harness::{Database, DatabaseKind, Port};

use super::{Context, Outcome, counted};
use crate::services::{debezium_plugins, kafka_classes};
use crate::setup;

/// Each scenario has a slot for each of the two, and they are all read at once.
const SETTINGS: [&str; 5] = [
    "wal_level=logical",
    "listen_addresses=127.0.0.1",
    "max_replication_slots=60",
    "max_wal_senders=60",
    "max_connections=300",
];

/// Runs `compat/debezium/run.py`, which starts the nodes and Kafka Connect.
pub(super) fn part(cx: &Context<'_>) -> Result<Outcome> {
    let (interpreter, classes, plugins) = match installed(cx) {
        Ok(installed) => installed,
        Err(error) => return Ok(Outcome::skipped(format!("{error:#}"))),
    };
    // Debezium reaches no Unix socket.
    let port = Port::reserve()?;
    let number = port.number().to_string();
    let mut options = vec!["-p", &number];
    options.extend(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
    let database = Database::start(DatabaseKind::Postgres, &options)?;
    let mut command = cx
        .workspace
        .command(interpreter, &["compat/debezium/run.py"]);
    command.arg(format!(
        "postgres://{}@127.0.0.1:{number}/postgres",
        database.user()
    ));
    command.env("WHARF", cx.wharf()?);
    command.env("KAFKA_CLASSES", classes);
    command.env("DEBEZIUM_PLUGINS", plugins);
    command.env("TMPDIR", &cx.scratch);
    counted(cx.workspace, &cx.workspace.log("debezium"), command)
}

/// The interpreter, the class path and the folder of plugins.
fn installed(cx: &Context<'_>) -> Result<(PathBuf, String, PathBuf)> {
    setup::databases(cx.workspace)?;
    setup::debian(cx.workspace, "psql", "postgresql-client")?;
    Ok((
        setup::python(cx.workspace)?,
        kafka_classes(cx.workspace)?,
        debezium_plugins(cx.workspace)?,
    ))
}

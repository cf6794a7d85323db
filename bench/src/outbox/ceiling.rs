//! What the database can hand out: `pg_recvlogical` reads a slot of the same publication with the same
//! options as the relay, and forgets what it gets.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use harness::{DatabaseKind, Group};

use super::origin::{Origin, PUBLICATION};

/// Rows per second from `slot`, which has so many rows.
pub(super) fn drain(origin: &Origin, slot: &str, rows: u64) -> Result<f64> {
    let end = origin.ask("SELECT pg_current_wal_flush_lsn()::text")?;
    // What is written now ends behind that position, so that the program gets there.
    origin.execute("SELECT pg_logical_emit_message(true, 'bench', 'end')")?;
    let program = DatabaseKind::Postgres.program()?;
    let mut command = Command::new(program.with_file_name("pg_recvlogical"));
    command
        .args(["--host", "127.0.0.1", "--port"])
        .arg(origin.port().to_string());
    command.args(["--username", origin.user(), "--dbname", "postgres"]);
    command.args(["--slot", slot, "--start", "--no-loop"]);
    command.args(["--endpos", &end, "--file", "/dev/null"]);
    for option in ["proto_version=1", "messages=true", "binary=true"] {
        command.args(["--option", option]);
    }
    command.args(["--option", &format!("publication_names={PUBLICATION}")]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let began = Instant::now();
    let mut reader = Group::spawn(&mut command).context("pg_recvlogical cannot be run")?;
    let status = reader.wait()?;
    ensure!(status.success(), "pg_recvlogical ended with {status}");
    Ok(rows as f64 / began.elapsed().as_secs_f64())
}

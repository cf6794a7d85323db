//! The library's transports against real servers, one server for each variable that a test reads.
//! The tests of a server that cannot be had here are left out, and it is skipped with its reason, so
//! that no test passes without its server.

use std::ffi::OsString;
use std::time::SystemTime;

use anyhow::Result;

use super::{Context, Outcome, counted};
use crate::services::{kafka_classes, nats_server, rabbitmq_server};
use crate::shell::say;
use crate::transports;

/// A server of the tests.
struct Server {
    /// The variable that tells the tests where it is.
    variable: &'static str,
    /// What is in the names of the tests that need it, and of no others.
    tests: &'static str,
    /// Finds it, or installs it.
    find: fn(&Context<'_>) -> Result<OsString>,
}

const SERVERS: &[Server] = &[
    Server {
        variable: "WHARF_BINARY",
        tests: "_on_wharf",
        find: |cx| Ok(cx.wharf()?.into()),
    },
    Server {
        variable: "KAFKA_CLASSES",
        tests: "_on_apache_kafka",
        find: |cx| Ok(kafka_classes(cx.workspace)?.into()),
    },
    Server {
        variable: "WHARF_RABBITMQ_SERVER",
        tests: "rabbitmq::",
        find: |cx| Ok(rabbitmq_server(cx.workspace)?.into()),
    },
    Server {
        variable: "WHARF_NATS_SERVER",
        tests: "nats::",
        find: |cx| Ok(nats_server(cx.workspace)?.into()),
    },
];

/// Runs the tests of the transports with every server that can be had.
pub(super) fn part(cx: &Context<'_>) -> Result<Outcome> {
    let mut command = cx.workspace.integration_tests("wharf-transport")?;
    // They wait for their servers most of the time.
    command.env("RUST_TEST_THREADS", "8");
    let mut skipped = Vec::new();
    for server in SERVERS {
        match (server.find)(cx) {
            Ok(found) => {
                command.env(server.variable, found);
            }
            Err(error) => {
                command.args(["--skip", server.tests]);
                skipped.push(format!("{}: {error:#}", server.variable));
            }
        }
    }
    let began = SystemTime::now();
    let mut outcome = counted(cx.workspace, &cx.workspace.log("transports"), command)?;
    // The table in the documentation is one more test: it says what was found.
    let news = transports::news(cx.workspace, began)?;
    news.iter().for_each(|line| say(format!("    {line}")));
    outcome.passed += usize::from(news.is_empty());
    outcome.failed += usize::from(!news.is_empty());
    outcome.skipped.extend(skipped);
    Ok(outcome)
}

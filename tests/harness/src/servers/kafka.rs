//! Brokers of the Kafka protocol: Apache Kafka, and Wharf's own binary, in the same form.

use std::process::Command;

use anyhow::Result;

use super::{Plan, Site};
use crate::ApacheKafka;

/// A virtual machine that is quick to start and takes one thread where it can.
const JAVA: &[&str] = &[
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-Xmx1g",
];

/// Apache Kafka; the site's program is its class path. `template` is as for
/// [`ApacheKafka::configure`].
pub fn apache(site: &Site<'_>, template: &str) -> Result<Plan> {
    let kafka = ApacheKafka {
        classes: site.program,
        java: JAVA,
        folder: site.folder,
        port: site.port,
        controller: site.more_ports[0],
    };
    // The last of two properties of one name counts.
    let advertised = format!("advertised.listeners=PLAINTEXT://{}", site.address);
    kafka.configure(template, &advertised)?;
    Ok(Plan {
        prepare: Some(kafka.format()),
        beside: None,
        command: kafka.serve(),
    })
}

/// Wharf; the site's program is its binary.
pub fn wharf(site: &Site<'_>) -> Plan {
    let mut command: Command = site.command(&["serve", "--http-listen", "127.0.0.1:0"]);
    command
        .args(["--registry-listen", "127.0.0.1:0"])
        .args(["--data", &site.path("data")])
        .args(["--kafka-listen", &format!("127.0.0.1:{}", site.port)])
        .env("WHARF_KAFKA__ADVERTISED", site.address);
    command.into()
}

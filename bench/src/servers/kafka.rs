//! Apache Kafka: one broker that is its own controller, in a virtual machine with its defaults.

use std::fs;

use anyhow::{Context, Result};
use harness::ApacheKafka;
use harness::servers::{Plan, Site};

use super::Tool;

/// What `kafka-server-start.sh` sets.
const JAVA: &[&str] = &[
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

/// The tool's path is the class path; its template is the properties file. `more` is added to that.
pub(super) fn plan(site: &Site<'_>, tool: &Tool, more: &str) -> Result<Plan> {
    let template = tool.template.as_deref();
    let template = template.context("there is no properties file for it")?;
    let kafka = ApacheKafka {
        classes: &tool.path,
        java: JAVA,
        folder: site.folder,
        port: site.port,
        controller: site.more_ports[0],
    };
    kafka.configure(&fs::read_to_string(template)?, more)?;
    Ok(Plan {
        prepare: Some(kafka.format()),
        beside: None,
        command: kafka.serve(),
    })
}

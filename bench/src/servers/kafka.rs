//! Apache Kafka: one broker that is its own controller, in a virtual machine with its defaults.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Plan, Site, free_port};

/// The id that the storage is formatted with.
const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";
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
pub(super) fn plan(site: &Site<'_>, more: &str) -> Result<Plan> {
    let file = site.path("server.properties");
    if !site.folder.join("server.properties").exists() {
        let template = site.tool.template.as_deref();
        let template = template.context("there is no properties file for it")?;
        let properties = fs::read_to_string(template)?
            .replace("{port}", &site.port.to_string())
            .replace("{controller}", &free_port()?.to_string())
            .replace("{data}", &site.path("data"));
        fs::write(&file, properties + "\n" + more)?;
    }
    let java = |arguments: &[&str]| {
        let mut command = Command::new("java");
        command.args(JAVA).arg("-cp").arg(&site.tool.path);
        command.args(arguments).arg(&file);
        command
    };
    Ok(Plan {
        prepare: Some(java(&[
            "kafka.tools.StorageTool",
            "format",
            "--standalone",
            "-t",
            CLUSTER,
            "-c",
        ])),
        beside: None,
        command: java(&["kafka.Kafka"]),
    })
}

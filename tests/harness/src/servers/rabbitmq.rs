//! RabbitMQ, with a node name, ports, cookie and folders of its own.

use std::fs;
use std::process::Command;

use anyhow::Result;

use super::{Plan, Site};

/// `more` is added to the configuration. The program is the server's own start script, not the one on the path, which changes user and folders.
pub fn plan(site: &Site<'_>, more: &str) -> Result<Plan> {
    let [mapper, distribution] = site.more_ports.map(|port| port.to_string());
    let (config, plugins) = (site.path("rabbitmq.conf"), site.path("enabled_plugins"));
    // The disk has more free than this; the default depends on the machine's memory.
    fs::write(
        &config,
        format!("disk_free_limit.absolute = 1GB\nloopback_users = none\n{more}"),
    )?;
    fs::write(&plugins, "[].\n")?;
    let mut command = site.command(&[]);
    command
        .env("HOME", site.folder)
        .env("ERL_EPMD_PORT", &mapper)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODENAME", format!("wharf{}@localhost", site.port))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", site.port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution)
        .env("RABBITMQ_CONFIG_FILE", &config)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
        .env("RABBITMQ_PID_FILE", site.path("pid"))
        .env("RABBITMQ_MNESIA_BASE", site.path("data"))
        .env("RABBITMQ_LOG_BASE", site.path("log"))
        .env("RABBITMQ_LOGS", "-");
    // The server would otherwise leave a port mapper behind that outlives it.
    let mut beside = Command::new("epmd");
    beside.args(["-port", &mapper, "-address", "127.0.0.1"]);
    Ok(Plan {
        prepare: None,
        beside: Some(beside),
        command,
    })
}

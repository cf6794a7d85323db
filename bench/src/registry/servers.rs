//! The registries: how each is started, and where what it stores goes.

use std::path::Path;

use anyhow::{Result, anyhow};
use harness::servers::{self, Plan, Protocol, Running, Site};
use serde::Serialize;

use super::Options;
use crate::http::Target;

/// The content type that Confluent's clients ask for and send.
const MEDIA: &str = "application/vnd.schemaregistry.v1+json";

/// Everyone who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Who {
    Wharf,
    Axonops,
    Apicurio,
}

impl Who {
    pub(super) const ALL: [Self; 3] = [Self::Wharf, Self::Axonops, Self::Apicurio];

    /// The name in options.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Wharf => "wharf",
            Self::Axonops => "axonops",
            Self::Apicurio => "apicurio",
        }
    }

    /// The name for people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Wharf => "Wharf",
            Self::Axonops => "AxonOps",
            Self::Apicurio => "Apicurio",
        }
    }

    /// What has happened to a schema when its registration is answered.
    pub(super) fn registered(self) -> &'static str {
        match self {
            Self::Wharf => "synced to the disk, in the topic `_schemas`",
            Self::Axonops => "in memory only",
            Self::Apicurio => "in an H2 database in files, which syncs within a second",
        }
    }

    /// Whether what it stores is there after a restart.
    pub(super) fn keeps(self) -> bool {
        self != Self::Axonops
    }

    /// Why it is not measured, or the program to start.
    fn program(self, options: &Options) -> Result<&str> {
        let path = match self {
            Self::Wharf => Some(&options.wharf),
            Self::Axonops => options.axonops.as_ref(),
            Self::Apicurio => options.java.as_ref(),
        };
        let missing = match self {
            Self::Axonops => &options.axonops_missing,
            _ => &options.apicurio_missing,
        };
        let path = path.and_then(|path| path.to_str());
        path.ok_or_else(|| anyhow!("{missing}"))
    }
}

/// A registry's place on this machine, whether it runs or not.
pub(super) struct Place<'a> {
    who: Who,
    options: &'a Options,
    program: &'a str,
    place: servers::Place,
    target: Target,
}

impl<'a> Place<'a> {
    pub(super) fn new(who: Who, options: &'a Options, name: &str) -> Result<Self> {
        let program = who.program(options)?;
        let folder = options.scratch.join(format!("{}-{name}", who.key()));
        let place = servers::Place::new(Protocol::Http, folder)?;
        let target = Target {
            address: place.upstream(),
            prefix: match who {
                Who::Apicurio => "/apis/ccompat/v7",
                _ => "",
            },
            media: MEDIA,
        };
        Ok(Self {
            who,
            options,
            program,
            place,
            target,
        })
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Starts it on the data that an earlier run left here, and waits until it answers.
    pub(super) fn start(&mut self) -> Result<Running> {
        let (who, options) = (self.who, self.options);
        self.place.start(self.program, |site| match who {
            Who::Wharf => Ok(wharf(site)),
            Who::Axonops => axonops(site),
            Who::Apicurio => apicurio(site, options.apicurio.as_deref()),
        })
    }
}

/// The registry of a node with its defaults.
fn wharf(site: &Site<'_>) -> Plan {
    let [kafka, http] = site.more_ports.map(|port| format!("127.0.0.1:{port}"));
    let registry = format!("127.0.0.1:{}", site.port);
    let mut command = site.command(&["serve", "--kafka-listen", &kafka, "--http-listen", &http]);
    command.args(["--registry-listen", &registry]);
    command.args(["--data", &site.path("data")]);
    command.into()
}

/// With its storage in memory, and nobody to sign in.
fn axonops(site: &Site<'_>) -> Result<Plan> {
    let file = site.path("config.yaml");
    let text = format!(
        "server:\n  host: 127.0.0.1\n  port: {}\nstorage:\n  type: memory\n\
         compatibility:\n  default_level: BACKWARD\nlogging:\n  level: error\n\
         security:\n  auth:\n    enabled: false\n",
        site.port
    );
    std::fs::write(&file, text)?;
    Ok(site.command(&["--config", &file]).into())
}

/// In a virtual machine with the memory of its own image's default, its database in files, and the
/// level that every Confluent registry starts with.
fn apicurio(site: &Site<'_>, jar: Option<&Path>) -> Result<Plan> {
    let jar = jar.ok_or_else(|| anyhow!("there is no quarkus-run.jar"))?;
    let jar = jar.display().to_string();
    let mut command = site.command(&["-Xmx2g", "-jar", &jar]);
    let database = format!("jdbc:h2:file:{}", site.path("registry"));
    let [management, _] = site.more_ports;
    command
        .env("QUARKUS_HTTP_HOST", "127.0.0.1")
        .env("QUARKUS_HTTP_PORT", site.port.to_string())
        .env("QUARKUS_MANAGEMENT_HOST", "127.0.0.1")
        .env("QUARKUS_MANAGEMENT_PORT", management.to_string())
        .env("QUARKUS_LOG_LEVEL", "ERROR")
        .env("APICURIO_DATASOURCE_URL", database)
        .current_dir(site.folder);
    Ok(command.into())
}

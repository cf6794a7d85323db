//! Wharf's own node, with one relay or none.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use harness::{Launch, Node};

use super::PARTITIONS;
use super::origin::{Origin, PUBLICATION};
use crate::clients::{Client as _, Kafka, Topic};

/// How a relay reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Log,
    Poll,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Poll => "poll",
        }
    }
}

/// A node's place, whether it runs or not.
pub(super) struct Place {
    launch: Launch,
    folder: PathBuf,
}

impl Place {
    /// A fresh place below `scratch` for a node with the relay of this name, or with none.
    pub(super) fn new(
        wharf: &Path,
        scratch: &Path,
        name: &str,
        relay: Option<(Mode, &Origin)>,
    ) -> Result<Self> {
        let folder = scratch.join(name);
        fs::create_dir_all(&folder)?;
        let file = folder.join("wharf.toml");
        let settings = relay.map(|(mode, origin)| {
            let mut settings = format!(
                "[relay.{name}]\nurl = \"{}\"\nmode = \"{}\"\ntopic = \"{{aggregatetype}}\"\npartitions = {PARTITIONS}\n",
                origin.url(),
                mode.name()
            );
            if mode == Mode::Log {
                settings += &format!("publication = \"{PUBLICATION}\"\n");
            }
            settings
        });
        fs::write(&file, settings.unwrap_or_default())?;
        let mut launch = Launch::new(wharf, &folder.join("data"), &folder.join("log"));
        launch.arguments = vec!["--config".to_owned(), file.display().to_string()];
        Ok(Self { launch, folder })
    }

    /// Starts the node.
    pub(super) fn start(&self) -> Result<Node> {
        self.launch.start()
    }

    /// Removes everything that it wrote.
    pub(super) fn remove(self) {
        // What cannot be removed goes with everything else at the end.
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// The slot that the relay of this name makes.
pub(super) fn slot(name: &str) -> String {
    format!("wharf_{name}")
}

/// Makes the topic that rows go to.
pub(super) fn make_topic(node: &Node, name: &str) -> Result<(Kafka, Topic)> {
    let client = Kafka::new(&node.kafka);
    let topic = Topic::new(name, PARTITIONS);
    client.make(&topic)?;
    Ok((client, topic))
}

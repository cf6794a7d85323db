//! Apache Kafka as one broker that is its own controller: what everyone needs who starts it to compare
//! with. How the process is watched, and for how long, is the caller's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

/// The id that the storage is formatted with.
const CLUSTER: &str = "4L6g3nShT-eMCtK--X86sw";

/// Where the broker lives and what runs it.
#[derive(Clone, Copy, Debug)]
pub struct ApacheKafka<'a> {
    /// The class path of its programs.
    pub classes: &'a str,
    /// Options of the virtual machine.
    pub java: &'a [&'a str],
    /// Where everything is that it writes; kept across restarts.
    pub folder: &'a Path,
    /// Where clients connect.
    pub port: u16,
    /// Where the broker talks to itself as its controller.
    pub controller: u16,
}

impl ApacheKafka<'_> {
    /// Writes its properties, once for a folder: `template` with the places for ports and data filled
    /// in, and `more` at the end.
    pub fn configure(&self, template: &str, more: &str) -> Result<()> {
        if !self.properties().exists() {
            let properties = template
                .replace("{port}", &self.port.to_string())
                .replace("{controller}", &self.controller.to_string())
                .replace("{data}", &self.folder.join("data").display().to_string());
            fs::write(self.properties(), properties + "\n" + more)?;
        }
        Ok(())
    }

    /// Formats its storage; must have ended well before the first start.
    pub fn format(&self) -> Command {
        let tool = "kafka.tools.StorageTool";
        self.command(&[tool, "format", "--standalone", "-t", CLUSTER, "-c"])
    }

    /// Runs it.
    pub fn serve(&self) -> Command {
        self.command(&["kafka.Kafka"])
    }

    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("java");
        command.args(self.java).args(["-cp", self.classes]);
        command.args(arguments).arg(self.properties());
        command
    }
}

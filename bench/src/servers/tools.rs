//! What is installed, as told by whoever starts the benchmark; and the servers that are a single
//! binary with nothing to prepare.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use harness::servers::{Plan, Site};
use serde::Deserialize;

/// One installed server.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Tool {
    /// The program; for Apache Kafka the class path.
    pub(crate) path: String,
    pub(crate) version: String,
    /// A configuration file with places to fill in.
    pub(crate) template: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Installed {
    Tool(Tool),
    /// Why it is not.
    Missing(String),
}

/// All servers by name, installed or not.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Tools(BTreeMap<String, Installed>);

impl Tools {
    /// Reads the list from a JSON file; none means that only Wharf is there.
    pub(crate) fn read(file: Option<&Path>, wharf: &Path) -> Result<Self> {
        let mut tools: Self = match file {
            Some(file) => serde_json::from_slice(&fs::read(file)?)
                .with_context(|| format!("{} is no list of tools", file.display()))?,
            None => Self::default(),
        };
        let wharf = Tool {
            path: wharf.display().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            template: None,
        };
        tools.0.insert("wharf".to_owned(), Installed::Tool(wharf));
        Ok(tools)
    }

    /// The tool of this name, or why there is none.
    pub(crate) fn get(&self, name: &str) -> Result<&Tool> {
        match self.0.get(name) {
            Some(Installed::Tool(tool)) => Ok(tool),
            Some(Installed::Missing(why)) => Err(anyhow!("it is not installed: {why}")),
            None => Err(anyhow!("it is not installed")),
        }
    }
}

pub(super) fn tansu(site: &Site<'_>) -> Plan {
    let address = format!("tcp://127.0.0.1:{}", site.port);
    site.command(&[
        "--listener-url",
        &address,
        "--advertised-listener-url",
        &address,
        "--storage-engine",
        "memory://tansu/",
    ])
    .into()
}

pub(super) fn klite(site: &Site<'_>) -> Result<Plan> {
    let address = format!("127.0.0.1:{}", site.port);
    let data = site.path("data");
    fs::create_dir_all(&data)?;
    Ok(site
        .command(&["--listen", &address, "--data-dir", &data])
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_why() {
        let text = r#"{"klite": {"missing": "no such module"},
                       "nats": {"tool": {"path": "/x", "version": "2", "template": null}}}"#;
        let tools: Tools = serde_json::from_str(text).expect("it is a list");
        let why = tools.get("klite").map(|_tool| ()).unwrap_err().to_string();
        assert!(why.contains("no such module"), "{why}");
        assert_eq!(tools.get("nats").expect("it is there").version, "2");
        assert!(tools.get("redis").is_err());
    }
}

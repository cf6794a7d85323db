//! A schema registry over HTTP: what the commands ask of it. Any that speaks Confluent's API will do.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use wharf_message::Code;
use wharf_schema::model::{Level, Reference, SchemaType};
use wharf_schema::{Dependency, compat::Policy};
use wharf_server::Problem;

use super::files::Source;
use crate::cli::Usage;
use crate::node_api::exchange;

/// How long a registry may take.
const WAIT: Duration = Duration::from_secs(30);
/// How many schemas one schema may refer to, directly or not.
const REFERENCES_MAX: usize = 1_000;

/// Where the registry is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Registry {
    /// The registry [env: WHARF_REGISTRY] [default: http://127.0.0.1:8081]
    #[arg(
        long = "registry",
        env = "WHARF_REGISTRY",
        hide_env = true,
        value_name = "URL"
    )]
    url: Option<String>,
}

/// A version of a subject, with all it refers to.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) version: i32,
    pub(crate) source: Source,
}

/// What holds for a subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) level: Level,
    pub(crate) policy: Policy,
}

impl Registry {
    /// The one at this address.
    pub(crate) fn at(url: String) -> Self {
        Self { url: Some(url) }
    }

    /// Asks, and gives the body of a good answer; none for 404.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Option<Value>> {
        let url = self.url.as_deref().unwrap_or("http://127.0.0.1:8081");
        let place = url.strip_prefix("http://").unwrap_or(url);
        if place.contains("://") {
            return Err(Usage(format!("{url} is no http:// address")).into());
        }
        let (host, prefix) = place.split_once('/').unwrap_or((place, ""));
        let host = match host.contains(':') {
            true => host.to_owned(),
            false => format!("{host}:80"),
        };
        let prefix = match prefix.trim_end_matches('/') {
            "" => String::new(),
            prefix => format!("/{prefix}"),
        };
        let answer = exchange(&host, method, &format!("{prefix}{path}"), body, WAIT);
        let answer = answer.map_err(|error| {
            Problem::new(
                Code::BROKER_UNREACHABLE,
                format!("the schema registry at {url} cannot be asked"),
                error.to_string(),
                "start the node, or say where the registry is with --registry or WHARF_REGISTRY",
            )
        })?;
        if answer.status < 300 {
            return Ok(Some(answer.body));
        }
        if answer.status == 404 {
            return Ok(None);
        }
        let message = answer.body["message"]
            .as_str()
            .unwrap_or("it does not say why");
        let code = answer.body["error_code"].as_i64().unwrap_or_default();
        let fix = match answer.status {
            409 => "`wharf schema diff` and `wharf schema impact` show what breaks and for whom",
            _ => "the registry's own message says what it wants",
        };
        let what = format!("the registry refused with {code}");
        Err(Problem::plain(what, message, fix).into())
    }

    /// The versions of a subject that are not deleted, oldest first; only the newest if so asked.
    pub(crate) fn versions(&self, subject: &str, all: bool) -> anyhow::Result<Vec<Version>> {
        let subject_path = format!("/subjects/{}/versions", encoded(subject));
        let Some(Value::Array(numbers)) = self.ask("GET", &subject_path, None)? else {
            return Ok(Vec::new());
        };
        let numbers: Vec<i64> = numbers.iter().filter_map(Value::as_i64).collect();
        let skipped = match all {
            true => 0,
            false => numbers.len().saturating_sub(1),
        };
        let mut versions = Vec::new();
        for number in numbers.into_iter().skip(skipped) {
            if let Some((version, source)) = self.version(subject, &number.to_string())? {
                versions.push(Version { version, source });
            }
        }
        Ok(versions)
    }

    /// One version, with all it refers to.
    pub(crate) fn version(
        &self,
        subject: &str,
        version: &str,
    ) -> anyhow::Result<Option<(i32, Source)>> {
        let path = format!("/subjects/{}/versions/{version}", encoded(subject));
        let Some(body) = self.ask("GET", &path, None)? else {
            return Ok(None);
        };
        let number = body["version"]
            .as_i64()
            .and_then(|number| number.try_into().ok());
        let number = number.context("the registry gave a version without its number")?;
        let kind = match body["schemaType"].as_str() {
            None => SchemaType::Avro,
            Some(kind) => kind.parse().map_err(Usage)?,
        };
        let text = body["schema"]
            .as_str()
            .context("the registry gave no schema")?;
        let references: Vec<Reference> = match body.get("references") {
            None | Some(Value::Null) => Vec::new(),
            Some(references) => serde_json::from_value(references.clone())?,
        };
        let source = Source {
            kind,
            text: text.to_owned(),
            dependencies: self.dependencies(&references)?,
        };
        Ok(Some((number, source)))
    }

    /// The texts behind references, each after those it refers to itself.
    pub(crate) fn dependencies(&self, references: &[Reference]) -> anyhow::Result<Vec<Dependency>> {
        let mut gathered = Gathered {
            registry: self,
            known: HashMap::new(),
            dependencies: Vec::new(),
        };
        gathered.add(references, 0)?;
        Ok(gathered.dependencies)
    }

    /// The level and the policy that hold for a subject.
    pub(crate) fn rule(&self, subject: &str) -> anyhow::Result<Rule> {
        let path = format!("/config/{}?defaultToGlobal=true", encoded(subject));
        let body = self.ask("GET", &path, None)?.unwrap_or_else(|| json!({}));
        let level = body["compatibilityLevel"].as_str().unwrap_or("BACKWARD");
        let policy = match body["compatibilityPolicy"].as_str() {
            Some("LENIENT") => Policy::Lenient,
            _ => Policy::Strict,
        };
        Ok(Rule {
            level: level.parse().map_err(anyhow::Error::msg)?,
            policy,
        })
    }
}

struct Gathered<'a> {
    registry: &'a Registry,
    known: HashMap<(String, i32), ()>,
    dependencies: Vec<Dependency>,
}

impl Gathered<'_> {
    fn add(&mut self, references: &[Reference], depth: usize) -> anyhow::Result<()> {
        for reference in references {
            let key = (reference.subject.clone(), reference.version);
            if self.known.insert(key, ()).is_some() {
                continue;
            }
            anyhow::ensure!(
                self.known.len() <= REFERENCES_MAX && depth < 64,
                "the schema refers to too many others"
            );
            let path = format!(
                "/subjects/{}/versions/{}",
                encoded(&reference.subject),
                reference.version
            );
            let body = self.registry.ask("GET", &path, None)?.ok_or_else(|| {
                let Reference {
                    name,
                    subject,
                    version,
                } = reference;
                Usage(format!(
                    "{name} is {subject}, version {version}, which is not there"
                ))
            })?;
            if let Some(inner) = body.get("references").filter(|inner| inner.is_array()) {
                self.add(&serde_json::from_value::<Vec<_>>(inner.clone())?, depth + 1)?;
            }
            self.dependencies.push(Dependency {
                name: reference.name.clone(),
                text: body["schema"].as_str().unwrap_or_default().to_owned(),
            });
        }
        Ok(())
    }
}

/// `name=subject:version` of the command line.
pub(crate) fn reference(text: &str) -> Result<Reference, String> {
    let parts = text.split_once('=');
    let parts = parts.and_then(|(name, rest)| Some((name, rest.rsplit_once(':')?)));
    let (name, (subject, version)) =
        parts.ok_or_else(|| format!("{text} is not NAME=SUBJECT:VERSION"))?;
    let version = match version {
        "latest" => -1,
        number => number
            .parse()
            .map_err(|_no| format!("{number} is no version"))?,
    };
    Ok(Reference {
        name: name.to_owned(),
        subject: subject.to_owned(),
        version,
    })
}

/// A name as a part of a path.
pub(crate) fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let mut text = String::new();
    for byte in name.bytes() {
        match plain(byte) {
            true => text.push(char::from(byte)),
            // Writing to a string does not fail.
            false => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

//! Putting the layers together: defaults < file < environment < flags, with an origin for each.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::providers::Serialized;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use wharf_message::Code;

use super::check;
use super::file::File;
use super::settings::{Config, Relay};
use crate::Problem;

/// The file read when it exists and no other is named.
const DEFAULT_FILE: &str = "wharf.toml";
/// What every variable of ours starts with.
const PREFIX: &str = "WHARF_";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag on the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("the default"),
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Variable(name) => write!(formatter, "the environment variable {name}"),
            Self::Flag(name) => write!(formatter, "the flag {name}"),
        }
    }
}

/// A value given on the command line.
#[derive(Clone, Debug)]
pub struct Override {
    /// The setting, as `section.key`.
    pub key: &'static str,
    /// Its value as text.
    pub value: String,
    /// The flag that gave it, for error messages.
    pub flag: &'static str,
}

/// Everything a configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file; `None` reads none.
    pub file: Option<PathBuf>,
    /// The environment, as name and value.
    pub environment: Vec<(String, String)>,
    /// The flags.
    pub flags: Vec<Override>,
}

impl Sources {
    /// The sources of this process: `file`, or `wharf.toml` here if there is one; the environment.
    pub fn from_process(file: Option<PathBuf>, flags: Vec<Override>) -> Self {
        let file = file.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()));
        // A variable that is not Unicode cannot be one of ours by name, or fails as a value.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| {
                Some((
                    name.into_string().ok()?,
                    value.to_string_lossy().into_owned(),
                ))
            })
            .collect();
        Self {
            file,
            environment,
            flags,
        }
    }

    /// Merges and checks the layers.
    pub fn load(&self) -> Result<Loaded, Problem> {
        let known = Known::new();
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        let mut origins = BTreeMap::new();
        if let Some(path) = &self.file {
            let (values, found) = known.read_file(path)?;
            figment = figment.merge(Layer(values));
            origins.extend(found);
        }
        for (name, value) in &self.environment {
            if let Some(key) = known.variable(name)? {
                let origin = Origin::Variable(name.clone());
                figment = figment.merge(Layer(known.one(&key, value, &origin)?));
                origins.insert(key, origin);
            }
        }
        for Override { key, value, flag } in &self.flags {
            let origin = Origin::Flag(flag);
            figment = figment.merge(Layer(known.one(key, value, &origin)?));
            origins.insert((*key).to_owned(), origin);
        }
        let config = figment
            .extract()
            .map_err(|error| invalid(&error, &origins))?;
        let loaded = Loaded { config, origins };
        check::check(&loaded)?;
        Ok(loaded)
    }
}

/// A configuration, with the origin of each value that is not a default.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The merged and checked configuration.
    pub config: Config,
    origins: BTreeMap<String, Origin>,
}

impl Loaded {
    /// A configuration without sources.
    pub(super) fn made(config: Config) -> Self {
        Self {
            config,
            origins: BTreeMap::new(),
        }
    }

    /// Where the value of `section.key` comes from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }
}

/// One layer's values, already nested by section.
struct Layer(Dict);

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named("configuration")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.0.clone()))
    }
}

/// What every setting of a relay begins with.
const RELAY: &str = "relay.";

/// The settings there are, with the kind of value each of them takes.
struct Known {
    /// By `section.key`.
    settings: BTreeMap<String, Value>,
    /// Those of every relay, by key.
    relay: BTreeMap<String, Value>,
}

impl Known {
    fn new() -> Self {
        let defaults = Value::serialize(Config::default())
            .expect("plain structs of texts, numbers and booleans always serialize");
        let sections = defaults.into_dict().unwrap_or_default();
        let keys = sections.into_iter().flat_map(|(section, values)| {
            let values = values.into_dict().unwrap_or_default();
            values
                .into_iter()
                .map(move |(key, value)| (format!("{section}.{key}"), value))
        });
        let settings = keys.collect();
        let relay = Value::serialize(Relay::default())
            .expect("plain structs of texts, numbers and booleans always serialize");
        let relay = relay.into_dict().unwrap_or_default().into_iter().collect();
        Self { settings, relay }
    }

    /// The kind of value that a setting takes; `None` when there is none of that name.
    fn kind(&self, key: &str) -> Option<&Value> {
        match key.strip_prefix(RELAY) {
            Some(rest) => {
                let (name, key) = rest.split_once('.')?;
                self.relay.get(key).filter(|_| is_relay_name(name))
            }
            None => self.settings.get(key),
        }
    }

    /// The settings that a key may have been meant for.
    fn candidates(&self, key: &str) -> Vec<String> {
        let relay = key
            .strip_prefix(RELAY)
            .and_then(|rest| rest.split_once('.'));
        match relay {
            Some((name, _)) => {
                let keys = self.relay.keys();
                keys.map(|key| format!("{RELAY}{name}.{key}")).collect()
            }
            None => self.settings.keys().cloned().collect(),
        }
    }

    fn read_file(&self, path: &Path) -> Result<(Dict, BTreeMap<String, Origin>), Problem> {
        let file = File::read(path)?;
        let origin = |key: &str| {
            let line = file.lines.get(key).copied().unwrap_or(1);
            Origin::File {
                path: path.to_owned(),
                line,
            }
        };
        let mut origins = BTreeMap::new();
        for (section, values) in &file.values {
            let Value::Dict(_, values) = values else {
                return Err(self.unknown(section, section, &origin(section)));
            };
            if section == "relay" {
                self.read_relays(values, &origin, &mut origins)?;
                continue;
            }
            if values.is_empty() && !self.has_section(section) {
                return Err(self.unknown(section, section, &origin(section)));
            }
            for key in values.keys() {
                let key = format!("{section}.{key}");
                if self.kind(&key).is_none() {
                    return Err(self.unknown(&key, &key, &origin(&key)));
                }
                origins.insert(key.clone(), origin(&key));
            }
        }
        Ok((file.values, origins))
    }

    /// The tables `[relay.<name>]`.
    fn read_relays(
        &self,
        relays: &Dict,
        origin: &impl Fn(&str) -> Origin,
        origins: &mut BTreeMap<String, Origin>,
    ) -> Result<(), Problem> {
        for (name, values) in relays {
            let table = format!("{RELAY}{name}");
            let Value::Dict(_, values) = values else {
                let fix =
                    format!("write it in a table with the relay's name: [relay.orders] {name} = …");
                return Err(Problem::new(
                    Code::INVALID_CONFIGURATION,
                    format!("the key `{table}` belongs to no relay"),
                    format!("{} sets it outside of any relay's table", origin(&table)),
                    fix,
                ));
            };
            if !is_relay_name(name) {
                let reason = "a relay's name has lower-case letters, digits and `-`, at most 50";
                return Err(bad_value(&table, reason, &origin(&table)));
            }
            for key in values.keys() {
                let key = format!("{table}.{key}");
                if self.kind(&key).is_none() {
                    return Err(self.unknown(&key, &key, &origin(&key)));
                }
                origins.insert(key.clone(), origin(&key));
            }
        }
        Ok(())
    }

    fn has_section(&self, section: &str) -> bool {
        let of = |key: &String| {
            key.split_once('.')
                .is_some_and(|(known, _)| known == section)
        };
        section == "relay" || self.settings.keys().any(of)
    }

    /// The setting that the variable `name` means; `None` when it is not one of ours.
    ///
    /// `WHARF_KAFKA_LISTEN` (one underscore) is a slip, not somebody else's variable.
    fn variable(&self, name: &str) -> Result<Option<String>, Problem> {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            return Ok(None);
        };
        let spelled = |text: &str| text.to_ascii_lowercase().replace('_', "-");
        let origin = Origin::Variable(name.to_owned());
        if let Some((section, key)) = rest.split_once("__") {
            // WHARF_RELAY__ORDERS__URL
            let key = spelled(key).replacen("--", ".", 1);
            let key = format!("{}.{key}", spelled(section));
            if self.kind(&key).is_none() {
                return Err(self.unknown(name, &key, &origin));
            }
            return Ok(Some(key));
        }
        match rest.split_once('_') {
            Some((section, key)) if self.has_section(&spelled(section)) => {
                let key = format!("{}.{}", spelled(section), spelled(key));
                Err(self.unknown(name, &key, &origin))
            }
            _ => Ok(None),
        }
    }

    /// A layer of one value, read as the kind of value the setting takes.
    fn one(&self, key: &str, text: &str, origin: &Origin) -> Result<Dict, Problem> {
        // The parser's own words say less than what is expected.
        let bad = |expected: &str| bad_value(key, &format!("{text:?} is not {expected}"), origin);
        let value = match self.kind(key) {
            Some(Value::Bool(..)) => Value::from(
                text.parse::<bool>()
                    .ok()
                    .ok_or_else(|| bad("true or false"))?,
            ),
            Some(Value::Num(..)) => Value::from(
                text.parse::<u64>()
                    .ok()
                    .ok_or_else(|| bad("a whole number"))?,
            ),
            _ => Value::from(text),
        };
        // Sections within sections, from the inside out.
        let mut parts = key.rsplit('.');
        let innermost = parts.next().unwrap_or(key);
        let values = Dict::from([(innermost.to_owned(), value)]);
        let nest = |values, section: &str| Dict::from([(section.to_owned(), Value::from(values))]);
        Ok(parts.fold(values, nest))
    }

    /// The problem of a key that does not exist; `written` is how it was spelled.
    fn unknown(&self, written: &str, key: &str, origin: &Origin) -> Problem {
        // A key outside of any section is compared with the keys inside as well.
        let likeness = |known: &str| {
            let bare = known.split_once('.').filter(|_| !key.contains('.'));
            let inside = bare.map_or(0.0, |(_, bare)| strsim::jaro_winkler(bare, key));
            strsim::jaro_winkler(known, key).max(inside)
        };
        let candidates = self.candidates(key);
        let nearest = candidates.iter().map(|known| (likeness(known), known));
        let nearest = nearest.max_by(|one, other| one.0.total_cmp(&other.0));
        let nearest = nearest
            .filter(|(likeness, _)| *likeness > 0.8)
            .map(|(_, known)| known);
        let guess = nearest.map(|known| match origin {
            Origin::Variable(_) => {
                let name = known
                    .replace('.', "__")
                    .replace('-', "_")
                    .to_ascii_uppercase();
                format!("did you mean {PREFIX}{name}? ")
            }
            _ => format!("did you mean `{known}`? "),
        });
        let fix = guess.unwrap_or_default() + "`wharf config reference` lists every setting";
        Problem::new(
            Code::INVALID_CONFIGURATION,
            format!("the configuration has an unknown key `{written}`"),
            format!("{origin} sets it, and there is no setting of that name"),
            fix,
        )
    }
}

/// Whether a relay may have this name: it becomes a part of the names of topics and slots.
pub(super) fn is_relay_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=50).contains(&name.len()) && name.bytes().all(allowed)
}

/// The problem of a setting whose value cannot be used.
pub(super) fn bad_value(key: &str, reason: &str, origin: &Origin) -> Problem {
    Problem::new(
        Code::INVALID_CONFIGURATION,
        format!("the setting `{key}` has an invalid value"),
        format!("{reason} (set by {origin})"),
        "correct the value; `wharf config reference` describes every setting",
    )
}

/// What figment found wrong while filling the structs.
fn invalid(error: &figment::Error, origins: &BTreeMap<String, Origin>) -> Problem {
    let key = error.path.join(".");
    let origin = origins.get(&key).unwrap_or(&Origin::Default);
    bad_value(&key, &error.kind.to_string(), origin)
}

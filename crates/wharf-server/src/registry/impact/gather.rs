//! Gathering the evidence for a report: the registry's versions, the broker's groups and records, the
//! catalogue. Every fact says where it was seen; what could not be looked at is a sentence.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use wharf_broker::{Broker, Context, Topic, TopicRef};
use wharf_schema::Dependency;
use wharf_schema::compat::Policy;
use wharf_schema::impact::{
    Catalogue, Committed, Declared, Evidence, Fetch, Group, Member, Proposed, Referrer, Rule,
    Version,
};
use wharf_schema::model::{Level, Reference, SchemaType};
use wharf_schema::registry::{Filter, Page, Refusal, Registered, Registry, Subject, VersionSpec};

use super::scan::{Budget, Part, Scans};
use crate::clock;
use crate::registry::Use;

/// How many schemas one schema may refer to, directly or not.
const REFERENCES_MAX: usize = 1_000;
/// How long a scan may take when it is not told.
const SCAN_TIME: Duration = Duration::from_secs(5);
/// The longest it may be told to take.
const SCAN_TIME_MAX: Duration = Duration::from_secs(60);
/// How much a scan may read.
const SCAN_BYTES: u64 = 512 << 20;

/// What is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Asked {
    /// The subject.
    pub(super) subject: String,
    /// The proposed text.
    pub(super) schema: String,
    /// Its kind.
    #[serde(default)]
    schema_type: SchemaType,
    /// What it refers to.
    #[serde(default)]
    references: Vec<Reference>,
    /// The level, instead of the subject's.
    level: Option<Level>,
    /// The policy, instead of the subject's.
    policy: Option<Policy>,
    /// The topics, instead of those that the subject's name says.
    #[serde(default)]
    topics: Vec<String>,
    /// What to call the text.
    file: Option<String>,
    /// What a catalogue beside the node's own says.
    catalogue: Option<Vec<Declared>>,
    /// How long to look through records, in milliseconds.
    scan_ms: Option<u64>,
}

/// Where evidence is.
pub(super) struct Sources<'a> {
    pub(super) registry: &'a Registry,
    pub(super) uses: Vec<Use>,
    pub(super) broker: &'a Broker,
    pub(super) scans: &'a Scans,
    pub(super) catalogue: Option<&'a Path>,
}

impl Sources<'_> {
    /// All of it. Reads the disk, so it belongs to a blocking worker.
    pub(super) fn gather(&self, asked: Asked) -> Result<Evidence, Refusal> {
        let subject = Subject::parse(&asked.subject);
        subject.check()?;
        let mut missing = Vec::new();
        let dependencies = self.dependencies_of(&subject, &asked.references, &mut missing);
        let topics = self.topics(&subject, &asked, &mut missing);
        let names: Vec<String> = topics.iter().map(|topic| topic.name.to_string()).collect();
        let catalogue = self.declared(&asked, &names, &mut missing);
        let rule = self.rule(&subject, &asked);
        let versions = self.versions(&subject, &rule, &mut missing);
        let time = asked.scan_ms.map_or(SCAN_TIME, Duration::from_millis);
        let mut budget = Budget::new(SCAN_BYTES, time.min(SCAN_TIME_MAX));
        let topics = topics
            .iter()
            .map(|topic| self.topic(&subject, topic, &mut budget))
            .collect();
        Ok(Evidence {
            taken_at: clock::now().as_millis(),
            rule,
            topics,
            catalogue,
            fetches: self.fetches(&subject, &versions),
            referrers: self.referrers(&subject, &versions),
            neighbours: self.neighbours(&subject, &names),
            proposed: Proposed {
                subject: asked.subject,
                kind: asked.schema_type,
                text: asked.schema,
                dependencies,
                file: asked.file,
            },
            versions,
            missing,
        })
    }

    fn rule(&self, subject: &Subject, asked: &Asked) -> Rule {
        let config = self.registry.config_in_scope(subject);
        // Who set it: the nearest scope whose own configuration has it.
        let whose = |has: &dyn Fn(&wharf_schema::registry::Config) -> bool| {
            let scopes = [
                (subject.clone(), format!("the subject {}", subject.as_str())),
                (
                    Subject::context_only(subject.context()),
                    match subject.is_qualified() {
                        true => format!("the context {}", subject.context()),
                        false => "the global configuration".to_owned(),
                    },
                ),
                (
                    Subject::global(),
                    "the configuration of all contexts".to_owned(),
                ),
            ];
            let mut scopes = scopes.into_iter();
            let found = scopes.find(|(scope, _)| {
                let own = self.registry.config(scope, false);
                own.is_ok_and(|config| has(&config))
            });
            found.map_or_else(|| "the default".to_owned(), |(_, name)| name)
        };
        let (level, level_from) = match asked.level {
            Some(level) => (level, "the request".to_owned()),
            None => (
                config.compatibility_level.unwrap_or_default(),
                whose(&|config| config.compatibility_level.is_some()),
            ),
        };
        let (policy, policy_from) = match asked.policy {
            Some(policy) => (policy, "the request".to_owned()),
            None => (
                config.policy(),
                whose(&|config| config.compatibility_policy.is_some()),
            ),
        };
        Rule {
            level,
            level_from,
            policy,
            policy_from,
            group: config.compatibility_group.filter(|group| !group.is_empty()),
        }
    }

    fn versions(&self, subject: &Subject, rule: &Rule, missing: &mut Vec<String>) -> Vec<Version> {
        let history = self.registry.history(subject);
        // The proposed schema has no metadata of its own, and so no value of the group's property.
        let in_group = |version: &Registered| {
            let group = rule.group.as_deref();
            group.is_none_or(|name| version.content.property(name).is_none())
        };
        let version = |registered: &Registered| {
            let others = self
                .registry
                .versions_of_id(registered.id, Some(subject), true)
                .unwrap_or_default();
            let others = others
                .iter()
                .filter(|other| other.subject != registered.subject);
            let others: BTreeSet<String> = others.map(|other| other.subject.to_string()).collect();
            let references = &registered.content.references;
            Version {
                version: registered.version,
                id: registered.id,
                kind: registered.content.schema_type,
                text: registered.content.schema.to_string(),
                dependencies: self.dependencies_of(subject, references, missing),
                deleted: registered.deleted,
                compared: in_group(registered),
                shared_with: others.into_iter().collect(),
            }
        };
        history.iter().map(version).collect()
    }

    /// The texts behind references, each after those it refers to itself.
    fn dependencies_of(
        &self,
        subject: &Subject,
        references: &[Reference],
        missing: &mut Vec<String>,
    ) -> Vec<Dependency> {
        let mut dependencies: Vec<Dependency> = Vec::new();
        // Each twice: once to look at what it refers to, and then to be taken itself.
        let mut left: Vec<(Reference, Option<Registered>)> = references
            .iter()
            .rev()
            .map(|reference| (reference.clone(), None))
            .collect();
        let mut seen = BTreeSet::new();
        while let Some((reference, found)) = left.pop() {
            if let Some(found) = found {
                dependencies.push(Dependency {
                    name: reference.name,
                    text: found.content.schema.to_string(),
                });
                continue;
            }
            if seen.len() >= REFERENCES_MAX || !seen.insert(reference.name.clone()) {
                continue;
            }
            let target = Subject::parse(&reference.subject).within(subject.context());
            let version = match reference.version {
                -1 => VersionSpec::Latest,
                number => VersionSpec::Number(number),
            };
            match self.registry.version(&target, version, true) {
                Ok(found) => {
                    let inner = found.content.references.clone();
                    left.push((reference, Some(found)));
                    left.extend(inner.into_iter().rev().map(|inner| (inner, None)));
                }
                Err(_none) => missing.push(format!(
                    "{} refers to {} version {}, which is not there",
                    reference.name, reference.subject, reference.version
                )),
            }
        }
        dependencies
    }

    /// The topics that were asked for, or the one that the subject is named after.
    fn topics(
        &self,
        subject: &Subject,
        asked: &Asked,
        missing: &mut Vec<String>,
    ) -> Vec<Arc<Topic>> {
        if !asked.topics.is_empty() {
            let mut found = Vec::new();
            for name in &asked.topics {
                match self.broker.topic(&TopicRef::Name(name.clone())) {
                    Ok(topic) => found.push(topic),
                    Err(_none) => missing.push(format!("there is no topic {name}")),
                }
            }
            return found;
        }
        let name = subject.name();
        let begins = |topic: &Arc<Topic>| {
            let rest = name.strip_prefix(topic.name.as_str());
            rest.is_some_and(|rest| rest.starts_with('-'))
        };
        let all = self.broker.topics();
        let longest = all.iter().filter(|topic| begins(topic));
        let longest = longest.max_by_key(|topic| topic.name.as_str().len());
        longest.cloned().into_iter().collect()
    }

    fn topic(
        &self,
        subject: &Subject,
        topic: &Topic,
        budget: &mut Budget,
    ) -> wharf_schema::impact::Topic {
        let part = match subject.name().strip_prefix(topic.name.as_str()) {
            Some("-key") => Part::Key,
            _ => Part::Value,
        };
        let context = subject.context().to_owned();
        let id_of = |guid| {
            let ids = self.registry.ids_of_guid(guid);
            let mut ids = ids.into_iter();
            ids.find(|(of, _)| *of == context).map(|(_, id)| id)
        };
        let partitions = self.scans.scan(self.broker, topic, part, budget, &id_of);
        let age = topic.config.retention.age.filter(|_| topic.config.delete);
        let overrides = &topic.config.overrides;
        wharf_schema::impact::Topic {
            name: topic.name.to_string(),
            retention_ms: age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
            is_compacted: topic.config.compact,
            validation: overrides.get("wharf.schema.validation").cloned(),
            partitions,
            groups: self.groups(topic),
        }
    }

    fn groups(&self, topic: &Topic) -> Vec<Group> {
        let cx = Context::internal("registry");
        let readers = self.broker.readers(&cx, &TopicRef::Id(topic.id));
        let group = |reader: wharf_broker::group::TopicReader| {
            let members = reader.members.into_iter();
            let mut members: Vec<Member> = members
                .map(|(client_id, host)| Member { client_id, host })
                .collect();
            members.sort();
            let offsets = reader.offsets.into_iter().map(|offset| Committed {
                partition: offset.partition,
                offset: offset.offset,
                at: Some(offset.committed_at.as_millis()),
            });
            Group {
                name: reader.group,
                state: reader.state.to_owned(),
                members,
                offsets: offsets.collect(),
            }
        };
        readers.unwrap_or_default().into_iter().map(group).collect()
    }

    fn declared(
        &self,
        asked: &Asked,
        topics: &[String],
        missing: &mut Vec<String>,
    ) -> Option<Vec<Declared>> {
        let own = self.catalogue.and_then(|path| {
            let declared = read_catalogue(path, &asked.subject, topics);
            declared.map_err(|reason| missing.push(reason)).ok()
        });
        match (own, asked.catalogue.clone()) {
            (None, None) => None,
            (own, asked) => Some(own.into_iter().chain(asked).flatten().collect()),
        }
    }

    fn fetches(&self, subject: &Subject, versions: &[Version]) -> Vec<Fetch> {
        let ids: BTreeSet<i32> = versions.iter().map(|version| version.id).collect();
        let of_subject = |used: &&Use| used.context == subject.context() && ids.contains(&used.id);
        let fetch = |used: &Use| {
            let client = &used.client;
            let name = client.name.clone().or_else(|| client.version.clone());
            Fetch {
                id: used.id,
                client: match name {
                    Some(name) => format!("{name} from {}", client.peer),
                    None => format!("somebody from {}", client.peer),
                },
                at: used.last.as_millis(),
                count: used.times,
            }
        };
        self.uses.iter().filter(of_subject).map(fetch).collect()
    }

    fn referrers(&self, subject: &Subject, versions: &[Version]) -> Vec<Referrer> {
        let mut all = Vec::new();
        for version in versions {
            let number = VersionSpec::Number(version.version);
            let users = self.registry.referrers(subject, number, false);
            all.extend(users.unwrap_or_default().iter().map(|user| Referrer {
                subject: user.subject.to_string(),
                version: user.version,
                uses: version.version,
            }));
        }
        all
    }

    /// Other subjects that are named after the topics.
    fn neighbours(&self, subject: &Subject, topics: &[String]) -> Vec<String> {
        let mut all = BTreeSet::new();
        for topic in topics {
            let prefix = format!("{}{topic}-", subject.context_prefix());
            let subjects = self.registry.subjects(
                &prefix,
                Filter::from_parameters(false, false),
                Page::default(),
            );
            all.extend(
                subjects
                    .into_iter()
                    .filter(|other| other != subject.as_str()),
            );
        }
        all.into_iter().collect()
    }
}

/// What the node's own catalogue says.
fn read_catalogue(path: &Path, subject: &str, topics: &[String]) -> Result<Vec<Declared>, String> {
    let name = path.display().to_string();
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path);
        text.map_err(|error| format!("the catalogue's {} cannot be read: {error}", path.display()))
    };
    let text = read(path)?;
    let catalogue: Catalogue = serde_yaml_ng::from_str(&text)
        .map_err(|error| format!("the catalogue {name} cannot be read: {error}"))?;
    let beside = path.parent().unwrap_or(Path::new(""));
    catalogue.declared(subject, topics, &name, |file| {
        let kind = match Path::new(file).extension().and_then(|end| end.to_str()) {
            Some("avsc") => SchemaType::Avro,
            Some("proto") => SchemaType::Protobuf,
            _ => SchemaType::Json,
        };
        Ok((kind, read(&beside.join(file))?))
    })
}

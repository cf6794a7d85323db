//! The words of a registry, in the form in which Confluent's API and topic have them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The language of a schema. Absent in the API and the topic, it is Avro.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum SchemaType {
    /// Apache Avro.
    #[default]
    Avro,
    /// JSON Schema.
    Json,
    /// Protocol Buffers.
    Protobuf,
}

impl SchemaType {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Avro, Self::Json, Self::Protobuf];

    /// As the API writes it: `AVRO`, `JSON`, `PROTOBUF`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Protobuf => "PROTOBUF",
        }
    }

    /// Whether it is Avro, which the API leaves unsaid.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub fn is_avro(&self) -> bool {
        *self == Self::Avro
    }
}

impl fmt::Display for SchemaType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for SchemaType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("{text} is no type of schema; there is AVRO, JSON and PROTOBUF"))
    }
}

/// Which direction is checked, and against how many versions.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    /// Nothing is checked.
    None,
    /// The new schema reads what the latest wrote: consumers are deployed first.
    #[default]
    Backward,
    /// The new schema reads what every version wrote.
    BackwardTransitive,
    /// The latest reads what the new schema writes: producers are deployed first.
    Forward,
    /// Every version reads what the new schema writes.
    ForwardTransitive,
    /// Both with the latest: any order of deployment.
    Full,
    /// Both with every version.
    FullTransitive,
}

impl Level {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Backward,
        Self::BackwardTransitive,
        Self::Forward,
        Self::ForwardTransitive,
        Self::Full,
        Self::FullTransitive,
    ];

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    /// Whether the new schema must read the old.
    pub fn is_backward(self) -> bool {
        matches!(
            self,
            Self::Backward | Self::BackwardTransitive | Self::Full | Self::FullTransitive
        )
    }

    /// Whether the old must read the new schema.
    pub fn is_forward(self) -> bool {
        matches!(
            self,
            Self::Forward | Self::ForwardTransitive | Self::Full | Self::FullTransitive
        )
    }

    /// Whether every live version is compared, not the latest alone.
    pub fn is_transitive(self) -> bool {
        matches!(
            self,
            Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive
        )
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::as_str).join(", ");
                format!("{text} is no compatibility level; there is {known}")
            })
    }
}

/// A schema that another one uses, by the name it uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// A full name (Avro), a URI (JSON Schema), an import path (Protobuf).
    pub name: String,
    /// Where the schema is.
    pub subject: String,
    /// Which of its versions; -1 is the latest.
    pub version: i32,
}

/// What is said about a schema beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Tags by path into the schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, BTreeSet<String>>>,
    /// Names and values; `confluent:…` have a meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<BTreeMap<String, String>>,
    /// The names of properties that must not be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitive: Option<BTreeSet<String>>,
}

/// A rule that clients apply: a condition or a transformation. Stored and served, not run here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    /// Its name, unique in its list.
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
    /// `CONDITION` or `TRANSFORM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `UPGRADE`, `DOWNGRADE`, `UPDOWN`, `WRITE`, `READ` or `WRITEREAD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The executor: `CEL`, `JSONATA`, `ENCRYPT` and others.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
    /// The tags of the fields it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeSet<String>>,
    /// The executor's parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<BTreeMap<String, String>>,
    /// The expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expr: Option<String>,
    /// What follows when it succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_success: Option<String>,
    /// What follows when it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// Whether it is switched off.
    pub disabled: bool,
}

/// The rules of a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RuleSet {
    /// Between versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration_rules: Option<Vec<Rule>>,
    /// For records of one version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_rules: Option<Vec<Rule>>,
    /// For their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding_rules: Option<Vec<Rule>>,
    /// From when on they hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_at: Option<String>,
}

/// `new` over `old`: of what both have, the new one counts.
fn over<T: Clone>(
    old: Option<&Vec<T>>,
    new: Option<&Vec<T>>,
    same: impl Fn(&T, &T) -> bool,
) -> Option<Vec<T>> {
    match (old, new) {
        (Some(old), Some(new)) if !old.is_empty() && !new.is_empty() => {
            let kept = old.iter().filter(|o| !new.iter().any(|n| same(o, n)));
            Some(kept.chain(new).cloned().collect())
        }
        (old, Some(new)) if old.is_none() || !new.is_empty() => Some(new.clone()),
        (old, _) => old.cloned(),
    }
}

impl Metadata {
    /// Confluent's name for the version that a schema says it is.
    pub const VERSION: &'static str = "confluent:version";
    /// Its name for the fields that must not be used.
    pub const RESERVED: &'static str = "confluent:reserved";

    /// `newer` over this: entries of both, and of those with one name, the newer one.
    #[must_use]
    pub fn merged(&self, newer: &Self) -> Self {
        fn union<C, T>(old: Option<&C>, new: Option<&C>) -> Option<C>
        where
            C: Clone + Extend<T> + IntoIterator<Item = T>,
        {
            let Some(old) = old else {
                return new.cloned();
            };
            let mut all = old.clone();
            all.extend(new.cloned().into_iter().flatten());
            Some(all)
        }
        Self {
            tags: union(self.tags.as_ref(), newer.tags.as_ref()),
            properties: union(self.properties.as_ref(), newer.properties.as_ref()),
            sensitive: union(self.sensitive.as_ref(), newer.sensitive.as_ref()),
        }
    }

    /// With a property set.
    #[must_use]
    pub fn with_property(mut self, name: &str, value: impl Into<String>) -> Self {
        let properties = self.properties.get_or_insert_default();
        properties.insert(name.to_owned(), value.into());
        self
    }

    /// Without a property; `None` if nothing is left.
    #[must_use]
    pub fn without_property(mut self, name: &str) -> Option<Self> {
        if let Some(properties) = &mut self.properties {
            properties.remove(name);
        }
        (!self.is_empty()).then_some(self)
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.tags.as_ref().is_none_or(BTreeMap::is_empty)
            && self.properties.as_ref().is_none_or(BTreeMap::is_empty)
            && self.sensitive.as_ref().is_none_or(BTreeSet::is_empty)
    }
}

impl Rule {
    fn with_defaults(mut self) -> Self {
        self.kind.get_or_insert_with(|| "TRANSFORM".to_owned());
        self.mode.get_or_insert_with(|| "WRITEREAD".to_owned());
        self
    }
}

impl RuleSet {
    /// All of them: migration, domain and encoding rules.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let lists = [
            &self.migration_rules,
            &self.domain_rules,
            &self.encoding_rules,
        ];
        lists.into_iter().flatten().flatten()
    }

    fn lists_mut(&mut self) -> [&mut Option<Vec<Rule>>; 3] {
        [
            &mut self.migration_rules,
            &mut self.domain_rules,
            &mut self.encoding_rules,
        ]
    }

    /// With what the API leaves unsaid in its rules: the kind `TRANSFORM` and the mode `WRITEREAD`.
    #[must_use]
    pub fn with_defaults(mut self) -> Self {
        for list in self.lists_mut() {
            *list = list
                .take()
                .map(|rules| rules.into_iter().map(Rule::with_defaults).collect());
        }
        self
    }

    /// `newer` over this: of rules with one name in one list, the newer one.
    #[must_use]
    pub fn merged(&self, newer: &Self) -> Self {
        let same = |a: &Rule, b: &Rule| a.name == b.name;
        let list = |old: &Option<Vec<Rule>>, new: &Option<Vec<Rule>>| {
            over(old.as_ref(), new.as_ref(), same)
        };
        Self {
            migration_rules: list(&self.migration_rules, &newer.migration_rules),
            domain_rules: list(&self.domain_rules, &newer.domain_rules),
            encoding_rules: list(&self.encoding_rules, &newer.encoding_rules),
            enable_at: newer.enable_at.clone().or_else(|| self.enable_at.clone()),
        }
    }

    /// Without the rules of these names.
    #[must_use]
    pub fn without(mut self, names: &[String]) -> Self {
        for rules in self.lists_mut().into_iter().flatten() {
            rules.retain(|rule| !names.contains(&rule.name));
        }
        self
    }

    /// Why it cannot be kept: a rule without a name or type, two of one name, or a mode of another
    /// list.
    pub fn check(&self) -> Result<(), String> {
        let lists: [(_, &[&str], _); 3] = [
            (
                &self.migration_rules,
                &["UPGRADE", "DOWNGRADE", "UPDOWN"],
                "Migration rules can only be UPGRADE, DOWNGRADE, UPDOWN",
            ),
            (
                &self.domain_rules,
                &["WRITE", "READ", "WRITEREAD"],
                "Domain rules can only be WRITE, READ, WRITEREAD",
            ),
            (
                &self.encoding_rules,
                &["WRITE", "READ", "WRITEREAD"],
                "Encoding rules can only be WRITE, READ, WRITEREAD",
            ),
        ];
        for (rules, modes, sentence) in lists {
            let mut names = BTreeSet::new();
            for rule in rules.iter().flatten() {
                rule.check()?;
                if !names.insert(&rule.name) {
                    return Err(format!("Found rule with duplicate name '{}'", rule.name));
                }
                if !modes.contains(&rule.mode.as_deref().unwrap_or("WRITEREAD")) {
                    return Err(sentence.to_owned());
                }
            }
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let mut letters = self.name.chars();
        match letters.next() {
            None => return Err("Empty rule name".to_owned()),
            Some(first) if first.is_alphabetic() || first == '_' => {}
            Some(_) => {
                return Err(format!(
                    "Illegal initial character in rule name: {}",
                    self.name
                ));
            }
        }
        if !letters.all(|letter| letter.is_alphanumeric() || letter == '_' || letter == '-') {
            return Err(format!("Illegal character in rule name: {}", self.name));
        }
        if self.executor.is_none() {
            return Err("Missing rule type".to_owned());
        }
        if let Some(kind) = &self.kind
            && !["CONDITION", "TRANSFORM"].contains(&kind.as_str())
        {
            return Err(format!("Unknown rule kind {kind}"));
        }
        Ok(())
    }
}

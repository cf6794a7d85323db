//! What is configured for a subject, a context or everything.

use serde::{Deserialize, Deserializer, Serialize};

use super::types::Refusal;
use crate::compat::Policy;
use crate::model::{Level, Metadata, RuleSet};

/// A configuration as it is stored and shown. What is absent is not configured at this place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// The subject that is meant instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The same for the keys of encrypted fields; stored and shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias_for_deks: Option<String>,
    /// Whether schemas are normalized before they are registered or looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// Whether reserved fields are checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_fields: Option<bool>,
    /// Whether new schemas are held to what old ones were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_new_schemas: Option<bool>,
    /// Whether rules are checked when they are registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_rules: Option<bool>,
    /// Which versions must be compatible, and in which direction.
    #[serde(
        alias = "compatibility",
        deserialize_with = "any_level",
        skip_serializing_if = "Option::is_none"
    )]
    pub compatibility_level: Option<Level>,
    /// How strictly: `STRICT` or `LENIENT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compatibility_policy: Option<String>,
    /// The metadata property by which versions are divided; only those with the same value are
    /// compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compatibility_group: Option<String>,
    /// Metadata of every schema that does not say otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_metadata: Option<Metadata>,
    /// Metadata of every schema, whatever it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub override_metadata: Option<Metadata>,
    /// Rules of every schema that does not say otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_rule_set: Option<RuleSet>,
    /// Rules of every schema, whatever it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub override_rule_set: Option<RuleSet>,
}

/// Levels are written in either case; what is none is as if absent, because the record that has it
/// may have much else.
fn any_level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Level>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

impl Config {
    /// How strictly differences are judged.
    pub fn policy(&self) -> Policy {
        match self.compatibility_policy.as_deref() {
            Some(name) if name.eq_ignore_ascii_case("LENIENT") => Policy::Lenient,
            _ => Policy::Strict,
        }
    }

    /// Whether metadata or rules come from here.
    pub fn has_defaults(&self) -> bool {
        self.default_metadata.is_some()
            || self.override_metadata.is_some()
            || self.default_rule_set.is_some()
            || self.override_rule_set.is_some()
    }
}

/// A field of an update: absent leaves what is there, `null` clears it.
type Field<T> = Option<Option<T>>;

/// A change of a configuration, as `PUT /config` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConfigUpdate {
    /// See [`Config`].
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub alias: Field<String>,
    /// See [`Config`].
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub alias_for_deks: Field<String>,
    /// See [`Config`].
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub normalize: Field<bool>,
    /// See [`Config`].
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub validate_fields: Field<bool>,
    /// See [`Config`].
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub validate_new_schemas: Field<bool>,
    /// See [`Config`].
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub validate_rules: Field<bool>,
    /// The level; the API takes it and gives it back as `compatibility`.
    #[serde(
        rename = "compatibility",
        alias = "compatibilityLevel",
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    pub compatibility: Field<String>,
    /// See [`Config`].
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub compatibility_policy: Field<String>,
    /// See [`Config`].
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub compatibility_group: Field<String>,
    /// See [`Config`].
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub default_metadata: Field<Metadata>,
    /// See [`Config`].
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub override_metadata: Field<Metadata>,
    /// See [`Config`].
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub default_rule_set: Field<RuleSet>,
    /// See [`Config`].
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub override_rule_set: Field<RuleSet>,
}

/// Tells `null` from absent.
fn given<'de, D, T>(deserializer: D) -> Result<Field<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

impl ConfigUpdate {
    /// The level and nothing else.
    pub fn level(level: Level) -> Self {
        Self {
            compatibility: Some(Some(level.as_str().to_owned())),
            ..Self::default()
        }
    }

    /// `old` with this change. Refused with 42203 for a level or a policy that there is not.
    pub fn onto(&self, old: Config) -> Result<Config, Refusal> {
        fn set<T: Clone>(place: &mut Option<T>, field: &Field<T>) {
            if let Some(value) = field {
                place.clone_from(value);
            }
        }
        let mut config = old;
        if let Some(level) = &self.compatibility {
            config.compatibility_level = level.as_deref().map(read_level).transpose()?;
        }
        if let Some(Some(policy)) = &self.compatibility_policy
            && !["STRICT", "LENIENT"].contains(&policy.to_ascii_uppercase().as_str())
        {
            return Err(Refusal::new(
                42203,
                format!(
                    "Invalid compatibility policy {policy}. Valid values are STRICT and LENIENT"
                ),
            ));
        }
        set(&mut config.alias, &self.alias);
        set(&mut config.alias_for_deks, &self.alias_for_deks);
        set(&mut config.normalize, &self.normalize);
        set(&mut config.validate_fields, &self.validate_fields);
        set(&mut config.validate_new_schemas, &self.validate_new_schemas);
        set(&mut config.validate_rules, &self.validate_rules);
        set(&mut config.compatibility_policy, &self.compatibility_policy);
        set(&mut config.compatibility_group, &self.compatibility_group);
        set(&mut config.default_metadata, &self.default_metadata);
        set(&mut config.override_metadata, &self.override_metadata);
        set(&mut config.default_rule_set, &self.default_rule_set);
        set(&mut config.override_rule_set, &self.override_rule_set);
        Ok(config)
    }
}

fn read_level(text: &str) -> Result<Level, Refusal> {
    let known = |level: &Level| level.as_str().eq_ignore_ascii_case(text);
    Level::ALL.into_iter().find(known).ok_or_else(|| {
        Refusal::new(
            42203,
            "Invalid compatibility level. Valid values are none, backward, forward, full, \
             backward_transitive, forward_transitive, and full_transitive",
        )
    })
}

//! The identity of a schema by what it says: MD5 over text, references, metadata and rules.
//!
//! The layout is Confluent's, byte for byte, so that a GUID means the same schema in every registry.
//! It knows nothing of the kind of schema: two kinds with one text have one GUID.

use md5::{Digest, Md5};
use uuid::Uuid;

use crate::model::{Metadata, Reference, Rule, RuleSet};

/// The GUID of a schema. Its 16 bytes are also what `_schemas` keeps as `md5`.
pub fn guid(
    text: &str,
    references: &[Reference],
    metadata: Option<&Metadata>,
    rule_set: Option<&RuleSet>,
) -> Uuid {
    let mut hash = Md5::new();
    hash.update(text);
    for reference in references {
        hash.update(&reference.name);
        hash.update(&reference.subject);
        hash.update(reference.version.to_be_bytes());
    }
    if let Some(metadata) = metadata {
        hash.update([1]);
        hash_metadata(&mut hash, metadata);
    }
    if let Some(rules) = rule_set {
        hash.update([1]);
        let lists = [
            &rules.migration_rules,
            &rules.domain_rules,
            &rules.encoding_rules,
        ];
        for rule in lists.into_iter().flatten().flatten() {
            hash_rule(&mut hash, rule);
        }
        hash.update(rules.enable_at.as_deref().unwrap_or_default());
    }
    Uuid::from_bytes(hash.finalize().into())
}

fn hash_metadata(hash: &mut Md5, metadata: &Metadata) {
    for (path, tags) in metadata.tags.iter().flatten() {
        hash.update(path);
        for tag in tags {
            hash.update(tag);
        }
    }
    for (name, value) in metadata.properties.iter().flatten() {
        hash.update(name);
        hash.update(value);
    }
    for name in metadata.sensitive.iter().flatten() {
        hash.update(name);
    }
}

fn hash_rule(hash: &mut Md5, rule: &Rule) {
    let texts = [&rule.doc, &rule.kind, &rule.mode, &rule.executor];
    hash.update(&rule.name);
    for text in texts.into_iter().flatten() {
        hash.update(text);
    }
    for tag in rule.tags.iter().flatten() {
        hash.update(tag);
    }
    for (name, value) in rule.params.iter().flatten() {
        hash.update(name);
        hash.update(value);
    }
    for text in [&rule.expr, &rule.on_success, &rule.on_failure]
        .into_iter()
        .flatten()
    {
        hash.update(text);
    }
    if rule.disabled {
        hash.update([1]);
    }
}

//! A registry in this program: the same as the server's, without its topic. For tests.

use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use wharf_message::Timestamp;
use wharf_schema::Dependency;
use wharf_schema::registry::{
    LookupOptions, Refusal, RegisterOptions, Registered, Registration, Registry, Settings, Subject,
};
use wharf_schema::wire::SchemaId;

use super::SchemaError;
use super::store::{Kept, Named, Sent, Store};

/// How many schemas one refers to at most.
const DEPENDENCIES_MAX: usize = 1_000;

#[derive(Debug)]
pub(super) struct Memory(Mutex<Registry>);

impl Memory {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Registry::new(Settings::default())))
    }

    fn change(&self, subject: &str, sent: &Sent) -> Result<Named, Refusal> {
        let mut registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::ZERO;
        let decision = registry.register(
            &Subject::parse(subject),
            &registration(sent),
            RegisterOptions::default(),
            now,
        )?;
        for (key, value) in &decision.records {
            let offset = registry.next_offset();
            registry.apply(offset, now, Some(key), value.as_deref());
        }
        Ok(named(&decision.answer))
    }

    fn look(&self, subject: &str, sent: &Sent) -> Result<Named, Refusal> {
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = registry.lookup(
            &Subject::parse(subject),
            &registration(sent),
            LookupOptions::default(),
        )?;
        Ok(named(&found))
    }

    fn kept(&self, id: SchemaId) -> Result<Kept, Refusal> {
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match id {
            SchemaId::Id(id) => registry.by_id(id, None)?,
            SchemaId::Guid(guid) => registry.by_guid(guid)?,
        };
        let mut dependencies = Vec::new();
        gather(&registry, &found, &mut dependencies)?;
        Ok(Kept {
            kind: found.content.schema_type,
            text: found.content.schema.to_string(),
            dependencies,
            place: Some((found.subject.to_string(), found.version)),
        })
    }
}

/// What a version refers to, each after what it refers to itself. References are to what was there
/// before, so they have no circles; a diamond is gathered once.
fn gather(
    registry: &Registry,
    of: &Registered,
    gathered: &mut Vec<Dependency>,
) -> Result<(), Refusal> {
    for reference in &of.content.references {
        if gathered.iter().any(|known| known.name == reference.name) {
            continue;
        }
        if gathered.len() >= DEPENDENCIES_MAX {
            return Err(Refusal::new(42201, "it refers to too many schemas"));
        }
        let target = registry.reference_target(of, reference);
        let target = target.ok_or_else(|| Refusal::new(40402, "a reference leads nowhere"))?;
        gather(registry, &target, gathered)?;
        gathered.push(Dependency {
            name: reference.name.clone(),
            text: target.content.schema.to_string(),
        });
    }
    Ok(())
}

fn registration(sent: &Sent) -> Registration {
    Registration {
        references: sent.references.clone(),
        ..Registration::new(sent.kind, &*sent.text)
    }
}

fn named(found: &Registered) -> Named {
    Named {
        id: found.id,
        guid: Some(found.content.guid),
        version: found.version,
    }
}

fn refused(what: &str, refusal: Refusal) -> SchemaError {
    SchemaError::Refused {
        what: what.to_owned(),
        why: refusal.message,
    }
}

impl Store for Memory {
    fn register<'a>(
        &'a self,
        subject: &'a str,
        sent: &'a Sent,
    ) -> BoxFuture<'a, Result<Named, SchemaError>> {
        let done = self.change(subject, sent);
        let done = done.map_err(|refusal| refused(&format!("a version of {subject}"), refusal));
        Box::pin(std::future::ready(done))
    }

    fn find<'a>(
        &'a self,
        subject: &'a str,
        sent: &'a Sent,
    ) -> BoxFuture<'a, Result<Named, SchemaError>> {
        let done = self.look(subject, sent);
        let done = done.map_err(|refusal| refused(&format!("a version of {subject}"), refusal));
        Box::pin(std::future::ready(done))
    }

    fn get(&self, id: SchemaId) -> BoxFuture<'_, Result<Kept, SchemaError>> {
        let done = self.kept(id);
        let done = done.map_err(|refusal| refused(&format!("the schema of {id}"), refusal));
        Box::pin(std::future::ready(done))
    }
}

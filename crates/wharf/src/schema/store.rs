//! What the library asks of a registry, whatever it is reached through.

use futures_util::future::BoxFuture;
use uuid::Uuid;
use wharf_schema::Dependency;
use wharf_schema::model::{Reference, SchemaType};
use wharf_schema::wire::SchemaId;

use super::SchemaError;

/// A schema as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) kind: SchemaType,
    pub(super) text: String,
    pub(super) references: Vec<Reference>,
}

/// What a registry calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) id: i32,
    /// Older registries have none.
    pub(super) guid: Option<Uuid>,
    pub(super) version: i32,
}

/// A schema as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) kind: SchemaType,
    pub(super) text: String,
    /// What it refers to, each after what it refers to itself.
    pub(super) dependencies: Vec<Dependency>,
    /// Where it is found, if the registry says so: subject and version.
    pub(super) place: Option<(String, i32)>,
}

/// A registry. Whether a refusal is for good, [`SchemaError::is_transient`] says.
pub(super) trait Store: Send + Sync + std::fmt::Debug {
    /// Registers a schema, or finds it.
    fn register<'a>(
        &'a self,
        subject: &'a str,
        sent: &'a Sent,
    ) -> BoxFuture<'a, Result<Named, SchemaError>>;

    /// Finds a schema.
    fn find<'a>(
        &'a self,
        subject: &'a str,
        sent: &'a Sent,
    ) -> BoxFuture<'a, Result<Named, SchemaError>>;

    /// The schema that a record names.
    fn get(&self, id: SchemaId) -> BoxFuture<'_, Result<Kept, SchemaError>>;
}

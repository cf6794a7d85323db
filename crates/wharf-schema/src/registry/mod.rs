//! A schema registry as a view over the topic `_schemas`, and the decisions that go into it.
//!
//! [`Registry::apply`] replays a record. Every change is decided without being made: it gives the
//! records that must become durable, all at once, and the answer that is true then. A clone shares
//! everything until it is changed, so a writer decides several changes on a working copy, applying
//! the records of each, makes them durable together, and only then shows the copy to readers:
//!
//! ```
//! use wharf_message::Timestamp;
//! use wharf_schema::model::SchemaType;
//! use wharf_schema::registry::{Registration, Registry, Settings, Subject};
//!
//! let durable = Registry::new(Settings::default());
//! let now = Timestamp::from_millis(1);
//! let mut working = durable.clone();
//! let schema = Registration::new(SchemaType::Avro, r#""string""#);
//! let decision = working.register(&Subject::parse("orders-value"), &schema, Default::default(), now)?;
//! for (key, value) in &decision.records {
//!     working.apply(working.next_offset(), now, Some(key), value.as_deref());
//! }
//! assert_eq!(decision.answer.id, 1);
//! assert_eq!(durable.subjects_len(), 0);
//! assert_eq!(working.subjects_len(), 1);
//! # Ok::<(), wharf_schema::registry::Refusal>(())
//! ```
//!
//! Nothing here writes, waits or reads a clock, and nothing that stands in the topic or comes from a
//! client makes it panic. No id is ever given twice in a context.

mod compatibility;
mod config;
mod delete;
mod guid;
mod lookup;
mod modify;
mod parse;
mod places;
mod query;
mod record;
mod register;
mod settings;
mod shards;
mod state;
mod subject;
mod tags;
mod types;

use std::sync::Arc;

use bytes::Bytes;
use wharf_message::Timestamp;

pub use compatibility::Verdict;
pub use config::{Config, ConfigUpdate};
pub use guid::guid;
pub use modify::TagRequest;
pub use query::SchemasQuery;
pub use subject::{DEFAULT_CONTEXT, GLOBAL_CONTEXT, NAME_BYTES_MAX, Subject, normalize_context};
pub use types::{
    Applied, Content, Decision, Filter, LookupOptions, Mode, Page, Refusal, RegisterOptions,
    Registered, Registration, SchemaEntity, SchemaTags, Settings, VersionSpec,
};

use parse::Cache;
use state::State;

/// The view over `_schemas`. Cheap to clone; clones share what they understood of schemas.
#[derive(Clone, Debug)]
pub struct Registry {
    state: State,
    settings: Arc<Settings>,
    cache: Arc<Cache>,
}

impl Registry {
    /// Of an empty topic.
    pub fn new(settings: Settings) -> Self {
        Self {
            state: State::new(),
            cache: Arc::new(Cache::new(&settings)),
            settings: Arc::new(settings),
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Replays a record. It never fails: what cannot be taken is ignored, and the reason is the
    /// answer.
    pub fn apply(
        &mut self,
        offset: i64,
        at: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Applied {
        self.state.apply(offset, at, key, value)
    }

    /// The offset after the last one that was replayed.
    pub fn next_offset(&self) -> i64 {
        self.state.next_offset
    }

    /// Tombstones for what was deleted under one form of its key while another form of the same key
    /// still stands in the log, and would bring it back once the tombstone is compacted away. To be
    /// written after the topic was read to its end.
    pub fn repairs(&self) -> Vec<(Bytes, Option<Bytes>)> {
        let forms = self.state.leftovers().into_iter();
        forms.map(|form| (form, None)).collect()
    }
}

#[cfg(test)]
mod tests;

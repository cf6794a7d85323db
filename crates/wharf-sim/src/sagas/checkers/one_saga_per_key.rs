//! 12: one key is one saga, however many start it at the same time and however often.

use std::collections::BTreeMap;

use serde_json::Value;
use wharf_saga::machine::SagaId;

use super::{Broken, broken};
use crate::sagas::watch::Watch;

pub(crate) const PROMISE: &str = "one key is one saga";

/// A saga begins in the log.
pub(crate) fn started(watch: &Watch, id: SagaId) -> Result<(), Broken> {
    if watch.sagas.contains_key(&id) {
        return broken(PROMISE, format!("{id} began twice"));
    }
    Ok(())
}

/// What callers were told.
#[derive(Debug, Default)]
pub(crate) struct Told(BTreeMap<SagaId, u32>);

impl Told {
    /// A caller was told that the saga is there.
    pub(crate) fn started(
        &mut self,
        watch: &Watch,
        id: SagaId,
        is_new: bool,
        input: &Value,
    ) -> Result<(), Broken> {
        let news = self.0.entry(id).or_default();
        *news += u32::from(is_new);
        if *news > 1 {
            return broken(PROMISE, format!("two callers were told that {id} is new"));
        }
        let seen = watch.sagas.get(&id);
        let start = seen.and_then(|seen| seen.saga.start());
        if start.is_some_and(|start| start.input.value() != input) {
            return broken(PROMISE, format!("{id} was started with another input"));
        }
        Ok(())
    }

    /// A caller was told that the key belongs to another input.
    pub(crate) fn taken(&self, watch: &Watch, id: SagaId, input: &Value) -> Result<(), Broken> {
        let seen = watch.sagas.get(&id);
        let start = seen.and_then(|seen| seen.saga.start());
        if start.is_some_and(|start| start.input.value() != input) {
            return Ok(());
        }
        broken(
            PROMISE,
            format!("{id} was refused, and nobody started another"),
        )
    }

    /// The sagas that callers were told of.
    pub(crate) fn sagas(&self) -> Vec<SagaId> {
        self.0.keys().copied().collect()
    }
}

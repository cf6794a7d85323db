//! A saga in memory: awake, or asleep as the bytes of its snapshot.
//!
//! Most sagas wait, for a day or for a person, and one that is asleep takes a fraction of the memory.
//! What it does and what is told of it is the same either way; whoever wants something of one that
//! is asleep wakes it, or looks at a copy. Sagas of one definition have most of their bytes in common:
//! only what differs from the first of them that fell asleep is kept of each. The bytes never leave the
//! memory, and are never the truth.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};
use wharf_saga::definition::{Definition, Hash};
use wharf_saga::machine::{Saga, SagaId};

use super::deciding::is_limited;
use super::refusal::Refused;
use super::shard::Shard;
use super::store::{Records, Stored};

/// How many sweeps nothing must have happened to a saga before it goes to sleep.
const REST: u32 = 5;
/// How many are looked at in one go.
const DOZE_MAX: usize = 512;
/// How many bytes of the first saga the others of its definition are compared with.
const PATTERN_BYTES_MAX: usize = 2 << 10;
/// Of how many definitions that is known; beyond that it is learned anew.
const PATTERNS_MAX: usize = 1_024;

/// A saga in memory.
pub(super) struct Held {
    form: Form,
    pub(super) records: Records,
    pub(super) definition: Option<Arc<Definition>>,
    /// Whether some step of it has a concurrency limit.
    pub(super) is_limited: bool,
    pub(super) is_ended: bool,
    /// Whether other sagas might have to do with it when it went to sleep.
    is_linked: bool,
    /// The sweep behind which something last happened to it.
    touched: u32,
    /// When something is due, as it stands among the timers.
    pub(super) due: Option<i64>,
}

enum Form {
    Awake(Box<Saga>),
    Asleep(Asleep),
}

/// A snapshot, as what differs from a pattern.
struct Asleep {
    bytes: Box<[u8]>,
    pattern: Pattern,
}

/// What the first saga of a definition was when it fell asleep, or how that began.
type Pattern = Arc<Vec<u8>>;

impl Held {
    pub(super) fn new(stored: Stored, definition: Option<Arc<Definition>>) -> Self {
        let is_limited = definition.as_deref().is_some_and(is_limited);
        Self {
            form: Form::Awake(Box::new(stored.saga)),
            records: stored.records,
            definition,
            is_limited,
            is_ended: false,
            is_linked: false,
            touched: 0,
            due: None,
        }
    }

    /// The saga, unless it sleeps: for what follows at once from a decision, for which it was woken.
    pub(super) fn awake(&self) -> Option<&Saga> {
        match &self.form {
            Form::Awake(saga) => Some(saga),
            Form::Asleep(_) => None,
        }
    }

    /// The same, and where its records are.
    pub(super) fn awake_with_records(&mut self) -> Option<(&Saga, &mut Records)> {
        match &self.form {
            Form::Awake(saga) => Some((saga, &mut self.records)),
            Form::Asleep(_) => None,
        }
    }

    /// The saga to look at, which goes on sleeping.
    pub(super) fn look(&self) -> Result<Cow<'_, Saga>, Refused> {
        match &self.form {
            Form::Awake(saga) => Ok(Cow::Borrowed(saga)),
            Form::Asleep(asleep) => asleep.read().map(Cow::Owned),
        }
    }

    /// Whether other sagas may have to do with it: as its parent, or as what a task of it started.
    pub(super) fn is_linked(&self) -> bool {
        self.is_linked || self.awake().is_some()
    }

    fn sleep(&mut self, patterns: &mut Patterns) {
        let Form::Awake(saga) = &self.form else {
            return;
        };
        match serde_json::to_vec(saga) {
            Ok(bytes) => {
                let start = saga.start();
                let is_child = start.is_some_and(|start| start.parent.is_some());
                self.is_linked = is_child || saga.has_sub_sagas() || !saga.open().is_empty();
                let definition = saga.start().map(|start| start.definition);
                let pattern = patterns.of(definition, &bytes);
                let bytes = compress_prepend_size_with_dict(&bytes, &pattern).into_boxed_slice();
                self.form = Form::Asleep(Asleep { bytes, pattern });
            }
            // Nothing of a saga can fail to be written; if it does, it stays as it is.
            Err(error) => tracing::error!(%error, "a saga cannot go to sleep"),
        }
        self.records.offsets.shrink_to_fit();
    }
}

impl Asleep {
    fn read(&self) -> Result<Saga, Refused> {
        let broken = |error: String| {
            Refused::unavailable(format!("a saga that slept cannot be read: {error}"))
        };
        let bytes = decompress_size_prepended_with_dict(&self.bytes, &self.pattern);
        let bytes = bytes.map_err(|error| broken(error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))
    }
}

/// What sagas of a definition have in common.
#[derive(Default)]
pub(super) struct Patterns(HashMap<Option<Hash>, Pattern>);

impl Patterns {
    /// The pattern of a definition; these bytes, where there is none yet.
    fn of(&mut self, definition: Option<Hash>, bytes: &[u8]) -> Pattern {
        if self.0.len() >= PATTERNS_MAX && !self.0.contains_key(&definition) {
            self.0.clear();
        }
        let new = || Arc::new(bytes.iter().copied().take(PATTERN_BYTES_MAX).collect());
        Arc::clone(self.0.entry(definition).or_insert_with(new))
    }
}

/// Who is awake: each once, in about the order in which something last happened to them.
#[derive(Default)]
pub(super) struct Awake {
    sweeps: u32,
    all: VecDeque<(u32, SagaId)>,
}

impl Awake {
    pub(super) fn add(&mut self, id: SagaId) {
        self.all.push_back((self.sweeps, id));
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    /// Whether somebody may be ready to go to sleep.
    pub(super) fn is_due(&self) -> bool {
        self.all
            .front()
            .is_some_and(|(since, _)| self.rested(*since))
    }

    fn rested(&self, since: u32) -> bool {
        self.sweeps.wrapping_sub(since) >= REST
    }
}

impl Shard {
    /// A saga for which something is to be decided.
    pub(super) fn wake(&mut self, id: SagaId) -> Result<(&mut Saga, &mut Records), Refused> {
        let Some(held) = self.sagas.get_mut(&id) else {
            return Err(Refused::unknown(id));
        };
        held.touched = self.awake.sweeps;
        if let Form::Asleep(asleep) = &held.form {
            held.form = Form::Awake(Box::new(asleep.read()?));
            self.awake.add(id);
        }
        match &mut held.form {
            Form::Awake(saga) => Ok((saga, &mut held.records)),
            Form::Asleep(_) => Err(Refused::unknown(id)),
        }
    }

    /// A second has passed.
    pub(super) fn swept(&mut self) {
        self.awake.sweeps = self.awake.sweeps.wrapping_add(1);
        let asleep = self.sagas.len().saturating_sub(self.awake.all.len());
        self.shared.note_asleep(self.place.index, asleep);
    }

    /// Those to whom nothing happened for a while go to sleep, so many at once.
    pub(super) fn doze(&mut self) {
        for _ in 0..DOZE_MAX {
            if !self.awake.is_due() {
                return;
            }
            let Some((_, id)) = self.awake.all.pop_front() else {
                return;
            };
            let Some(held) = self.sagas.get_mut(&id) else {
                continue;
            };
            if self.awake.rested(held.touched) {
                held.sleep(&mut self.patterns);
            } else {
                self.awake.all.push_back((held.touched, id));
            }
        }
        // Room that was needed once, when many began together.
        if self.awake.all.capacity() > 4 * self.awake.all.len().max(DOZE_MAX) {
            self.awake.all.shrink_to(2 * self.awake.all.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use wharf_message::Timestamp;
    use wharf_saga::machine::{Env, Input, Start, step};

    use super::*;

    fn waiting() -> Saga {
        let definition = json!({ "StartAt": "Both", "States": {
            "Both": { "Type": "Parallel", "End": true, "Branches": [
                { "StartAt": "Wait", "States": {
                    "Wait": { "Type": "Wait", "Seconds": 60, "End": true },
                } },
                { "StartAt": "Pay", "States": { "Pay": {
                    "Type": "Task", "Resource": "wharf:saga:payment", "TimeoutSeconds": 90,
                    "End": true,
                } } },
            ] },
        } });
        let definition = Definition::of(&definition).unwrap().definition;
        let start = Start {
            id: SagaId::of("order", "17"),
            saga_type: "order".to_owned(),
            definition: definition.hash,
            key: "17".to_owned(),
            input: json!({ "total": 0.1 + 0.2, "none": null }).into(),
            correlation: Some("case".to_owned()),
            traceparent: None,
            attributes: BTreeMap::from([("city".to_owned(), "Köln".to_owned())]),
            parent: None,
        };
        let mut saga = Saga::default();
        let now = Timestamp::from_millis(1_000);
        step(
            &definition,
            &mut saga,
            Input::Start(start),
            &Env::at(now, 0),
        )
        .unwrap();
        saga
    }

    #[test]
    fn a_saga_that_slept_is_the_one_that_fell_asleep() {
        let saga = waiting();
        let stored = Stored {
            saga: saga.clone(),
            records: Records::default(),
        };
        let (mut held, mut other) = (Held::new(stored.clone(), None), Held::new(stored, None));
        let mut patterns = Patterns::default();
        held.sleep(&mut patterns);
        other.sleep(&mut patterns);
        assert_eq!(*other.look().unwrap(), saga);
        assert!(held.awake().is_none() && held.awake_with_records().is_none());
        assert!(held.is_linked() && saga.has_sub_sagas());
        let woken = held.look().unwrap();
        assert_eq!(*woken, saga);
        assert_eq!(woken.due(), saga.due());
        assert!(saga.due().is_some());
    }

    #[test]
    fn only_who_was_left_alone_for_long_enough_goes_to_sleep() {
        let mut awake = Awake::default();
        awake.add(SagaId::of("order", "17"));
        for _ in 0..REST {
            assert!(!awake.is_due());
            awake.sweeps += 1;
        }
        assert!(awake.is_due());
    }
}

//! Breakers by name, with their live state: one per destination.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use super::{Breaker, BreakerSettings, Event, Snapshot, lock};
use crate::policy::{InvalidPolicy, Observe, ensure};

/// How many breakers a registry holds at most.
const BREAKERS_MAX: usize = 10_000;

/// Breakers by name. Clones are the same registry.
///
/// ```
/// use wharf::policy::{Breakers, BreakerSettings};
///
/// let breakers = Breakers::default();
/// for host in ["pay.example", "ship.example", "pay.example"] {
///     breakers.get_or_insert(host, BreakerSettings::default())?;
/// }
/// let states: Vec<String> = breakers
///     .snapshots()
///     .into_iter()
///     .map(|one| format!("{}: {}", one.name, one.state))
///     .collect();
/// assert_eq!(states, ["pay.example: closed", "ship.example: closed"]);
/// # Ok::<(), wharf::policy::InvalidPolicy>(())
/// ```
#[derive(Clone, Default)]
pub struct Breakers(Arc<Registry>);

#[derive(Default)]
struct Registry {
    breakers: Mutex<BTreeMap<String, Breaker>>,
    observer: Option<Arc<dyn Observe>>,
}

impl Breakers {
    /// None yet; `observer` is told what all of them do.
    pub fn observed_by(observer: impl Observe + 'static) -> Self {
        Self(Arc::new(Registry {
            observer: Some(Arc::new(observer)),
            ..Registry::default()
        }))
    }

    /// The breaker of this name; a new one with these settings if there is none.
    ///
    /// # Errors
    /// When the settings are invalid, when the breaker is there with other settings, or when there
    /// are 10,000 already.
    pub fn get_or_insert(
        &self,
        name: &str,
        settings: BreakerSettings,
    ) -> Result<Breaker, InvalidPolicy> {
        let mut breakers = lock(&self.0.breakers);
        if let Some(known) = breakers.get(name) {
            let same = known.settings() == settings;
            ensure(
                name,
                "settings",
                &settings,
                same,
                "those of the breaker that has this name",
            )?;
            return Ok(known.clone());
        }
        let room = breakers.len() < BREAKERS_MAX;
        ensure(
            name,
            "name",
            &name,
            room,
            "one of at most 10,000 in a registry",
        )?;
        let mut breaker = Breaker::new(name, settings)?;
        if let Some(observer) = self.0.observer.clone() {
            breaker = breaker.observed_by(move |policy: &str, event: &Event<'_>| {
                observer.observe(policy, event);
            });
        }
        breakers.insert(name.to_owned(), breaker.clone());
        Ok(breaker)
    }

    /// The breaker of this name.
    pub fn get(&self, name: &str) -> Option<Breaker> {
        lock(&self.0.breakers).get(name).cloned()
    }

    /// How all of them stand, by name.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let breakers: Vec<Breaker> = lock(&self.0.breakers).values().cloned().collect();
        breakers.iter().map(Breaker::snapshot).collect()
    }
}

impl fmt::Debug for Breakers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(lock(&self.0.breakers).values())
            .finish()
    }
}

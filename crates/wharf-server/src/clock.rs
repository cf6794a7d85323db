//! The one place where the node asks what time it is, and where the orchestrator asks for chance.
//!
//! The simulator answers both in the node's place; nothing else may.

use std::time::{SystemTime, UNIX_EPOCH};

use wharf_message::Timestamp;

/// Now, by the machine's clock. Before 1970 it is 1970.
pub(crate) fn now() -> Timestamp {
    #[cfg(feature = "simulation")]
    if let Some(now) = crate::simulation::asked(|world| world.now()) {
        return now;
    }
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A number that nobody foresees.
#[cfg(feature = "saga")]
pub(crate) fn chance() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(chance) = crate::simulation::asked(|world| world.chance()) {
        return chance;
    }
    uuid::Uuid::new_v4().as_u64_pair().0
}

//! The one place where the node asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use wharf_message::Timestamp;

/// Now, by the machine's clock. Before 1970 it is 1970.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

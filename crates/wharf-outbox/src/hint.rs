//! A wake-up within the process: who commits rows of an outbox tells who reads that table.
//!
//! A hint is told after the commit, by name of the table: two databases that have a table of the same
//! name wake each other's readers, which costs them one look. Invariants: a hint that is told while a
//! reader is looking is not lost, it looks again; without any reader a hint costs one lock that nobody
//! waits for. Nothing may depend on a hint: rows of other processes come without one.

use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use tokio::sync::watch;

/// The tables that somebody has subscribed to, which are as many as the program names.
static TABLES: LazyLock<RwLock<HashMap<String, watch::Sender<()>>>> =
    LazyLock::new(RwLock::default);

/// A table by its own name: `shop.wharf_outbox` and `wharf_outbox` may be the same one.
fn plain(table: &str) -> &str {
    table.rsplit('.').next().unwrap_or(table)
}

/// Tells that rows of this table were committed. The name may have its schema's before it, which is
/// not looked at.
///
/// ```
/// wharf_outbox::hint::notify("wharf_outbox");
/// ```
pub fn notify(table: &str) {
    let tables = TABLES.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(hints) = tables.get(plain(table)) {
        hints.send_replace(());
    }
}

/// Hears from now on when rows of this table are committed in this process.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use wharf_outbox::hint;
///
/// let mut hint = hint::subscribe("shop.wharf_outbox");
/// hint::notify("wharf_outbox");
/// hint::notify("wharf_outbox");
/// hint.told().await; // Both.
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn subscribe(table: &str) -> Hint {
    let mut tables = TABLES.write().unwrap_or_else(PoisonError::into_inner);
    let hints = tables.entry(plain(table).to_owned()).or_default();
    Hint(hints.subscribe())
}

/// What [`subscribe`] gives.
#[derive(Clone, Debug)]
pub struct Hint(watch::Receiver<()>);

impl Hint {
    /// Waits until rows were committed since the last time this returned, or since the subscription.
    ///
    /// # Cancellation
    /// No hint is lost.
    pub async fn told(&mut self) {
        if self.0.changed().await.is_err() {
            // The tables keep every sender.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_hint_wakes_the_readers_of_its_table_once_for_all_that_was_told_before() {
        let (mut first, mut second) = (subscribe("hint_a"), subscribe("shop.hint_a"));
        let mut other = subscribe("hint_b");
        assert_eq!(first.told().now_or_never(), None);
        notify("public.hint_a");
        notify("hint_a");
        assert_eq!(first.told().now_or_never(), Some(()));
        assert_eq!(first.told().now_or_never(), None);
        assert_eq!(second.told().now_or_never(), Some(()));
        assert_eq!(other.told().now_or_never(), None);
        notify("hint_a");
        assert_eq!(first.told().now_or_never(), Some(()));
    }
}

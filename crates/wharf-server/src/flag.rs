//! Waiting for a flag that is raised once: stop, stopped, failed.

use tokio::sync::watch;

/// Completes when the flag is up, or when nobody is left who could raise it.
pub(crate) async fn raised(flag: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which ends the wait just as well.
    drop(flag.wait_for(|raised| *raised).await);
}

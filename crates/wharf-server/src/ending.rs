//! Waiting for a part of the node that was told to end.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Waits so long for a task, and aborts it then. What failed is logged, and hides nothing else.
pub(crate) async fn end(part: &str, task: JoinHandle<()>, within: Duration) {
    let abort = task.abort_handle();
    match timeout(within, task).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "{part} failed"),
        Err(_late) => abort.abort(),
    }
}

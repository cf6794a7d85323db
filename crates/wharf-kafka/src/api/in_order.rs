//! Many changes in one request: some at a time, answered in order.

use futures_util::StreamExt;
use futures_util::stream;

/// How many changes of one request are under way at the same time. Enough that they share the
/// syncs of the log; few enough that one request does not fill its queue.
const AT_A_TIME: usize = 64;

/// Awaits all of `work`, several at a time; the outcomes are in the order of the work.
pub(super) async fn in_order<W: Future>(work: impl Iterator<Item = W>) -> Vec<W::Output> {
    stream::iter(work).buffered(AT_A_TIME).collect().await
}

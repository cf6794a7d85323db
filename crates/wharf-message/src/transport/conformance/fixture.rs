//! What the suite asks of whoever runs it: a broker that runs, its clients, and a clock.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};

use crate::Timestamp;
use crate::transport::Transport;

/// A running broker and the outside world, as the suite sees them.
///
/// One fixture runs the whole suite; cases use names of their own, so that they do not meet. What a
/// fixture cannot do it answers with the reason, which becomes the reason of the skipped cases.
pub trait Fixture: Send + Sync {
    /// Names the column of the table and the file of the report: `nats`, `kafka-apache`. Lower case
    /// letters, digits and hyphens.
    fn name(&self) -> &str;

    /// The heading of the column: `NATS JetStream 2.12`.
    fn title(&self) -> String;

    /// A new client of the broker, with connections of its own.
    fn connect(&self) -> BoxFuture<'_, Arc<dyn Transport>>;

    /// The time, as the broker sees it.
    fn now(&self) -> Timestamp;

    /// Waits.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// The largest [`crate::Message::size`] that is taken, `None` if there is no limit.
    fn bytes_max(&self) -> Option<usize>;

    /// How long to wait for what must come before a case has failed.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// How long to look for what must not come.
    fn quiet(&self) -> Duration {
        Duration::from_millis(500)
    }

    /// The delay of the retries and schedules that the cases ask for. Long enough that a transport
    /// that ignores it is seen, short enough to be waited for.
    fn delay(&self) -> Duration {
        Duration::from_secs(2)
    }

    /// How many messages the cases about many messages move.
    fn many(&self) -> usize {
        160
    }

    /// How many cases run at the same time.
    fn concurrency(&self) -> usize {
        8
    }

    /// Stops the broker as a crash would and starts it again with its data.
    fn restart_broker(&self) -> BoxFuture<'_, Result<(), &'static str>> {
        Box::pin(ready(Err("the fixture cannot restart the broker")))
    }

    /// Cuts every connection to the broker; clients cannot reach it until it is healed.
    fn cut_network(&self) -> BoxFuture<'_, Result<(), &'static str>> {
        Box::pin(ready(Err("the fixture cannot cut the network")))
    }

    /// Lets connections through again.
    fn heal_network(&self) -> BoxFuture<'_, Result<(), &'static str>> {
        Box::pin(ready(Err("the fixture cannot cut the network")))
    }
}

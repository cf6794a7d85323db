//! How long a shop is open: the customers at work until their plan is done, the time is over or somebody
//! closes it. The same for every style of the shop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, Interval, interval, sleep, sleep_until};
use wharf::Bus;

use crate::storefront::{self, Plan};
use crate::tally::Tally;

/// How often the figures are shown.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// How often whoever waits gets to look at something else.
const LOOK: Duration = Duration::from_millis(100);

/// The customers at work.
pub(crate) struct Opening {
    customers: JoinHandle<anyhow::Result<()>>,
    /// Sends them home.
    close: watch::Sender<bool>,
    /// True once somebody closes the shop.
    stop: watch::Receiver<bool>,
    end: Option<Instant>,
    tick: Interval,
}

/// What comes next in an open shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The figures are to be shown.
    Show,
    /// Some time has passed.
    Look,
    /// Nobody comes any more; everything that was sent is acknowledged.
    Over,
}

impl Opening {
    /// Lets the customers in, at most for `duration`.
    pub(crate) fn begin(
        plan: Plan,
        bus: Bus,
        run: String,
        tally: &Arc<Tally>,
        duration: Option<Duration>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let (close, closed) = watch::channel(false);
        let customers = storefront::run(plan, bus, run, Arc::clone(tally), closed);
        Self {
            customers: tokio::spawn(customers),
            close,
            stop,
            end: duration.map(|duration| Instant::now() + duration),
            tick: interval(TICK),
        }
    }

    /// What comes next. Fails with the first of the services that does.
    pub(crate) async fn next(
        &mut self,
        services: &mut JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<Turn> {
        tokio::select! {
            () = sleep(LOOK) => return Ok(Turn::Look),
            _ = self.tick.tick() => return Ok(Turn::Show),
            Some(ended) = services.join_next() => {
                ended?.context("a service stopped")?;
                return Ok(Turn::Look);
            }
            ended = &mut self.customers => {
                ended??;
                return Ok(Turn::Over);
            }
            _ = self.stop.wait_for(|stop| *stop) => {}
            () = until(self.end) => {}
        }
        self.close.send_replace(true);
        (&mut self.customers).await??;
        Ok(Turn::Over)
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

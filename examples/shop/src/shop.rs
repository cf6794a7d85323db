//! The whole shop: starts the services, watches them, stops them when the stream has run dry.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::bus::{self, Bus};
use crate::service::{self, Service};
use crate::services::{Inventory, Notification, OrderDesk, Payment, Shipping};
use crate::storefront::{self, Plan};
use crate::summary::Summary;
use crate::tally::{ServiceTally, Snapshot, Tally};

/// How often the figures are taken.
const TICK: Duration = Duration::from_secs(1);
/// How often a stop condition is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Without any progress for this long, waiting for the last orders ends.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the shop is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker's address, `host:port`.
    pub broker: String,
    /// Checkouts to send (the malformed ones included); `None` goes on until stopped.
    pub orders: Option<u64>,
    /// Stop sending after this long; `None` goes on.
    pub duration: Option<Duration>,
    /// Checkouts per second.
    pub per_second: u64,
    /// Decides what customers do.
    pub seed: u64,
}

struct Shop {
    bus: Bus,
    tally: Arc<Tally>,
    services: Vec<Arc<ServiceTally>>,
    observers: Vec<(Arc<ServiceTally>, bus::Observer)>,
    tasks: JoinSet<anyhow::Result<()>>,
    close: watch::Sender<bool>,
    started: Instant,
}

/// Runs the shop until its plan is done or `stop` turns true, waits for the last orders, and adds
/// up. `watch` is shown the figures once a second. Fails when the broker cannot be used.
pub async fn run(
    options: Options,
    mut stop: watch::Receiver<bool>,
    mut show: impl FnMut(&Snapshot),
) -> anyhow::Result<Summary> {
    let run = format!("{:x}", bus::now_millis());
    let bus = Bus::connect(&options.broker, &run).await?;
    let before = records(&bus).await?;
    let mut shop = Shop::open(bus)?;
    let (close_storefront, closed) = watch::channel(false);
    let plan = Plan {
        checkouts: options.orders,
        per_second: options.per_second,
        seed: options.seed,
    };
    let mut customers = tokio::spawn(storefront::run(
        plan,
        shop.bus.clone(),
        Arc::clone(&shop.tally),
        closed,
    ));

    let end = options
        .duration
        .map(|duration| tokio::time::Instant::now() + duration);
    let mut next_tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            result = &mut customers => { result??; break; }
            _ = next_tick.tick() => show(&shop.snapshot().await),
            _ = stop.wait_for(|stop| *stop) => { close_storefront.send_replace(true); }
            () = sleep_until(end) => { close_storefront.send_replace(true); }
            Some(failed) = shop.tasks.join_next() => failed?.context("a service stopped")?,
        }
        if *close_storefront.borrow() {
            customers.await??;
            break;
        }
    }
    shop.drain(&mut show).await?;
    shop.close().await?;
    let after = records(&shop.bus).await?;
    Ok(Summary::new(
        &shop.tally,
        &shop.views(),
        &before,
        &after,
        shop.started.elapsed(),
    ))
}

async fn sleep_until(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

async fn records(bus: &Bus) -> anyhow::Result<std::collections::BTreeMap<String, u64>> {
    let bus = bus.clone();
    tokio::task::spawn_blocking(move || bus.records_by_topic()).await?
}

impl Shop {
    fn open(bus: Bus) -> anyhow::Result<Self> {
        let tally = Arc::new(Tally::default());
        let (close, _) = watch::channel(false);
        let mut shop = Self {
            bus,
            tally: Arc::clone(&tally),
            services: Vec::new(),
            observers: Vec::new(),
            tasks: JoinSet::new(),
            close,
            started: Instant::now(),
        };
        shop.start(OrderDesk::new(Arc::clone(&tally)))?;
        shop.start(Inventory::new(Arc::clone(&tally)))?;
        shop.start(Payment::new(Arc::clone(&tally)))?;
        shop.start(Shipping::new(Arc::clone(&tally)))?;
        shop.start(Notification::new(tally))?;
        Ok(shop)
    }

    fn start(&mut self, service: impl Service) -> anyhow::Result<()> {
        let tally = Arc::new(ServiceTally::new(service.name()));
        let observer = self.bus.observer(service.name(), service.topics())?;
        self.observers.push((Arc::clone(&tally), observer));
        self.services.push(Arc::clone(&tally));
        self.tasks.spawn(service::run(
            service,
            self.bus.clone(),
            tally,
            self.close.subscribe(),
        ));
        Ok(())
    }

    /// The figures now. The lag is asked of the broker; when it does not answer, the last one stays.
    async fn snapshot(&mut self) -> Snapshot {
        let observers = std::mem::take(&mut self.observers);
        let asked = tokio::task::spawn_blocking(move || {
            for (tally, observer) in &observers {
                if let Ok(lag) = observer.lag() {
                    tally.lag.set(lag);
                }
            }
            observers
        });
        if let Ok(observers) = asked.await {
            self.observers = observers;
        }
        Snapshot {
            seconds: self.started.elapsed().as_secs_f64(),
            checkouts: self.tally.checkouts.get(),
            placed: self.tally.placed.get(),
            completed: self.tally.completed.get(),
            rejected: self.tally.rejected.get(),
            services: self.views(),
        }
    }

    fn views(&self) -> Vec<crate::ServiceView> {
        self.services.iter().map(|service| service.view()).collect()
    }

    /// Waits until every order has ended and been notified, and every repeat has arrived.
    async fn drain(&mut self, show: &mut impl FnMut(&Snapshot)) -> anyhow::Result<()> {
        let mut progress = (0, Instant::now());
        let mut shown = Instant::now();
        loop {
            let received = self
                .services
                .iter()
                .map(|service| service.received.get())
                .sum();
            if received != progress.0 {
                progress = (received, Instant::now());
            }
            let snapshot = self.snapshot().await;
            let behind: u64 = snapshot.services.iter().map(|service| service.lag).sum();
            let open =
                self.tally.placed.get() != self.tally.completed.get() + self.tally.rejected.get();
            if (behind == 0 && !open) || progress.1.elapsed() > PATIENCE {
                show(&snapshot);
                return Ok(());
            }
            if shown.elapsed() >= TICK {
                shown = Instant::now();
                show(&snapshot);
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                Some(failed) = self.tasks.join_next() => failed?.context("a service stopped")?,
            }
        }
    }

    async fn close(&mut self) -> anyhow::Result<()> {
        self.close.send_replace(true);
        while let Some(task) = self.tasks.join_next().await {
            task??;
        }
        Ok(())
    }
}

//! The whole shop: starts the services, watches them, stops them when the stream has run dry.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use wharf::schema::Registry;
use wharf::{Bus, TopicName};

use crate::database::Database;
use crate::event::{PUBLISHED, TOPICS};
use crate::intake::Intake;
use crate::observer::{self, Ends, Observer};
use crate::opening::{Opening, TICK, Turn};
use crate::pause::{Pause, Pausing};
use crate::python::{Counts, Python};
use crate::services::{Kit, NOTIFICATION, SERVICES, Service};
use crate::storefront::Plan;
use crate::summary::{Outbox, Summary};
use crate::tally::{ServiceTally, Snapshot, Tally};

/// Partitions of each of the shop's topics.
pub(crate) const PARTITIONS: u32 = 3;
/// How often a stop condition is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Without any progress for this long, waiting for the last orders ends.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the shop is run.
#[derive(Debug)]
pub struct Options {
    /// The broker's address, `host:port`.
    pub broker: String,
    /// Where the order and the payment service keep their rows. Somebody else relays its outbox.
    pub database: Database,
    /// Checkouts to send (the malformed ones included); `None` goes on until stopped.
    pub orders: Option<u64>,
    /// Stop sending after this long; `None` goes on.
    pub duration: Option<Duration>,
    /// Checkouts per second.
    pub per_second: u64,
    /// Decides what customers do.
    pub seed: u64,
    /// What runs the notification service in Python; `None` for the one in Rust.
    pub python: Option<Python>,
    /// The address of the registry that has [`SCHEMAS`](crate::SCHEMAS); `None` for plain JSON
    /// throughout.
    pub registry: Option<String>,
    /// A service that is stopped for a while.
    pub pause: Option<Pause>,
}

struct Shop {
    broker: String,
    database: Database,
    /// The services' registry, where they register nothing: that is up to whoever runs the shop.
    registry: Option<Registry>,
    /// The name of this run; messages of other runs are left alone.
    run: String,
    /// The storefront's; the others share its connection.
    bus: Bus,
    /// Where the topics ended at the start.
    before: Ends,
    tally: Arc<Tally>,
    services: Vec<Arc<ServiceTally>>,
    observers: Vec<(Arc<ServiceTally>, Observer)>,
    tasks: JoinSet<anyhow::Result<()>>,
    close: watch::Sender<bool>,
    pausing: Option<Pausing>,
    started: Instant,
}

/// Runs the shop until its plan is done or `stop` turns true, waits for the last orders, and adds
/// up. `watch` is shown the figures once a second. Fails when the broker cannot be used.
pub async fn run(
    mut options: Options,
    stop: watch::Receiver<bool>,
    mut show: impl FnMut(&Snapshot),
) -> anyhow::Result<Summary> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let run = format!("{:x}", since_1970.as_millis());
    let bus = connect(&options.broker).await?;
    let before = ends(&options.broker).await?;
    let (pausing, allowed) = Pausing::of(options.pause.take());
    let mut shop = Shop::open(&options, run.clone(), bus, before, pausing)?;
    let plan = Plan {
        checkouts: options.orders,
        per_second: options.per_second,
        seed: options.seed,
        allowed,
    };
    let bus = shop.bus.clone();
    let mut opening = Opening::begin(plan, bus, run, &shop.tally, options.duration, stop);
    loop {
        shop.pause();
        match opening.next(&mut shop.tasks).await? {
            Turn::Look => {}
            Turn::Show => show(&shop.snapshot().await?),
            Turn::Over => break,
        }
    }
    shop.drain(&mut show).await?;
    shop.close().await?;
    shop.add_up().await
}

/// Creates the topics that are missing, for whoever has settings for them before the shop runs.
pub async fn create_topics(broker: &str) -> anyhow::Result<()> {
    let bus = connect(broker).await?;
    bus.transport().shutdown().await?;
    Ok(())
}

/// Connects, and creates the topics that are missing.
async fn connect(broker: &str) -> anyhow::Result<Bus> {
    let bus = Bus::connect(&format!("kafka://{broker}"), "storefront").await;
    let bus = bus.with_context(|| format!("no broker answered at {broker}"))?;
    for topic in TOPICS {
        let topic = TopicName::new(topic)?;
        bus.transport().create_topic(&topic, PARTITIONS).await?;
    }
    Ok(bus)
}

async fn ends(broker: &str) -> anyhow::Result<Ends> {
    let broker = broker.to_owned();
    tokio::task::spawn_blocking(move || observer::ends(&broker)).await?
}

impl Shop {
    fn open(
        options: &Options,
        run: String,
        bus: Bus,
        before: Ends,
        pausing: Option<Pausing>,
    ) -> anyhow::Result<Self> {
        let (close, _) = watch::channel(false);
        let registry = options.registry.as_deref().map(Registry::connect);
        let mut shop = Self {
            broker: options.broker.clone(),
            database: options.database.clone(),
            registry: registry.transpose()?.map(|all| all.auto_register(false)),
            run,
            bus,
            before,
            tally: Arc::default(),
            services: Vec::new(),
            observers: Vec::new(),
            tasks: JoinSet::new(),
            close,
            pausing,
            started: Instant::now(),
        };
        for service in SERVICES {
            match &options.python {
                Some(python) if service.name == NOTIFICATION.name => shop.hire(service, python)?,
                _ => shop.start(service)?,
            }
        }
        Ok(shop)
    }

    /// Starts a service.
    fn start(&mut self, service: Service) -> anyhow::Result<()> {
        let tally = self.observe(service, service.name)?;
        let intake = Intake::new(&self.run, tally);
        let closed = self.closed();
        match &mut self.pausing {
            Some(pausing) if pausing.is_of(service) => {
                let stopped = pausing.opens(service, intake.clone());
                let closed = async move {
                    tokio::select! {
                        () = closed => {}
                        () = stopped => {}
                    }
                };
                let task = self.serve(service, intake, closed);
                if let Some(pausing) = &mut self.pausing {
                    pausing.runs(task);
                }
            }
            _ => _ = self.serve(service, intake, closed),
        }
        Ok(())
    }

    /// Serves until it is closed.
    fn serve(
        &mut self,
        service: Service,
        intake: Intake,
        closed: impl Future<Output = ()> + Send + 'static,
    ) -> AbortHandle {
        let router = (service.router)(Kit {
            tally: Arc::clone(&self.tally),
            intake,
            database: self.database.clone(),
        });
        let mut bus = Bus::new(Arc::clone(self.bus.transport()), service.name);
        if let Some(registry) = &self.registry {
            bus = bus.with_registry(registry);
        }
        let serve = bus.serve(router);
        self.tasks.spawn(async move {
            serve.with_graceful_shutdown(closed).await?;
            Ok(())
        })
    }

    /// Stops the service that is to be stopped, or starts it again, when it is time.
    fn pause(&mut self) {
        let Some(pausing) = &mut self.pausing else {
            return;
        };
        if let Some((service, intake)) = pausing.turn(&self.tally) {
            let closed = self.closed();
            self.serve(service, intake, closed);
        }
    }

    /// Starts the notification service in Python.
    fn hire(&mut self, service: Service, python: &Python) -> anyhow::Result<()> {
        let counts = Counts {
            tally: Arc::clone(&self.tally),
            service: self.observe(service, "notification.py")?,
        };
        let (python, broker, run) = (python.clone(), self.broker.clone(), self.run.clone());
        let stop = self.close.subscribe();
        self.tasks
            .spawn(async move { python.serve(&broker, &run, counts, stop).await });
        Ok(())
    }

    fn observe(
        &mut self,
        service: Service,
        shown_as: &'static str,
    ) -> anyhow::Result<Arc<ServiceTally>> {
        let tally = Arc::new(ServiceTally::new(shown_as));
        let observer = Observer::new(&self.broker, service.name, service.topics, PARTITIONS)?;
        self.observers.push((Arc::clone(&tally), observer));
        self.services.push(Arc::clone(&tally));
        Ok(tally)
    }

    /// Done when the shop closes.
    fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut close = self.close.subscribe();
        async move {
            // A shop that is gone is closed too.
            let _closed_either_way = close.wait_for(|close| *close).await;
        }
    }

    /// The figures now. The lag is asked of the broker; when it does not answer, the last one stays.
    async fn snapshot(&mut self) -> anyhow::Result<Snapshot> {
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
        self.database.count(&self.run, &self.tally).await?;
        Ok(Snapshot {
            seconds: self.started.elapsed().as_secs_f64(),
            checkouts: self.tally.checkouts.get(),
            placed: self.tally.placed.get(),
            completed: self.tally.completed.get(),
            rejected: self.tally.rejected.get(),
            services: self.views(),
        })
    }

    fn views(&self) -> Vec<crate::ServiceView> {
        self.services.iter().map(|service| service.view()).collect()
    }

    /// Waits until every order has ended, everything in the outbox is in its topic, and every message
    /// has been consumed.
    async fn drain(&mut self, show: &mut impl FnMut(&Snapshot)) -> anyhow::Result<()> {
        if let Some(pausing) = &mut self.pausing {
            pausing.closes();
        }
        let mut progress = (0, Instant::now());
        let mut shown = Instant::now();
        let mut calm = false;
        loop {
            self.pause();
            let received = self.services.iter().map(|service| service.received.get());
            let received = received.sum();
            let is_paused = self.pausing.as_ref().is_some_and(Pausing::is_pending);
            if received != progress.0 || is_paused {
                progress = (received, Instant::now());
            }
            let snapshot = self.snapshot().await?;
            let behind: u64 = snapshot.services.iter().map(|service| service.lag).sum();
            let ended = snapshot.placed == snapshot.completed + snapshot.rejected;
            // What was relayed since the lag was asked for is seen by asking again.
            let was_calm = calm;
            calm = !is_paused && behind == 0 && ended && self.is_relayed().await?;
            if (calm && was_calm) || progress.1.elapsed() > PATIENCE {
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

    /// Whether the topics have as many messages as the outbox has rows.
    async fn is_relayed(&self) -> anyhow::Result<bool> {
        let rows: u64 = self.database.outbox(&self.run).await?.values().sum();
        let ends = ends(&self.broker).await?;
        let written = PUBLISHED.map(|topic| ends.written(topic, &self.before));
        Ok(written.iter().sum::<u64>() >= rows)
    }

    /// Adds up what the services, the database and the broker say.
    async fn add_up(&self) -> anyhow::Result<Summary> {
        self.database.count(&self.run, &self.tally).await?;
        let rows = self.database.outbox(&self.run).await?;
        let after = ends(&self.broker).await?;
        let (broker, run) = (self.broker.clone(), self.run.clone());
        let (before, end) = (self.before.clone(), after.clone());
        let messages = tokio::task::spawn_blocking(move || {
            observer::events(&broker, &PUBLISHED, &run, &before, &end)
        });
        let outbox = Outbox::new(&rows, &messages.await??);
        let written = |topic: &str| after.written(topic, &self.before);
        let elapsed = self.started.elapsed();
        Ok(Summary::new(
            &self.run,
            &self.tally,
            &self.views(),
            &outbox,
            written,
            elapsed,
        ))
    }

    async fn close(&mut self) -> anyhow::Result<()> {
        self.close.send_replace(true);
        while let Some(task) = self.tasks.join_next().await {
            task??;
        }
        self.bus.transport().shutdown().await?;
        Ok(())
    }
}

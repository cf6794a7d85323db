//! A run of the orchestrated shop: deploys the definition, starts the services, follows every saga to its
//! end, and does what a person has to do about those that are parked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::Pool;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wharf::Bus;
use wharf::saga::{Action, Mark, Order, SagaError, SagaId, Sagas, State, Status};

use super::books::{self, Books, People};
use super::definition::{NAME, definition};
use super::report::Report;
use super::services::{self, SUPPLY, TABLES};
use crate::database::{Database, Sql, Value};
use crate::intake::Intake;
use crate::opening::{Opening, TICK, Turn};
use crate::storefront::Plan;
use crate::tally::{ServiceTally, Tally};

/// How often the sagas are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often the supplier comes, and to which shelves.
const SUPPLIER: Duration = Duration::from_millis(500);
const NEARLY_EMPTY: u64 = 10;
/// Without any progress for this long, waiting for the last sagas ends.
const PATIENCE: Duration = Duration::from_secs(40);
/// How many sagas are asked for at a time.
const TOGETHER: usize = 32;

/// Who repairs what is parked at the end, and why.
const BY: &str = "bookkeeper";
const REASON: &str = "the account is closed; the money was paid back by bank transfer";

/// How the orchestrated shop is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's Kafka listener, `host:port`.
    pub broker: String,
    /// The node's HTTP listener, `host:port`: its orchestrator.
    pub http: String,
    /// Where the services keep their rows. The node relays its outbox.
    pub database: Database,
    /// Checkouts to send (the malformed ones included); `None` goes on until stopped.
    pub orders: Option<u64>,
    /// Stop sending after this long; `None` goes on.
    pub duration: Option<Duration>,
    /// Checkouts per second.
    pub per_second: u64,
    /// Decides what customers do.
    pub seed: u64,
}

/// The figures at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Glance {
    seconds: f64,
    checkouts: u64,
    placed: usize,
    completed: usize,
    compensated: usize,
    parked: usize,
}

impl fmt::Display for Glance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.completed + self.compensated + self.parked;
        write!(
            formatter,
            "{:>7.0}s   checkouts {}   placed {}   under way {}   completed {}   compensated {}   parked {}",
            self.seconds,
            self.checkouts,
            self.placed,
            self.placed.saturating_sub(ended),
            self.completed,
            self.compensated,
            self.parked
        )
    }
}

struct Shop {
    run: String,
    broker: String,
    database: Database,
    sagas: Sagas,
    bus: Bus,
    tally: Arc<Tally>,
    orders: Arc<ServiceTally>,
    tasks: JoinSet<anyhow::Result<()>>,
    close: watch::Sender<bool>,
    started: Instant,
    /// Where each order's saga was seen last.
    states: BTreeMap<String, State>,
}

/// Runs the shop until its plan is done or `stop` turns true, waits for the last sagas, repairs those that
/// are parked for a refund, and adds up. `show` gets the figures once a second.
pub async fn open(
    options: Options,
    stop: watch::Receiver<bool>,
    mut show: impl FnMut(&Glance),
) -> anyhow::Result<Report> {
    // Nothing is held back here.
    let (_all, allowed) = watch::channel(u64::MAX);
    let plan = Plan {
        checkouts: options.orders,
        per_second: options.per_second,
        seed: options.seed,
        allowed,
    };
    let duration = options.duration;
    let mut shop = Shop::open(options).await?;
    let (bus, run) = (shop.bus.clone(), shop.run.clone());
    let mut opening = Opening::begin(plan, bus, run, &shop.tally, duration, stop);
    loop {
        match opening.next(&mut shop.tasks).await? {
            Turn::Look => {}
            Turn::Show => show(&shop.look().await?),
            Turn::Over => break,
        }
    }
    shop.drain(&mut show).await?;
    shop.repair().await?;
    show(&shop.look().await?);
    shop.close().await
}

/// Fills the shelves until `stop`. What it brings is in its own column.
async fn supply<D: Sql>(pool: Pool<D>, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            () = tokio::time::sleep(SUPPLIER) => {}
        }
        let mut transaction = pool.begin().await?;
        let sql = "UPDATE saga_shelves SET pieces = pieces + $1, supplied = supplied + $1 WHERE pieces < $2";
        let values = [Value::Number(SUPPLY), Value::Number(NEARLY_EMPTY)];
        D::change(&mut transaction, sql, &values).await?;
        transaction.commit().await?;
    }
}

impl Shop {
    async fn open(options: Options) -> anyhow::Result<Self> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let run = format!("{:x}", since_1970.as_millis());
        let database = options.database;
        database.create(&TABLES).await?;
        let sagas = Sagas::connect(&format!("http://{}", options.http))?.by("shop");
        sagas.deploy(&definition()).await?;
        crate::shop::create_topics(&options.broker).await?;
        let bus = Bus::connect(&format!("kafka://{}", options.broker), "storefront").await?;
        let orders = Arc::new(ServiceTally::new("order"));
        let intake = Intake::new(&run, Arc::clone(&orders));
        let (close, stop) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let router = match &database {
            Database::Sqlite(pool) => {
                tasks.spawn(supply(pool.clone(), stop.clone()));
                services::router(pool, intake)
            }
            Database::Postgres(pool) => {
                tasks.spawn(supply(pool.clone(), stop.clone()));
                services::router(pool, intake)
            }
        };
        let serve = Bus::new(Arc::clone(bus.transport()), "shop").serve(router);
        let mut closed = stop;
        tasks.spawn(async move {
            let closed = async move {
                // A shop that is gone is closed too.
                let _closed_either_way = closed.wait_for(|close| *close).await;
            };
            Ok(serve.with_graceful_shutdown(closed).await?)
        });
        Ok(Self {
            run,
            broker: options.broker,
            database,
            sagas,
            bus,
            tally: Arc::default(),
            orders,
            tasks,
            close,
            started: Instant::now(),
            states: BTreeMap::new(),
        })
    }

    /// Looks at every saga that has not ended yet.
    async fn look(&mut self) -> anyhow::Result<Glance> {
        let orders = books::orders(&self.database, &self.run).await?;
        let has_ended = |order: &String| {
            let state = self.states.get(order);
            state.is_some_and(|state| state.status.is_end())
        };
        let open = orders.keys().filter(|order| !has_ended(order)).cloned();
        let open: Vec<String> = open.collect();
        let seen: Vec<(String, Option<State>)> = stream::iter(open)
            .map(|order| {
                let sagas = self.sagas.clone();
                async move {
                    match sagas.look(SagaId::of(NAME, &order)).await {
                        Ok(state) => Ok((order, Some(state))),
                        // Its row in the outbox is on its way; or the node has much to do.
                        Err(SagaError::Refused { .. } | SagaError::Unavailable(_)) => {
                            Ok((order, None))
                        }
                        Err(error) => Err(error),
                    }
                }
            })
            .buffer_unordered(TOGETHER)
            .try_collect()
            .await?;
        let known = seen.into_iter();
        self.states
            .extend(known.filter_map(|(order, state)| Some((order, state?))));
        let stand = |status| {
            self.states
                .values()
                .filter(|state| state.status == status)
                .count()
        };
        Ok(Glance {
            seconds: self.started.elapsed().as_secs_f64(),
            checkouts: self.tally.checkouts.get(),
            placed: orders.len(),
            completed: stand(Status::Completed),
            compensated: stand(Status::Compensated),
            parked: stand(Status::Parked),
        })
    }

    /// Waits until every checkout is an order and every saga ended or is parked.
    async fn drain(&mut self, show: &mut impl FnMut(&Glance)) -> anyhow::Result<()> {
        let (mut progress, mut shown) = ((0, 0), Instant::now());
        let mut since = Instant::now();
        loop {
            let glance = self.look().await?;
            let rest = glance.completed + glance.compensated + glance.parked;
            let taken = self.orders.received.get();
            if (rest, taken) != progress {
                progress = (rest, taken);
                since = Instant::now();
            }
            let all = taken >= self.tally.checkouts.get() && rest == glance.placed;
            // An order that was just taken may not have its row yet.
            let calm = since.elapsed() > LOOK * 2;
            if (all && calm) || since.elapsed() > PATIENCE {
                return Ok(());
            }
            if shown.elapsed() >= TICK {
                shown = Instant::now();
                show(&glance);
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                Some(failed) = self.tasks.join_next() => failed?.context("a service stopped")?,
            }
        }
    }

    /// What a person does about refunds that the bank refuses for good: pays by hand, and says so. One
    /// action for each saga; it goes on by itself from there. Whatever else is parked stays so, and is told.
    async fn repair(&mut self) -> anyhow::Result<()> {
        let parked = self
            .states
            .values()
            .filter(|state| state.status == Status::Parked);
        let refund = |state: &&State| {
            let mut steps = state.parked.iter();
            steps.any(|step| step.undo && step.error == "AccountClosed")
        };
        let parked: BTreeSet<SagaId> = parked.filter(refund).map(|state| state.id).collect();
        for id in parked {
            let order = Order {
                action: Action::Mark {
                    step: None,
                    mark: Mark::Compensated,
                },
                by: BY.to_owned(),
                reason: REASON.to_owned(),
            };
            match self.sagas.operate(id, order).await {
                // Somebody else was quicker.
                Ok(()) | Err(SagaError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            match self.sagas.ended(id, PATIENCE).await {
                Ok(_) | Err(SagaError::Late { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Stops the services, and compares sagas, rows and topics.
    async fn close(mut self) -> anyhow::Result<Report> {
        self.close.send_replace(true);
        while let Some(task) = self.tasks.join_next().await {
            task??;
        }
        self.bus.transport().shutdown().await?;
        let books = Books::read(&self.database, &self.run).await?;
        let broker = self.broker.clone();
        let people = tokio::task::spawn_blocking(move || People::read(&broker)).await??;
        Ok(Report::new(
            &self.tally,
            self.orders.set_aside.get(),
            &self.states,
            &books,
            &people,
            self.started.elapsed().as_secs_f64(),
        ))
    }
}

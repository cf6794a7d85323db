//! From the commit to the consumer: writers with connections of their own commit at a fixed rate,
//! whether or not those before are done, and a consumer notes when it holds each message.
//!
//! A latency counts from when `COMMIT` is sent, so the database's own sync is in it; how much that is
//! stands beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use serde::Serialize;
use sqlx::PgPool;
use wharf_message::TopicName;
use wharf_outbox::Outbox;

use super::origin::{Origin, message, number_of};
use crate::clients::{Client as _, From, Kafka, Topic};

/// How many connections write.
pub(super) const CONNECTIONS: u32 = 16;
/// How many rows the consumer gets before the clock starts: finding its place is not measured.
const READY: usize = 64;
/// The longest the last message may take.
const LATE: Duration = Duration::from_secs(30);

/// How rows are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Rows, and so transactions, per second.
    pub(super) per_second: u64,
    /// How long it is measured, after [`Self::warm`].
    pub(super) length: Duration,
    pub(super) warm: Duration,
}

/// One measurement, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    /// The commit alone, of which nobody but the database is in charge.
    pub(super) commit_p50: f64,
    pub(super) commit_p99: f64,
    /// Rows that were committed per second.
    pub(super) per_second: f64,
    /// The processor time of the process that moves the rows, in cores.
    pub(super) cores: f64,
}

/// When what happened to each message, in nanoseconds after the start; zero is never.
struct Times {
    began: Instant,
    sent: Vec<AtomicU64>,
    committed: Vec<AtomicU64>,
    arrived: Vec<AtomicU64>,
}

impl Times {
    fn new(messages: usize) -> Self {
        let none = || (0..messages).map(|_| AtomicU64::new(0)).collect();
        Self {
            began: Instant::now(),
            sent: none(),
            committed: none(),
            arrived: none(),
        }
    }

    /// Notes the first time that it happens.
    fn note(&self, of: &[AtomicU64], number: usize) -> bool {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        of.get(number).is_some_and(|at| {
            at.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        })
    }
}

/// Measures what is written to `topic`, which is empty, with `cpu` as the processor time that the
/// process which moves the rows has used.
pub(super) fn measure(
    origin: &Origin,
    client: &Kafka,
    topic: &Topic,
    pace: Pace,
    cpu: impl Fn() -> Result<f64>,
) -> Result<Latency> {
    let seconds = (pace.warm + pace.length).as_secs_f64();
    let messages = (pace.per_second as f64 * seconds) as usize;
    let warm = (pace.per_second as f64 * pace.warm.as_secs_f64()) as usize;
    let pool = origin.writers(CONNECTIONS)?;
    let mut consumer = client.consumer(topic, From::Beginning)?;
    let name = TopicName::new(topic.name.as_str())?;
    origin
        .runtime
        .block_on(get_ready(&pool, &origin.outbox, &name, messages))?;
    let mut ready = 0;
    let deadline = Instant::now() + LATE;
    while ready < READY {
        consumer.poll(Duration::from_millis(100), &mut |_payload| ready += 1)?;
        ensure!(Instant::now() < deadline, "{ready} of {READY} rows came");
    }
    let times = Arc::new(Times::new(messages));
    let stop = Arc::new(AtomicBool::new(false));
    let consuming = thread::spawn({
        let (times, stop) = (Arc::clone(&times), Arc::clone(&stop));
        move || -> Result<usize> {
            let mut arrived = 0;
            while arrived < messages && !stop.load(Ordering::Acquire) {
                consumer.poll(Duration::from_millis(100), &mut |payload| {
                    if let Some(number) = number_of(payload) {
                        arrived += usize::from(times.note(&times.arrived, number));
                    }
                })?;
            }
            Ok(arrived)
        }
    });
    let before = cpu()?;
    let written = origin
        .runtime
        .block_on(write(&pool, &origin.outbox, &name, pace, &times));
    let took = times.began.elapsed().as_secs_f64();
    let cores = (cpu()? - before) / took;
    let deadline = Instant::now() + LATE;
    while !consuming.is_finished() && Instant::now() < deadline && written.is_ok() {
        thread::park_timeout(Duration::from_millis(10));
    }
    stop.store(true, Ordering::Release);
    let arrived = consuming
        .join()
        .map_err(|panic| anyhow!("the consumer panicked: {panic:?}"))??;
    origin.runtime.block_on(pool.close());
    written?;
    ensure!(
        arrived == messages,
        "{arrived} of {messages} messages came within {LATE:?}"
    );
    figures(&times, warm, cores)
}

/// Writes rows whose numbers count for nothing.
async fn get_ready(pool: &PgPool, outbox: &Outbox, topic: &TopicName, from: usize) -> Result<()> {
    let rows = (from..).take(READY);
    let rows = rows.map(|number| Ok((topic.clone(), message(u64::try_from(number)?))));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let mut transaction = pool.begin().await?;
    outbox.publish_all(&mut transaction, &rows).await?;
    Ok(transaction.commit().await?)
}

/// All writers, until every row is committed.
async fn write(
    pool: &PgPool,
    outbox: &Outbox,
    topic: &TopicName,
    pace: Pace,
    times: &Arc<Times>,
) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let writers = (0..CONNECTIONS).map(|_| {
        let (pool, outbox, topic) = (pool.clone(), outbox.clone(), topic.clone());
        let (times, next) = (Arc::clone(times), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let at = usize::try_from(number)?;
                if at >= times.sent.len() {
                    return anyhow::Ok(());
                }
                let due = Duration::from_nanos(number * 1_000_000_000 / pace.per_second);
                tokio::time::sleep_until((times.began + due).into()).await;
                let mut transaction = pool.begin().await?;
                outbox
                    .publish(&mut transaction, &topic, &message(number))
                    .await?;
                times.note(&times.sent, at);
                transaction.commit().await?;
                times.note(&times.committed, at);
            }
        })
    });
    for ended in try_join_all(writers).await? {
        ended?;
    }
    Ok(())
}

fn figures(times: &Times, warm: usize, cores: f64) -> Result<Latency> {
    let all = || Histogram::<u64>::new_with_bounds(1, 600_000_000_000, 3);
    let (mut whole, mut commits) = (all()?, all()?);
    let measured = warm..times.sent.len();
    let at = |of: &[AtomicU64], number: usize| {
        let at = of.get(number).map_or(0, |at| at.load(Ordering::Acquire));
        (at > 0).then_some(at).context("a row has no time")
    };
    for number in measured.clone() {
        let sent = at(&times.sent, number)?;
        whole.record(at(&times.arrived, number)?.saturating_sub(sent).max(1))?;
        commits.record(at(&times.committed, number)?.saturating_sub(sent).max(1))?;
    }
    if measured.is_empty() {
        bail!("nothing was measured");
    }
    let first = at(&times.committed, measured.start)?;
    let last = at(&times.committed, measured.end - 1)?;
    let of =
        |durations: &Histogram<u64>, quantile| durations.value_at_quantile(quantile) as f64 / 1e6;
    Ok(Latency {
        p50: of(&whole, 0.5),
        p99: of(&whole, 0.99),
        p999: of(&whole, 0.999),
        commit_p50: of(&commits, 0.5),
        commit_p99: of(&commits, 0.99),
        per_second: measured.len() as f64 * 1e9 / last.saturating_sub(first).max(1) as f64,
        cores,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_counts_from_the_commit_s_beginning_and_leaves_the_warm_up_out() {
        let times = Times::new(3);
        for (number, (sent, committed, arrived)) in [
            (1, 9_000_000, 99_000_000),
            (10_000_000, 12_000_000, 15_000_000),
            (20_000_000, 22_000_000, 25_000_000),
        ]
        .into_iter()
        .enumerate()
        {
            times.sent[number].store(sent, Ordering::Release);
            times.committed[number].store(committed, Ordering::Release);
            times.arrived[number].store(arrived, Ordering::Release);
        }
        let latency = figures(&times, 1, 0.5).expect("every row has its times");
        assert!((latency.p999 - 5.0).abs() < 0.01, "{latency:?}");
        assert!((latency.commit_p99 - 2.0).abs() < 0.01, "{latency:?}");
        assert!((latency.per_second - 200.0).abs() < 0.01, "{latency:?}");
        times.arrived[2].store(0, Ordering::Release);
        assert!(figures(&times, 1, 0.5).is_err());
    }

    #[test]
    fn a_message_that_comes_twice_counts_once() {
        let times = Times::new(1);
        assert!(times.note(&times.arrived, 0));
        assert!(!times.note(&times.arrived, 0));
        assert!(!times.note(&times.arrived, 1));
    }
}

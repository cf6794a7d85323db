//! The inbox on Postgres beside a transaction written by hand: the same statements in the same order,
//! on the same server, in turns.
//!
//! Each message is one transaction: claim it, insert a row as its effect, keep one output, commit.
//! Both sides use sqlx with its cache of prepared statements, so that the difference is what the
//! library adds: the payload's hash, the encoding of the outputs, and the calls between.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use harness::{Database, DatabaseKind};
use serde::Serialize;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use wharf_message::idempotency::Key;
use wharf_message::{Message, TopicName};
use wharf_outbox::{Inbox, Once, PayloadHash};

/// The size of a message's payload, in bytes.
const PAYLOAD_BYTES: usize = 1_024;
const SCHEMA: [&str; 3] = [
    "CREATE TABLE effects (id text NOT NULL)",
    r#"CREATE TABLE by_hand (
        consumer text COLLATE "C" NOT NULL, source text COLLATE "C" NOT NULL,
        message_id text COLLATE "C" NOT NULL, seen_at timestamptz NOT NULL DEFAULT now(),
        payload_hash bytea NOT NULL, outputs bytea, PRIMARY KEY (consumer, source, message_id))"#,
    "CREATE INDEX by_hand_seen_at ON by_hand (seen_at)",
];
const CLAIM: &str = "INSERT INTO by_hand (consumer, source, message_id, payload_hash)
    VALUES ($1, $2, $3, $4) ON CONFLICT (consumer, source, message_id) DO NOTHING";
const EFFECT: &str = "INSERT INTO effects (id) VALUES ($1)";
const OUTPUTS: &str = "UPDATE by_hand SET outputs = $1
    WHERE consumer = $2 AND source = $3 AND message_id = $4";

/// How the measurement is taken.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Shape {
    /// How many consumers work at once, each with a connection
    #[arg(long, default_value_t = 4)]
    pub(crate) connections: u32,
    /// How often each side has its turn; the median counts
    #[arg(long, default_value_t = 11)]
    pub(crate) rounds: usize,
    /// How long a turn lasts, in seconds
    #[arg(long, default_value_t = 0.5)]
    pub(crate) seconds: f64,
}

/// Messages per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Rates {
    /// Of the library's inbox.
    pub(crate) inbox: f64,
    /// Of the transaction written by hand.
    pub(crate) by_hand: f64,
}

impl Rates {
    /// What part of the rate by hand the library reaches.
    pub(crate) fn ratio(self) -> f64 {
        self.inbox / self.by_hand
    }
}

/// Measures both on a new Postgres with its default settings: every commit is synced.
pub(crate) fn measure(shape: Shape) -> Result<Rates> {
    let server = Database::start(DatabaseKind::Postgres, &[])?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let pool = PgPoolOptions::new()
            .min_connections(shape.connections)
            .max_connections(shape.connections)
            .test_before_acquire(false)
            .connect(&server.url("postgres"))
            .await?;
        Inbox::install(&pool).await?;
        for sql in SCHEMA {
            sqlx::query(sql).execute(&pool).await?;
        }
        let numbers = Arc::new(AtomicU64::new(0));
        let (mut inbox, mut by_hand) = (Vec::new(), Vec::new());
        // The first turns only warm up connections and caches.
        for round in 0..=shape.rounds {
            let hand = turn(shape, &pool, &numbers, one_by_hand).await?;
            let library = turn(shape, &pool, &numbers, one_with_the_inbox).await?;
            if round > 0 {
                by_hand.push(hand);
                inbox.push(library);
            }
        }
        Ok(Rates {
            inbox: median(inbox)?,
            by_hand: median(by_hand)?,
        })
    })
}

pub(crate) fn median(mut rates: Vec<f64>) -> Result<f64> {
    rates.sort_by(f64::total_cmp);
    rates
        .get(rates.len() / 2)
        .copied()
        .context("no round was measured")
}

/// All consumers, for one turn: messages per second.
async fn turn<F, W>(shape: Shape, pool: &PgPool, numbers: &Arc<AtomicU64>, one: F) -> Result<f64>
where
    F: Fn(PgPool, String, Message) -> W + Copy + Send + 'static,
    W: Future<Output = Result<()>> + Send,
{
    let payload = bytes::Bytes::from(vec![b'x'; PAYLOAD_BYTES]);
    let began = Instant::now();
    let length = Duration::from_secs_f64(shape.seconds);
    let consumers = (0..shape.connections).map(|_| {
        let (pool, numbers, payload) = (pool.clone(), Arc::clone(numbers), payload.clone());
        tokio::spawn(async move {
            let mut handled = 0_u32;
            while began.elapsed() < length {
                let id = format!("message-{}", numbers.fetch_add(1, Ordering::Relaxed));
                one(pool.clone(), id, Message::new(payload.clone())).await?;
                handled += 1;
            }
            anyhow::Ok(handled)
        })
    });
    let ended = try_join_all(consumers).await?;
    let handled = ended.into_iter().sum::<Result<u32>>()?;
    Ok(f64::from(handled) / began.elapsed().as_secs_f64())
}

async fn one_with_the_inbox(pool: PgPool, id: String, message: Message) -> Result<()> {
    let inbox = Inbox::new("billing");
    let key = Key::operation("orders", id.clone());
    let mut transaction = pool.begin().await?;
    let hash = PayloadHash::of(&message);
    let once = inbox.once(&mut transaction, &key, &hash).await?;
    ensure!(once == Once::First, "{id} was there before");
    sqlx::query(EFFECT)
        .bind(&id)
        .execute(&mut *transaction)
        .await?;
    let outputs = [(TopicName::new("charged")?, message)];
    inbox
        .record_outputs(&mut transaction, &key, &outputs)
        .await?;
    transaction.commit().await?;
    Ok(())
}

async fn one_by_hand(pool: PgPool, id: String, message: Message) -> Result<()> {
    let payload = message.payload.context("every message has a payload")?;
    let mut transaction = pool.begin().await?;
    let claimed = sqlx::query(CLAIM)
        .bind("billing")
        .bind("orders")
        .bind(&id)
        .bind(&[0_u8; 32][..])
        .execute(&mut *transaction)
        .await?;
    ensure!(claimed.rows_affected() == 1, "{id} was there before");
    sqlx::query(EFFECT)
        .bind(&id)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(OUTPUTS)
        .bind(&payload[..])
        .bind("billing")
        .bind("orders")
        .bind(&id)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

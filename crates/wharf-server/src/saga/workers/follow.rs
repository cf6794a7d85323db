//! Following the topics that others write to: workers' replies, and records that start sagas.
//!
//! A record counts once its saga's commit is there; how far was read is kept with later commits, so a
//! restart reads some records again. That changes nothing: an answer is fenced by its dispatch, a
//! start by its key.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesOrdered;
use tokio::sync::watch;
use tokio::time::sleep;
use wharf_message::Code;
use wharf_message::ledger::{Entry, Error, Partition};

use super::topic;
use crate::flag::raised;
use crate::saga::engine::Engine;
use crate::saga::refusal::Refused;

/// Whose progress it is.
const READER: &str = "wharf.sagas";
/// How many records are read at once.
const READ_MAX: usize = 1_000;
/// How many reads are being handled at once: while the records of one wait for their commit, those of
/// the next one can join a later commit.
const READS: usize = 4;
/// How long to wait before trying again.
const RETRY: Duration = Duration::from_secs(1);

/// Follows a partition of the workers' replies until `stop`.
pub(crate) async fn replies(engine: Engine, partition: Partition, stop: watch::Receiver<bool>) {
    follow(engine, partition, stop, |engine, _, entry| {
        let reply = topic::reply(&entry.record);
        async move {
            match reply {
                Ok((token, outcome)) => engine.reply(token, outcome).await,
                Err(reason) => {
                    engine
                        .shared()
                        .noise("a worker's reply cannot be read", &reason);
                    Ok(())
                }
            }
        }
    })
    .await;
}

/// Follows a partition of the records that start sagas until `stop`.
pub(crate) async fn starts(engine: Engine, partition: Partition, stop: watch::Receiver<bool>) {
    follow(engine, partition, stop, |engine, partition, entry| {
        let place = format!("{}/{}", partition.index, entry.offset);
        let start = topic::start(&entry.record, &place);
        async move {
            let started = match start {
                Ok(start) => match engine.start_in_turn(start).await {
                    // There is no room now: the record waits, as do those behind it.
                    Err(refused) if refused.code == Code::SAGA_BUSY => {
                        engine
                            .shared()
                            .noise("records that start sagas wait", &refused.message);
                        Err(Refused::unavailable(refused.message))
                    }
                    started => started.map(|_| ()),
                },
                Err(reason) => {
                    engine.shared().metrics.start_refused();
                    engine
                        .shared()
                        .noise("a record cannot start a saga", &reason);
                    return Ok(());
                }
            };
            if let Err(refused) = &started
                && !refused.is_unknown()
            {
                engine.shared().metrics.start_refused();
                tracing::error!(place, %refused, "a record of {} started no saga", topic::STARTS);
            }
            started
        }
    })
    .await;
}

/// What came of the records of one read.
enum Handled {
    /// Each of them is durable or refused; the next read begins here.
    Known { after: i64 },
    /// Of some it is not known; the read began here.
    Unknown { from: i64 },
}

async fn follow<F>(
    engine: Engine,
    partition: Partition,
    mut stop: watch::Receiver<bool>,
    handle: impl Fn(Engine, &Partition, &Entry) -> F,
) where
    F: Future<Output = Result<(), Refused>>,
{
    let shared = Arc::clone(engine.shared());
    let mut next = None;
    let mut handling = FuturesOrdered::new();
    loop {
        let read = async {
            let from = match next {
                Some(next) => next,
                None => {
                    let kept = shared.ledger.progress(READER, partition.clone()).await?;
                    kept.unwrap_or(0)
                }
            };
            let entries = shared
                .ledger
                .follow(partition.clone(), from, READ_MAX)
                .await;
            entries.map(|entries| (from, entries))
        };
        let read = tokio::select! {
            biased;
            () = raised(&mut stop) => return,
            Some(handled) = handling.next() => match handled {
                Handled::Known { after } => {
                    shared.progress.note(READER, &partition, after);
                    continue;
                }
                Handled::Unknown { from } => {
                    // Again, from the same place: what was taken before is known by then.
                    handling = FuturesOrdered::new();
                    next = Some(from);
                    if !pause(&mut stop).await {
                        return;
                    }
                    continue;
                }
            },
            read = read, if handling.len() < READS => read,
        };
        let (from, entries) = match read {
            Ok(read) => read,
            Err(Error::OutOfRange { start, .. }) => {
                next = Some(start);
                continue;
            }
            Err(error) => {
                tracing::warn!(topic = %partition.topic, %error, "sagas cannot follow a topic");
                if !pause(&mut stop).await {
                    return;
                }
                continue;
            }
        };
        let after = entries.last().map_or(from, |entry| entry.offset + 1);
        next = Some(after);
        // All at once, so that they share commits; each saga's in their order.
        let answers = entries
            .iter()
            .map(|entry| handle(engine.clone(), &partition, entry));
        let answers = join_all(answers);
        handling.push_back(async move {
            let answers = answers.await;
            let is_unknown = |answer: &Result<(), Refused>| matches!(answer, Err(refused) if refused.is_unknown());
            match answers.iter().any(is_unknown) {
                true => Handled::Unknown { from },
                false => Handled::Known { after },
            }
        });
    }
}

/// Waits a little; whether to go on.
async fn pause(stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        biased;
        () = raised(stop) => false,
        () = sleep(RETRY) => true,
    }
}

//! What the parts of the role share: the views, the workers, the queues of the partitions.
//!
//! Nothing here is the truth; all of it is made again from the topics.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use wharf_message::ledger::{Commit, Ledger, Owner, Partition, Progress};
use wharf_message::{Code, TopicName};
use wharf_saga::machine::{Input, SagaId};

use super::alarms::Alarms;
use super::claims::Claims;
use super::definitions::Definitions;
use super::metrics::SagaMetrics;
use super::resources::ResourceMap;
use super::shard::Work;
use super::slots::Slots;
use super::topics::Topics;
use super::view::Index;
use super::workers::activity::Activities;
use super::workers::handler::Handlers;
use super::workers::http::HttpWorkers;
use crate::clock;

/// How many lines a minute are logged about what others send wrongly.
const NOISE_MAX: u32 = 10;

/// The topics by role.
pub(super) struct Names {
    pub(super) sagas: TopicName,
    pub(super) audit: TopicName,
    pub(super) alarms: TopicName,
    pub(super) replies: TopicName,
    pub(super) starts: TopicName,
}

/// How far the topics of others were read, for the next commit.
#[derive(Default)]
pub(super) struct ReadSoFar(Mutex<BTreeMap<Partition, (String, i64)>>);

impl ReadSoFar {
    pub(super) fn note(&self, reader: &str, partition: &Partition, offset: i64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(partition.clone(), (reader.to_owned(), offset));
    }

    pub(super) fn take(&self) -> Vec<Progress> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *all).into_iter();
        let progress = all.map(|(partition, (reader, offset))| Progress {
            reader,
            partition,
            offset,
        });
        progress.collect()
    }
}

/// The visit of a parent's state, and its dispatch.
type Visit = (SagaId, u32, u32);

/// Which sub-saga belongs to which dispatch; only those that have not ended.
#[derive(Default)]
pub(super) struct Children(Mutex<HashMap<Visit, SagaId>>);

impl Children {
    pub(super) fn note(&self, visit: Visit, child: SagaId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(visit, child);
    }

    pub(super) fn of(&self, visit: Visit) -> Option<SagaId> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&visit).copied()
    }

    pub(super) fn forget(&self, visit: Visit) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&visit);
    }
}

/// What the parts of the role share.
pub(super) struct Shared {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) names: Names,
    pub(super) topics: Topics,
    pub(super) definitions: Definitions,
    pub(super) resources: ResourceMap,
    pub(super) index: Index,
    pub(super) slots: Slots,
    pub(super) children: Children,
    pub(super) progress: ReadSoFar,
    pub(super) metrics: SagaMetrics,
    pub(super) alarms: Alarms,
    pub(super) handlers: Handlers,
    pub(super) activities: Activities,
    pub(super) http: OnceLock<Arc<HttpWorkers>>,
    /// Where HTTP workers answer later.
    pub(super) callback: OnceLock<String>,
    /// Whether there were sagas when the node started.
    pub(super) had_sagas: bool,
    /// Where payloads go that are larger; nowhere, where it is switched off.
    pub(super) claims: Option<Arc<Claims>>,
    /// How much of large requests may be in memory.
    pub(super) bodies: Semaphore,
    pub(super) payload_max: usize,
    pub(super) keep: Option<Duration>,
    /// How many ended sagas a partition keeps.
    pub(super) keep_max: usize,
    /// How many sagas may be under way in a partition.
    pub(super) open_max: usize,
    /// How many partitions a command topic gets when it is created.
    pub(super) partitions: i32,
    pub(super) requests: Vec<mpsc::Sender<Work>>,
    pub(super) follow_ups: Vec<mpsc::UnboundedSender<Work>>,
    pub(super) trouble: Mutex<BTreeMap<i32, String>>,
    /// How many sagas of each partition sleep.
    pub(super) asleep: Vec<AtomicUsize>,
    pub(super) noise: Mutex<(i64, u32)>,
    /// What works, once the topics are there.
    pub(super) begun: OnceLock<Mutex<Vec<JoinHandle<()>>>>,
    pub(super) dormant: tokio::sync::Mutex<Option<super::Dormant>>,
}

impl Shared {
    pub(super) fn at(&self, id: SagaId) -> usize {
        let number = u128::from_be_bytes(*id.as_bytes());
        let count = u128::try_from(self.requests.len().max(1)).unwrap_or(1);
        usize::try_from(number % count).unwrap_or(0)
    }

    /// Keeps how far the topics of others were read, as the last thing.
    pub(super) async fn keep_progress(&self, owner: &Owner) {
        let progress = self.progress.take();
        if progress.is_empty() {
            return;
        }
        let commit = Commit {
            progress,
            ..Commit::default()
        };
        if let Err(error) = self.ledger.commit(owner, commit).await {
            tracing::warn!(%error, "how far replies were read is not kept");
        }
    }

    /// Something that follows from an open task; nobody waits for the answer.
    pub(super) fn follow_up(&self, saga: SagaId, input: Input) {
        let work = Work::Input {
            saga,
            input: Box::new(input),
            answer: None,
        };
        self.follow_up_with(saga, work);
    }

    /// Has every other partition ask again for the sub-sagas it waits for in this one, which was
    /// read again: what it was asked, and what it had to tell, may be lost.
    pub(super) fn ask_again_of(&self, partition: i32) {
        let Ok(index) = usize::try_from(partition) else {
            return;
        };
        for (at, queue) in self.follow_ups.iter().enumerate() {
            if at != index {
                drop(queue.send(Work::AskAgain(index)));
            }
        }
    }

    /// The queue of a saga, for what follows later.
    pub(super) fn follow_ups_of(&self, saga: SagaId) -> Option<mpsc::UnboundedSender<Work>> {
        self.follow_ups.get(self.at(saga)).cloned()
    }

    pub(super) fn follow_up_with(&self, saga: SagaId, work: Work) {
        if let Some(queue) = self.follow_ups.get(self.at(saga)) {
            // Closed means that the node is stopping: it is found again at the next start.
            drop(queue.send(work));
        }
    }

    /// Keeps how many sagas of a partition sleep.
    pub(super) fn note_asleep(&self, partition: i32, count: usize) {
        let known = usize::try_from(partition).ok();
        if let Some(known) = known.and_then(|index| self.asleep.get(index)) {
            known.store(count, Ordering::Relaxed);
        }
    }

    /// Keeps and logs that a partition is in trouble, or not any more.
    pub(super) fn in_trouble(&self, partition: i32, reason: Option<&str>) {
        let mut all = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match reason {
            None => _ = all.remove(&partition),
            Some(reason) => {
                if all.insert(partition, reason.to_owned()).as_deref() != Some(reason) {
                    let code = Code::SAGA_UNAVAILABLE;
                    tracing::error!(%code, partition, reason, "sagas cannot use their topics");
                }
            }
        }
    }

    /// Logs what others send wrongly, so many lines a minute.
    pub(super) fn noise(&self, what: &str, reason: &str) {
        let minute = clock::now().as_millis() / 60_000;
        let mut noise = self.noise.lock().unwrap_or_else(PoisonError::into_inner);
        if noise.0 != minute {
            *noise = (minute, 0);
        }
        noise.1 += 1;
        if noise.1 <= NOISE_MAX {
            tracing::warn!(reason, "{what}");
        }
    }
}

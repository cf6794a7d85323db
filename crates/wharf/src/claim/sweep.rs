//! Mark and sweep: removes the payloads that nothing refers to any more.
//!
//! An object is live while a message, a dead letter, a retry or a scheduled message refers to it, or
//! while it is younger than the grace. The order makes it safe:
//!
//! 1. The old objects are listed. Whoever stores a payload again makes it young.
//! 2. Everything that may refer is read, and what is referred to is struck from the list. A payload
//!    on the list was stored longer than the grace ago, so a message that was published with it is there to be
//!    read. If anything cannot be read wholly, nothing is deleted.
//! 3. Each object that is left is marked, looked at again, and deleted if it is still as old as it
//!    was listed. Whoever stores a payload looks for the mark after that. So a writer and a
//!    sweep that meet cannot both miss each other: either the sweep sees the young object and leaves it,
//!    or the writer sees the mark, waits for the sweep and stores the payload again.
//!
//! A sweep may die at any point: marks and unfinished uploads that are old are removed by the next one.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{StreamExt, TryStreamExt};
use wharf_message::{Code, Message, Timestamp};

use super::object::UPLOADS;
use super::store::Name;
use super::{BlobStore, Claims, Digest, Reference, StoreError};

/// How long the sweep may take with one object, from its mark to its end. Much less than a writer waits.
const DELETE_MAX: Duration = Duration::from_secs(60);
/// How many old objects one sweep looks at.
const CANDIDATES_MAX: usize = 1_000_000;

/// Where the mark of an object is that a sweep is about to delete.
pub(super) fn mark(prefix: &str, digest: &Digest) -> String {
    format!("{prefix}doomed/{digest}")
}

/// What a sweep may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepSettings {
    /// How long an object is kept whether or not anything refers to it: 14 days; at least one hour. It
    /// must be longer than a payload may be stored before its message is published (an outbox that waits
    /// for its relay, a transaction that is long), than the window of an inbox (which publishes kept outputs
    /// again), and than clocks differ.
    pub grace: Duration,
    /// Only say what would be deleted.
    pub dry_run: bool,
}

impl Default for SweepSettings {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(14 * 24 * 60 * 60),
            dry_run: false,
        }
    }
}

/// What a sweep found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// How many objects there are, as far as it looked.
    pub objects: u64,
    /// How many of them are old but referred to.
    pub live: u64,
    /// The keys of those that were deleted, or would have been.
    pub deleted: Vec<String>,
    /// How many unfinished uploads and marks of dead sweeps were removed, or would have been.
    pub remains: u64,
    /// Whether there were more old objects than one sweep looks at; run it again.
    pub more: bool,
}

/// Why a sweep ended. What it had deleted before is deleted; after [`SweepError::Unread`] that is nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    /// Not everything that may refer could be read.
    #[error("{code}: nothing was deleted: {0}", code = Code::SWEEP_REFUSED)]
    Unread(Unread),
    /// There is nothing that may refer: a sweep that looks nowhere would delete everything.
    #[error("{code}: nothing was deleted: name the topics that may refer", code = Code::SWEEP_REFUSED)]
    NothingToRead,
    /// The grace is shorter than an hour.
    #[error(
        "{code}: nothing was deleted: a grace of {0:?} is too short; at least one hour",
        code = Code::SWEEP_REFUSED
    )]
    GraceTooShort(Duration),
    /// The store failed.
    #[error("{code}: the sweep ended early: {0}", code = Code::CLAIM_STORE_UNAVAILABLE)]
    Store(StoreError),
}

/// A place that may refer to payloads and could not be read from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} could not be read wholly: {why}")]
pub struct Unread {
    /// Which topic, table or other place.
    pub place: String,
    /// Why.
    pub why: String,
}

/// Everything that may refer to payloads: topics with their retries, schedules and dead letters, the
/// rows of an outbox.
///
/// # Contract
/// `visit` calls `each` with every message that is there from its beginning to its end and returns `Ok`
/// only if it did. A message that moves from one of its places to another meanwhile is visited in one of them.
pub trait References: Send + Sync {
    /// Visits every message.
    fn visit<'a>(
        &'a self,
        each: &'a mut (dyn FnMut(&Message) + Send),
    ) -> BoxFuture<'a, Result<(), Unread>>;
}

/// Removes the payloads of `claims` (its own store and tenant) that nothing in `references` refers to and
/// that are older than the grace at the time `now`. `references` are visited in their order: name the
/// places that messages come from (an outbox) before those that they go to (its topics).
///
/// ```
/// use futures_util::FutureExt;
/// use futures_util::future::BoxFuture;
/// use wharf::claim::{Claims, ObjectBlobs, References, SweepSettings, Unread, sweep};
/// use wharf_message::{Message, Timestamp};
///
/// struct Messages(Vec<Message>);
/// impl References for Messages {
///     fn visit<'a>(
///         &'a self,
///         each: &'a mut (dyn FnMut(&Message) + Send),
///     ) -> BoxFuture<'a, Result<(), Unread>> {
///         self.0.iter().for_each(each);
///         async { Ok(()) }.boxed()
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let claims = Claims::new("payloads", ObjectBlobs::memory())?;
/// let kept = claims.check_in(Message::new("kept"), 0).await?;
/// claims.check_in(Message::new("dropped"), 0).await?;
///
/// let in_ten_thousand_days = Timestamp::from_millis(8_640_000_000 * 1_000);
/// let references = Messages(vec![kept]);
/// let settings = SweepSettings { dry_run: true, ..SweepSettings::default() };
/// let report = sweep(&claims, &[&references], in_ten_thousand_days, settings).await?;
/// assert_eq!((report.objects, report.live, report.deleted.len()), (2, 1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Nothing was deleted if one of `references` could not be read wholly.
pub async fn sweep(
    claims: &Claims,
    references: &[&dyn References],
    now: Timestamp,
    settings: SweepSettings,
) -> Result<SweepReport, SweepError> {
    if references.is_empty() {
        return Err(SweepError::NothingToRead);
    }
    if settings.grace < Duration::from_secs(3_600) {
        return Err(SweepError::GraceTooShort(settings.grace));
    }
    let sweep = Sweep {
        store: claims.own(),
        name: &claims.0.name,
        prefix: &claims.0.prefix,
        now,
        settings,
    };
    let mut report = SweepReport::default();
    let mut old = sweep.list(&mut report).await?;
    let listed = old.len();
    if !old.is_empty() {
        for place in references {
            place
                .visit(&mut |message| sweep.strike(message, &mut old))
                .await
                .map_err(SweepError::Unread)?;
        }
    }
    report.live = (listed - old.len()) as u64;
    for (digest, modified) in old {
        if settings.dry_run || sweep.delete(&digest, modified).await? {
            report.deleted.push(digest.key(sweep.prefix));
        }
    }
    sweep.remove_remains(&mut report).await?;
    tracing::info!(
        store = sweep.name,
        objects = report.objects,
        live = report.live,
        deleted = report.deleted.len(),
        remains = report.remains,
        dry_run = settings.dry_run,
        "a sweep of claim checks ended"
    );
    Ok(report)
}

struct Sweep<'a> {
    store: &'a dyn BlobStore,
    name: &'a str,
    prefix: &'a str,
    now: Timestamp,
    settings: SweepSettings,
}

impl Sweep<'_> {
    fn is_old(&self, modified: Timestamp) -> bool {
        modified.after(self.settings.grace) < self.now
    }

    /// The old objects, by content.
    async fn list(
        &self,
        report: &mut SweepReport,
    ) -> Result<HashMap<Digest, Timestamp>, SweepError> {
        let mut old = HashMap::new();
        let below = format!("{}sha256/", self.prefix);
        let mut listed = self.store.list(&below);
        while let Some(object) = listed.try_next().await.map_err(SweepError::Store)? {
            // What is not ours is not touched.
            let Some(digest) = Digest::from_key(&object.key, self.prefix) else {
                continue;
            };
            report.objects += 1;
            if !self.is_old(object.modified) {
                continue;
            }
            if old.len() == CANDIDATES_MAX {
                report.more = true;
                break;
            }
            old.insert(digest, object.modified);
        }
        Ok(old)
    }

    /// Strikes what `message` refers to. A reference that is not in order keeps what it may mean.
    fn strike(&self, message: &Message, old: &mut HashMap<Digest, Timestamp>) {
        match Reference::of(message) {
            Ok(Some(reference)) if reference.store == self.name => {
                old.remove(&reference.digest);
            }
            Ok(_) => {}
            Err(_) => {
                for digest in mentioned(message) {
                    old.remove(&digest);
                }
            }
        }
    }

    /// Deletes an object, unless it was stored again. Whether it did.
    async fn delete(&self, digest: &Digest, listed: Timestamp) -> Result<bool, SweepError> {
        let mark = mark(self.prefix, digest);
        let key = digest.key(self.prefix);
        let now = futures_util::stream::once(async { Ok(bytes::Bytes::new()) });
        let marked = self.store.put(Name::Key(&mark), now.boxed()).await;
        marked.map_err(SweepError::Store)?;
        let deleting = async {
            match self.store.get(&key).await {
                Ok(object) if object.modified == listed => {
                    self.store.delete(&key).await.map(|()| true)
                }
                Ok(_) | Err(StoreError::NotFound(_)) => Ok(false),
                Err(error) => Err(error),
            }
        };
        // After an error it is unknown whether the object goes; then the mark stays.
        let deleted = match tokio::time::timeout(DELETE_MAX, deleting).await {
            Ok(deleted) => deleted.map_err(SweepError::Store)?,
            Err(_elapsed) => {
                let why = format!("deleting {key} took longer than {DELETE_MAX:?}");
                return Err(SweepError::Store(StoreError::Unavailable(why)));
            }
        };
        self.store.delete(&mark).await.map_err(SweepError::Store)?;
        Ok(deleted)
    }

    /// Removes what dead sweeps and interrupted uploads left.
    async fn remove_remains(&self, report: &mut SweepReport) -> Result<(), SweepError> {
        for below in [format!("{}doomed/", self.prefix), UPLOADS.to_owned()] {
            let mut remains = Vec::new();
            let mut listed = self.store.list(&below);
            while let Some(object) = listed.try_next().await.map_err(SweepError::Store)? {
                if self.is_old(object.modified) && remains.len() < CANDIDATES_MAX {
                    remains.push(object.key);
                }
            }
            report.remains += remains.len() as u64;
            if self.settings.dry_run {
                continue;
            }
            for key in remains {
                self.store.delete(&key).await.map_err(SweepError::Store)?;
            }
        }
        Ok(())
    }
}

/// Every digest that stands somewhere in a header of `message`.
fn mentioned(message: &Message) -> impl Iterator<Item = Digest> {
    let values = message.headers.iter().filter_map(|(_, value)| value);
    values.flat_map(|value| {
        let parts = value.windows(Digest::TEXT_BYTES);
        parts.filter_map(|part| Digest::parse(std::str::from_utf8(part).ok()?))
    })
}

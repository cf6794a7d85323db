//! Removing payloads that no saga refers to any more.
//!
//! A payload is stored before its saga knows of it, so what is young stays. Of the rest, what no saga
//! that is kept names goes, once two looks in a row found it so: between one saga's end and the
//! other's next step a reference may be seen in neither. A look that could not see every saga
//! removes nothing.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use wharf_message::{Code, Timestamp};
use wharf_saga::machine::Saga;

use super::{Claims, Digest, STORE};
use crate::clock;
use crate::flag::raised;
use crate::saga::engine::Engine;
use crate::saga::refusal::Refused;

/// How long a payload stays at least. Longer than anything takes from storing it to its saga.
const GRACE: Duration = Duration::from_secs(3_600);
/// How often is looked.
const EVERY: Duration = Duration::from_secs(600);

/// Looks now and then until `stop`.
pub(in crate::saga) async fn sweeping(
    engine: Engine,
    claims: Arc<Claims>,
    mut stop: watch::Receiver<bool>,
) {
    let mut suspects = BTreeSet::new();
    loop {
        tokio::select! {
            biased;
            () = raised(&mut stop) => return,
            () = sleep(EVERY) => {}
        }
        let moment = Timestamp::from_millis(
            clock::now().as_millis() - i64::try_from(GRACE.as_millis()).unwrap_or(0),
        );
        let swept = tokio::select! {
            biased;
            () = raised(&mut stop) => return,
            swept = sweep(&engine, &claims, &suspects, moment) => swept,
        };
        match swept {
            Ok(next) => suspects = next,
            Err(reason) => tracing::warn!(reason, "large payloads of sagas are not swept"),
        }
    }
}

/// Removes what was stored before `moment` and nobody refers to, if it was among the suspects of the
/// look before; the others are the next suspects.
pub(in crate::saga) async fn sweep(
    engine: &Engine,
    claims: &Arc<Claims>,
    suspects: &BTreeSet<Digest>,
    moment: Timestamp,
) -> Result<BTreeSet<Digest>, String> {
    let folder = Arc::clone(&claims.folder);
    let listed = spawn_blocking(move || folder.older_than(moment)).await;
    let listed = listed.map_err(io::Error::other).and_then(|listed| listed);
    let listed = listed.map_err(|error| error.to_string())?;
    let mut unknown: BTreeSet<_> = listed.into_iter().collect();
    if unknown.is_empty() {
        return Ok(unknown);
    }
    let of_all = referred(engine).await;
    for digest in of_all.map_err(|refused| refused.to_string())? {
        unknown.remove(&digest);
    }
    let (gone, next): (BTreeSet<_>, _) = unknown
        .into_iter()
        .partition(|digest| suspects.contains(digest));
    let folder = Arc::clone(&claims.folder);
    let removed = spawn_blocking(move || {
        let mut removed = gone.iter().map(|digest| folder.remove(digest, moment));
        removed.try_for_each(|removed| removed.map(|_| ()))
    });
    let removed = removed.await.map_err(io::Error::other);
    removed
        .and_then(|removed| removed)
        .map_err(|error| error.to_string())?;
    Ok(next)
}

/// What the sagas refer to, all of them.
async fn referred(engine: &Engine) -> Result<BTreeSet<Digest>, Refused> {
    engine.check_begun()?;
    let (rows, _) = engine.shared().index.page(&|_| true, None, usize::MAX);
    let mut found = BTreeSet::new();
    for row in rows {
        match engine.look_in_turn(row.id, in_saga).await {
            Ok(Ok(more)) => found.extend(more),
            Ok(Err(error)) => return Err(Refused::unavailable(error)),
            // Forgotten meanwhile.
            Err(refused) if refused.code == Code::SAGA_UNKNOWN => {}
            Err(refused) => return Err(refused),
        }
    }
    Ok(found)
}

/// What one saga refers to, wherever it keeps it.
fn in_saga(saga: &Saga) -> Result<Vec<Digest>, String> {
    let text = serde_json::to_string(saga).map_err(|error| error.to_string())?;
    let begin = format!("claim://{STORE}/");
    let found = text.match_indices(&begin);
    let found = found.filter_map(|(at, begin)| {
        let from = at + begin.len();
        Digest::parse(text.get(from..from + 64)?)
    });
    Ok(found.collect())
}

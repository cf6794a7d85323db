//! People who sign: they send a signal again and again until somebody says that it is there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::check::Fate;
use super::clients::Shared;
use super::{http, machines, read};
use crate::random::Random;

/// How long somebody waits before the next signature.
const PAUSE_MILLIS: u64 = 400;
/// How often one signature is sent, and how long it is waited in between.
const TRIES: u32 = 40;
const AGAIN: Duration = Duration::from_millis(150);

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Starts somebody who signs.
pub(super) fn start(shared: &Shared, random: &mut Random) -> JoinHandle<()> {
    let (shared, random) = (shared.clone(), Random::new(random.next()));
    thread::spawn(move || {
        shared.work(random, PAUSE_MILLIS, |random| {
            // A node that is down is met again.
            let Ok(waiting) = waiting(&shared) else {
                return;
            };
            if !waiting.is_empty() {
                let id: &String = random.pick(&waiting);
                sign(&shared, id);
            }
        });
    })
}

/// The sagas that wait for a signature and are to get one.
fn waiting(shared: &Shared) -> Result<Vec<String>> {
    let rows = read::list(&shared.api, "&type=signed&status=RUNNING&step=Between")?;
    let is_meant = |row: &&Value| {
        let number = row["key"]
            .as_str()
            .and_then(|key| key.strip_prefix("order-"));
        let number = number.and_then(|number| number.parse().ok());
        number.is_some_and(|number| machines::order(shared.seed, number).1["signed"] == true)
    };
    let ids = rows
        .iter()
        .filter(is_meant)
        .filter_map(|row| row["id"].as_str());
    Ok(ids.map(str::to_owned).collect())
}

/// Sends one signature until it is acknowledged or refused.
fn sign(shared: &Shared, id: &str) {
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let body = json!({ "name": machines::SIGNAL, "payload": { "signature": number } });
    let path = format!("/api/v1/sagas/{id}/signals");
    let mut fate = Fate::Unknown;
    let note = |fate| shared.known().signals.insert(number, (id.to_owned(), fate));
    note(fate);
    for turn in 0..TRIES {
        match http::ask(&shared.api, "POST", &path, Some(&body)) {
            Ok((202, _)) => fate = Fate::Accepted,
            // What was sent before may be there.
            Ok((400..500, _)) if turn == 0 => fate = Fate::Refused,
            Ok((400..500, _)) => return,
            _ => {
                thread::park_timeout(AGAIN);
                continue;
            }
        }
        note(fate);
        return;
    }
}

/// Signs everything that waits for it, so that each comes to rest.
pub(super) fn sign_all(shared: &Shared) -> Result<()> {
    for id in waiting(shared)? {
        sign(shared, &id);
    }
    Ok(())
}

//! Who asks for which schema: evidence for impact reports, and nothing more.
//!
//! It is kept in memory from the start of the node on, and bounded: beyond the bound, what was seen
//! longest ago is forgotten first. Names come from the clients and prove nothing about who they are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use wharf_message::Timestamp;

/// How many pairs of schema and client are remembered.
const USES_MAX: usize = 20_000;
/// The longest name of a client that is kept, in characters.
const NAME_MAX: usize = 128;

/// A client, as far as it says who it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Client {
    /// Where its connection comes from.
    pub peer: IpAddr,
    /// What it calls itself: `Confluent-Client-Version`, else `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The user it gives for HTTP's basic authentication, which nobody checks, or its id by Apicurio's
    /// `X-Registry-Client-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// That a client asked for a schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Use {
    /// The context of the id; `.` is the default one.
    pub context: String,
    /// The schema's id.
    pub id: i32,
    /// Who asked.
    pub client: Client,
    /// How often since the node was started, or since it was forgotten.
    pub times: u64,
    /// When first.
    #[serde(serialize_with = "readable")]
    pub first: Timestamp,
    /// When last.
    #[serde(serialize_with = "readable")]
    pub last: Timestamp,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn readable<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339())
}

#[derive(Debug)]
struct Seen {
    times: u64,
    first: Timestamp,
    last: Timestamp,
}

type Key = (String, i32, Client);

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Usage(Mutex<HashMap<Key, Seen>>);

impl Client {
    /// Who sent a request with these headers.
    pub(super) fn of(peer: IpAddr, headers: &HeaderMap) -> Self {
        let text = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?.trim();
            Some(cut(value)).filter(|value| !value.is_empty())
        };
        let agent = || text(header::USER_AGENT.as_str());
        Self {
            peer,
            version: text("confluent-client-version").or_else(agent),
            name: user(headers).or_else(|| text("x-registry-client-id")),
        }
    }
}

/// The user of basic authentication; never the password.
fn user(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let pair = String::from_utf8(decoded).ok()?;
    let (user, _password) = pair.split_once(':')?;
    Some(cut(user)).filter(|user| !user.is_empty())
}

fn cut(text: &str) -> String {
    text.chars().take(NAME_MAX).collect()
}

impl Usage {
    /// Notes that `client` asked for a schema.
    pub(super) fn note(&self, context: &str, id: i32, client: Client, now: Timestamp) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (context.to_owned(), id, client);
        if let Some(seen) = uses.get_mut(&key) {
            seen.times += 1;
            seen.last = now;
            return;
        }
        if uses.len() == USES_MAX {
            forget(&mut uses);
        }
        let seen = Seen {
            times: 1,
            first: now,
            last: now,
        };
        uses.insert(key, seen);
    }

    /// Everything remembered, by context, id and client.
    pub(super) fn all(&self) -> Vec<Use> {
        let uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |((context, id, client), seen): (&Key, &Seen)| Use {
            context: context.clone(),
            id: *id,
            client: client.clone(),
            times: seen.times,
            first: seen.first,
            last: seen.last,
        };
        let mut all: Vec<Use> = uses.iter().map(one).collect();
        drop(uses);
        all.sort_by(|one, other| {
            (&one.context, one.id, &one.client).cmp(&(&other.context, other.id, &other.client))
        });
        all
    }
}

/// Forgets the eighth that was seen longest ago.
fn forget(uses: &mut HashMap<Key, Seen>) {
    let mut times: Vec<Timestamp> = uses.values().map(|seen| seen.last).collect();
    let mut left = (times.len() / 8).max(1);
    let (_, bound, _) = times.select_nth_unstable(left - 1);
    let bound = *bound;
    uses.retain(|_, seen| {
        let goes = left > 0 && seen.last <= bound;
        left -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn client(headers: &[(&'static str, &str)]) -> Client {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Client::of(PEER, &map)
    }

    #[test]
    fn a_client_is_known_by_its_headers_and_never_by_a_password() {
        let known = client(&[
            ("confluent-client-version", "python/2.16.1"),
            ("user-agent", "httpx"),
            ("authorization", "Basic YmlsbGluZzpzM2NyZXQ="),
        ]);
        assert_eq!(known.version.as_deref(), Some("python/2.16.1"));
        assert_eq!(known.name.as_deref(), Some("billing"));
        let other = client(&[("user-agent", "curl/8"), ("authorization", "Bearer s3cret")]);
        assert_eq!(other.version.as_deref(), Some("curl/8"));
        assert_eq!(other.name, None);
    }

    #[test]
    fn what_was_seen_longest_ago_is_forgotten_first_and_memory_is_bounded() {
        let usage = Usage::default();
        let seen =
            |id: i32| usage.note(".", id, client(&[]), Timestamp::from_millis(i64::from(id)));
        let last = i32::try_from(USES_MAX).unwrap() * 2;
        for id in 1..=last {
            seen(id);
        }
        seen(last);
        let all = usage.all();
        assert!(all.len() <= USES_MAX && all.len() > USES_MAX / 2);
        assert!(all.iter().any(|one| one.id == last && one.times == 2));
        assert!(all.iter().all(|one| one.id > last - last / 2));
    }
}

//! From the table `[relay.<name>]` to what a relay is made of, and what is wrong with it.
//!
//! Every setting is used here, in `source.rs` or in `target.rs`; none is ignored.

use std::time::Duration;

use wharf_message::Code;
use wharf_relay::{
    EmptyArrays, InvalidSetting, Missing, NullFields, OutboxRouter, OutboxSettings, Placement,
    Where,
};

use super::{source, target};
use crate::clock;
use crate::config::{Database, Lacking, Mode, Relay, Valueless};
use crate::problem::Problem;

/// The longest and the shortest that a poll interval and a lease may be.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(60);
const LEASES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(600);

/// What is wrong with a setting: its key within the table, and why.
pub(super) type Refused = (&'static str, String);

/// Whether a relay can be started with these settings. Asks no database.
pub(crate) fn check(name: &str, relay: &Relay) -> Result<(), Refused> {
    if relay.url.expose().is_empty() {
        let reason = "a relay needs the address of its database".to_owned();
        return Err(("url", reason));
    }
    database(relay)?;
    if mode(relay) == Mode::Log && database(relay)? != Database::Postgres {
        let reason = "only the log of Postgres can be read; use \"poll\"".to_owned();
        return Err(("mode", reason));
    }
    if relay.in_flight_size_max.0 == 0 || relay.in_flight_size_max.0 > 1 << 30 {
        let reason = format!("{} is outside 1B to 1GiB", relay.in_flight_size_max);
        return Err(("in-flight-size-max", reason));
    }
    if !INTERVALS.contains(&relay.poll_interval_max.0) {
        let reason = format!("{} is outside 1ms to 60s", relay.poll_interval_max);
        return Err(("poll-interval-max", reason));
    }
    if !LEASES.contains(&relay.lease.0) {
        let reason = format!("{} is outside 1s to 10m", relay.lease);
        return Err(("lease", reason));
    }
    if relay.partitions == Some(0) {
        return Err((
            "partitions",
            "a topic has at least one partition".to_owned(),
        ));
    }
    target::check(relay)?;
    let router = router(name, relay)?;
    source::source(name, relay, &router).map(|_source| ())
}

/// The problem of a relay whose configuration was made, not loaded.
pub(super) fn problem(name: &str, key: &str, reason: &str) -> Problem {
    Problem::new(
        Code::INVALID_CONFIGURATION,
        format!("the setting `relay.{name}.{key}` has an invalid value"),
        reason.to_owned(),
        "correct the value; `wharf config reference` describes every setting",
    )
}

/// Which database it reads.
pub(super) fn database(relay: &Relay) -> Result<Database, Refused> {
    let of_url = Database::of_url(relay.url.expose());
    let unknown = || {
        let reason = "it begins with none of postgres://, mysql:// and sqlite://".to_owned();
        ("url", reason)
    };
    let found = of_url.ok_or_else(unknown)?;
    match relay.kind {
        Some(kind) if kind != found => {
            let reason = format!(
                "it is {:?}, and `url` is the address of a database of the kind {:?}",
                kind.name(),
                found.name()
            );
            Err(("kind", reason))
        }
        _ => Ok(found),
    }
}

/// How it reads.
pub(super) fn mode(relay: &Relay) -> Mode {
    let by_kind = || match database(relay) {
        Ok(Database::Postgres) => Mode::Log,
        _ => Mode::Poll,
    };
    relay.mode.unwrap_or_else(by_kind)
}

/// What makes messages of its rows.
pub(super) fn router(name: &str, relay: &Relay) -> Result<OutboxRouter, Refused> {
    let mut additional = Vec::new();
    for text in relay.additional.split(',').map(str::trim) {
        if !text.is_empty() {
            let placement: Placement = text.parse().map_err(|reason| ("additional", reason))?;
            additional.push(placement);
        }
    }
    let partition = |placement: &Placement| placement.place == Where::Partition;
    if additional.iter().any(partition) && !target::is_embedded(relay) {
        let reason = "only the target \"embedded\" lets a row choose its partition".to_owned();
        return Err(("additional", reason));
    }
    let source = relay.source.clone();
    let settings = OutboxSettings {
        id: relay.id_column.clone(),
        key: relay.key_column.clone(),
        event_type: relay.type_column.clone(),
        payload: relay.payload_column.clone(),
        headers: relay.headers_column.clone(),
        tracing: relay.tracing_column.clone(),
        timestamp: relay.timestamp_column.clone(),
        route_by: relay.route_by.clone(),
        pattern: relay.topic_pattern.clone(),
        topic: relay.topic.clone(),
        additional,
        missing: match relay.additional_missing {
            Lacking::Error => Missing::Error,
            Lacking::Ignore => Missing::Ignore,
        },
        expand_json: relay.expand_json,
        null_fields: match relay.null_fields {
            Valueless::Ignore => NullFields::Ignore,
            Valueless::Keep => NullFields::Keep,
        },
        empty_arrays: match relay.empty_arrays {
            Valueless::Ignore => EmptyArrays::Ignore,
            Valueless::Keep => EmptyArrays::Keep,
        },
        tombstone_on_empty: relay.tombstone_on_empty,
        json_keys: relay.json_keys,
        json_values: relay.json_values,
        source: source.unwrap_or_else(|| format!("wharf:outbox:{name}")),
        debezium_headers_only: relay.debezium_headers_only,
    };
    OutboxRouter::new(settings, clock::now)
        .map_err(|InvalidSetting { setting, reason }| (setting, reason))
}

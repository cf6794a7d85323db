//! What no single value's type can say: ranges, order between settings, and open listeners.

use std::net::IpAddr;

use wharf_message::Code;

use super::load::{Loaded, bad_value};
use super::units::Address;
use crate::Problem;

/// The smallest request limit that still lets clients introduce themselves.
const REQUEST_BYTES_MIN: u64 = 64 << 10;
/// The largest request limit: lengths on the wire are signed 32-bit numbers.
const REQUEST_BYTES_MAX: u64 = i32::MAX as u64;
/// The smallest journal file that still holds a default-sized message.
const JOURNAL_FILE_BYTES_MIN: u64 = 8 << 20;

/// Refuses combinations that could not work or would surprise.
pub(super) fn check(loaded: &Loaded) -> Result<(), Problem> {
    let config = &loaded.config;
    let bad = |key: &str, reason: String| Err(bad_value(key, &reason, loaded.origin(key)));

    let request = config.kafka.request_size_max;
    if !(REQUEST_BYTES_MIN..=REQUEST_BYTES_MAX).contains(&request.0) {
        return bad(
            "kafka.request-size-max",
            format!("{request} is outside 64KiB to 2GiB"),
        );
    }
    if config.kafka.in_flight_size_max < request {
        let reason = format!(
            "{} is less than one request may have (kafka.request-size-max is {request})",
            config.kafka.in_flight_size_max
        );
        return bad("kafka.in-flight-size-max", reason);
    }
    if config.log.journal_file_size.0 < JOURNAL_FILE_BYTES_MIN {
        let reason = format!("{} is less than 8MiB", config.log.journal_file_size);
        return bad("log.journal-file-size", reason);
    }
    for (key, number) in [
        ("kafka.connections-max", config.kafka.connections_max),
        (
            "kafka.in-flight-requests-max",
            config.kafka.in_flight_requests_max,
        ),
        ("log.journal-files-max", config.log.journal_files_max),
        ("log.index-batches-max", config.log.index_batches_max),
        ("log.open-segments-max", config.log.open_segments_max),
        (
            "log.producers-per-partition-max",
            config.log.producers_per_partition_max,
        ),
        (
            "topics.default-partitions",
            usize::try_from(config.topics.default_partitions).unwrap_or(0),
        ),
        ("topics.partitions-max", config.topics.partitions_max),
        ("groups.members-max", config.groups.members_max),
        ("groups.groups-max", config.groups.groups_max),
    ] {
        if number == 0 {
            return bad(
                key,
                "0 would let nothing through; the least is 1".to_owned(),
            );
        }
    }
    if config.kafka.idle_timeout.0.is_zero() {
        return bad(
            "kafka.idle-timeout",
            "0s would close every connection at once".to_owned(),
        );
    }
    if config.groups.session_timeout_min > config.groups.session_timeout_max {
        let reason = format!(
            "{} is more than groups.session-timeout-max, which is {}",
            config.groups.session_timeout_min, config.groups.session_timeout_max
        );
        return bad("groups.session-timeout-min", reason);
    }
    if config.node.data.as_os_str().is_empty() {
        return bad("node.data", "the path is empty".to_owned());
    }
    listener(
        loaded,
        "kafka",
        &config.kafka.listen,
        config.kafka.allow_unauthenticated_beyond_loopback,
    )?;
    listener(
        loaded,
        "http",
        &config.http.listen,
        config.http.allow_unauthenticated_beyond_loopback,
    )
}

/// A listener that others can reach needs authentication, or a setting that says otherwise.
fn listener(
    loaded: &Loaded,
    section: &str,
    listen: &Address,
    allowed: bool,
) -> Result<(), Problem> {
    let loopback = match listen.host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => listen.host.eq_ignore_ascii_case("localhost"),
    };
    if loopback || allowed {
        return Ok(());
    }
    let key = format!("{section}.listen");
    let origin = loaded.origin(&key);
    Err(Problem::new(
        Code::OPEN_LISTENER_REFUSED,
        format!("listening on {listen} without authentication was refused"),
        format!("{listen} can be reached from other machines (`{key}`, set by {origin})"),
        format!(
            "listen on 127.0.0.1, or set `{section}.allow-unauthenticated-beyond-loopback = true` \
             if everyone in reach may read and write everything"
        ),
    ))
}

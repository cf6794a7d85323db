//! What no single value's type can say: ranges, order between settings, and open listeners.

use std::net::IpAddr;

use wharf_message::Code;

use super::load::{Loaded, bad_value};
use super::settings::{Config, Groups};
use super::units::Address;
use crate::Problem;

/// The smallest request limit that still lets clients introduce themselves.
const REQUEST_BYTES_MIN: u64 = 64 << 10;
/// The largest request limit: lengths on the wire are signed 32-bit numbers.
const REQUEST_BYTES_MAX: u64 = i32::MAX as u64;
/// The smallest journal file that still holds a default-sized message.
const JOURNAL_FILE_BYTES_MIN: u64 = 8 << 20;

/// The range of what one request to the registry may carry.
const REGISTRY_REQUEST_BYTES_MIN: u64 = 16 << 10;
const REGISTRY_REQUEST_BYTES_MAX: u64 = 64 << 20;
const REGISTRY_IN_FLIGHT_BYTES_MAX: u64 = 2 << 30;

/// More requests of one connection in work than this help nobody.
const REQUESTS_MAX: usize = 100_000;

/// Refuses combinations that could not work or would surprise.
pub(super) fn check(loaded: &Loaded) -> Result<(), Problem> {
    let config = &loaded.config;
    let refused = size(config)
        .or_else(|| count(config))
        .or_else(|| choreography(config))
        .or_else(|| rest(config));
    if let Some((key, reason)) = refused {
        return Err(bad_value(key, &reason, loaded.origin(key)));
    }
    let Config {
        kafka,
        http,
        registry,
        ..
    } = config;
    let allowed = kafka.allow_unauthenticated_beyond_loopback;
    listener(loaded, "kafka", &kafka.listen, allowed)?;
    let allowed = http.allow_unauthenticated_beyond_loopback;
    listener(loaded, "http", &http.listen, allowed)?;
    if registry.enabled {
        let allowed = registry.allow_unauthenticated_beyond_loopback;
        listener(loaded, "registry", &registry.listen, allowed)?;
    }
    super::saga::check(&config.saga)
        .map_err(|(key, reason)| bad_value(key, &reason, loaded.origin(key)))?;
    relays(loaded)
}

/// Every relay must be one that can be started.
#[cfg(feature = "relay")]
fn relays(loaded: &Loaded) -> Result<(), Problem> {
    for (name, relay) in &loaded.config.relay {
        if let Err((key, reason)) = crate::relay::check(name, relay) {
            let key = format!("relay.{name}.{key}");
            return Err(bad_value(&key, &reason, loaded.origin(&key)));
        }
    }
    Ok(())
}

/// Without relays in this program, none can be configured.
#[cfg(not(feature = "relay"))]
fn relays(loaded: &Loaded) -> Result<(), Problem> {
    let Some(name) = loaded.config.relay.keys().next() else {
        return Ok(());
    };
    let key = format!("relay.{name}.url");
    let reason = "this program was built without relays; run them in `wharf serve`";
    Err(bad_value(&key, reason, loaded.origin(&key)))
}

impl Config {
    /// The same for a configuration that was not loaded but made.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        check(&Loaded::made(self.clone()))
    }
}

type Refused = Option<(&'static str, String)>;

fn size(config: &Config) -> Refused {
    let request = config.kafka.request_size_max;
    if !(REQUEST_BYTES_MIN..=REQUEST_BYTES_MAX).contains(&request.0) {
        let reason = format!("{request} is outside 64KiB to 2GiB");
        return Some(("kafka.request-size-max", reason));
    }
    let in_flight = config.kafka.in_flight_size_max;
    if in_flight < request {
        let reason = format!(
            "{in_flight} is less than one request may have (kafka.request-size-max is {request})"
        );
        return Some(("kafka.in-flight-size-max", reason));
    }
    let registry = &config.registry;
    let request = registry.request_size_max;
    if !(REGISTRY_REQUEST_BYTES_MIN..=REGISTRY_REQUEST_BYTES_MAX).contains(&request.0) {
        let reason = format!("{request} is outside 16KiB to 64MiB");
        return Some(("registry.request-size-max", reason));
    }
    let in_flight = registry.in_flight_size_max;
    if in_flight < request || in_flight.0 > REGISTRY_IN_FLIGHT_BYTES_MAX {
        let reason =
            format!("{in_flight} is outside registry.request-size-max, {request}, to 2GiB");
        return Some(("registry.in-flight-size-max", reason));
    }
    if config.log.journal_file_size.0 < JOURNAL_FILE_BYTES_MIN {
        let reason = format!("{} is less than 8MiB", config.log.journal_file_size);
        return Some(("log.journal-file-size", reason));
    }
    None
}

fn choreography(config: &Config) -> Refused {
    let choreography = &config.choreography;
    if choreography.enabled && !cfg!(feature = "choreography") {
        let reason = "this program was built without choreographies; run `wharf serve`";
        return Some(("choreography.enabled", reason.to_owned()));
    }
    let is_address = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    let webhook = choreography.webhook.as_ref();
    if webhook.is_some_and(|url| !is_address(url.expose())) {
        let reason = "the address does not begin with http:// or https://";
        return Some(("choreography.webhook", reason.to_owned()));
    }
    None
}

fn count(config: &Config) -> Refused {
    let Config {
        kafka,
        log,
        topics,
        groups,
        transactions,
        ..
    } = config;
    let partitions = usize::try_from(topics.default_partitions).unwrap_or(usize::MAX);
    if partitions > topics.partitions_max {
        let reason = format!("{partitions} is more than topics.partitions-max");
        return Some(("topics.default-partitions", reason));
    }
    if kafka.in_flight_requests_max > REQUESTS_MAX {
        let reason = format!(
            "{} is more than {REQUESTS_MAX}",
            kafka.in_flight_requests_max
        );
        return Some(("kafka.in-flight-requests-max", reason));
    }
    let zero = [
        ("kafka.connections-max", kafka.connections_max),
        ("kafka.in-flight-requests-max", kafka.in_flight_requests_max),
        ("registry.connections-max", config.registry.connections_max),
        ("saga.open-max", config.saga.open_max),
        ("saga.waiting-max", config.saga.waiting_max),
        ("saga.http-in-flight-max", config.saga.http_in_flight_max),
        (
            "choreography.instances-max",
            config.choreography.instances_max,
        ),
        (
            "choreography.partitions-max",
            config.choreography.partitions_max,
        ),
        ("log.journal-files-max", log.journal_files_max),
        ("log.index-batches-max", log.index_batches_max),
        ("log.open-segments-max", log.open_segments_max),
        (
            "log.producers-per-partition-max",
            log.producers_per_partition_max,
        ),
        ("topics.default-partitions", partitions),
        ("groups.members-max", groups.members_max),
        ("groups.groups-max", groups.groups_max),
        ("groups.consumer-members-max", groups.consumer_members_max),
        ("transactions.ids-max", transactions.ids_max),
    ];
    let (key, _) = zero.into_iter().find(|(_, number)| *number == 0)?;
    Some((
        key,
        "0 would let nothing through; the least is 1".to_owned(),
    ))
}

fn rest(config: &Config) -> Refused {
    let Config {
        node,
        kafka,
        groups,
        transactions,
        ..
    } = config;
    let zero = [
        ("kafka.idle-timeout", kafka.idle_timeout),
        ("kafka.receive-timeout", kafka.receive_timeout),
    ];
    if let Some((key, _)) = zero.into_iter().find(|(_, period)| period.0.is_zero()) {
        return Some((key, "0s would close every connection at once".to_owned()));
    }
    if transactions.timeout_max.0.as_millis() == 0 {
        let reason = "no producer could begin a transaction; the least is 1ms".to_owned();
        return Some(("transactions.timeout-max", reason));
    }
    if groups.session_timeout_min > groups.session_timeout_max {
        let reason = format!(
            "{} is more than groups.session-timeout-max, which is {}",
            groups.session_timeout_min, groups.session_timeout_max
        );
        return Some(("groups.session-timeout-min", reason));
    }
    if let Some((key, reason)) = consumer_groups(groups) {
        return Some((key, reason));
    }
    if node.data.as_os_str().is_empty() {
        return Some(("node.data", "the path is empty".to_owned()));
    }
    let allowed = kafka.allow_unauthenticated_beyond_loopback;
    if allowed && is_unspecified(&kafka.listen) && kafka.advertised.is_none() {
        let reason = format!(
            "clients cannot connect to {}, so they must be told another address",
            kafka.listen
        );
        return Some(("kafka.advertised", reason));
    }
    None
}

/// A member must be able to be heard of several times before its session ends.
fn consumer_groups(groups: &Groups) -> Refused {
    let ranges = [
        (
            "groups.consumer-session-timeout",
            groups.consumer_session_timeout,
            groups.consumer_session_timeout_min,
            groups.consumer_session_timeout_max,
        ),
        (
            "groups.consumer-heartbeat-interval",
            groups.consumer_heartbeat_interval,
            groups.consumer_heartbeat_interval_min,
            groups.consumer_heartbeat_interval_max,
        ),
    ];
    let outside = ranges
        .into_iter()
        .find(|(_, value, min, max)| value < min || value > max);
    if let Some((key, value, min, max)) = outside {
        return Some((
            key,
            format!("{value} is not between {key}-min, {min}, and {key}-max, {max}"),
        ));
    }
    let key = "groups.consumer-heartbeat-interval";
    if groups.consumer_heartbeat_interval_min.0.is_zero() {
        let reason = "members would send heartbeats without pause".to_owned();
        return Some(("groups.consumer-heartbeat-interval-min", reason));
    }
    if groups.consumer_heartbeat_interval >= groups.consumer_session_timeout {
        let (interval, timeout) = (
            groups.consumer_heartbeat_interval,
            groups.consumer_session_timeout,
        );
        let reason =
            format!("{interval} is no less than groups.consumer-session-timeout, {timeout}");
        return Some((key, reason));
    }
    None
}

/// Whether this address means "on every interface", which is nothing a client could connect to.
fn is_unspecified(address: &Address) -> bool {
    address
        .host
        .parse::<IpAddr>()
        .is_ok_and(|ip| ip.is_unspecified())
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
    let reason = format!("`{key}`, set by {}", loaded.origin(&key));
    Err(beyond_loopback(section, listen, &reason))
}

/// The problem of a listener that others could reach.
pub(crate) fn beyond_loopback(section: &str, listen: &Address, reason: &str) -> Problem {
    Problem::new(
        Code::OPEN_LISTENER_REFUSED,
        format!("listening on {listen} without authentication was refused"),
        format!("{listen} can be reached from other machines ({reason})"),
        format!(
            "listen on 127.0.0.1, or set `{section}.allow-unauthenticated-beyond-loopback = true` \
             if everyone in reach may read and write everything"
        ),
    )
}

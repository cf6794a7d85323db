//! The address of a Kafka cluster with its options: `kafka://host:9092,other:9092?property=value`.
//!
//! Every property of librdkafka may be given, but for those that the contract of the transport
//! stands on: one of these is refused by name, never ignored.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use wharf_message::transport::Error;

use super::admin::BOOKKEEPING_BYTES_MAX;

/// What the transport sets itself, and why it cannot be chosen.
const OURS: &[(&str, &str)] = &[
    (
        "acks",
        "a publish is acknowledged when all replicas have it",
    ),
    (
        "request.required.acks",
        "a publish is acknowledged when all replicas have it",
    ),
    (
        "enable.idempotence",
        "a publish is appended once and in order",
    ),
    (
        "auto.offset.reset",
        "the subscription says where a group starts",
    ),
    ("bootstrap.servers", "the address names the brokers"),
    ("metadata.broker.list", "the address names the brokers"),
    ("enable.auto.commit", "only what is settled is committed"),
    (
        "enable.auto.offset.store",
        "only what is settled is committed",
    ),
    (
        "enable.partition.eof",
        "the end of a partition is nothing to be told",
    ),
    ("group.id", "the subscription names the group"),
    ("isolation.level", "what was aborted is never delivered"),
    (
        "transactional.id",
        "every member of a group has one of its own",
    ),
];

/// What is set unless the address says otherwise.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "wharf"),
    // Keys go to the partitions where clients in Java put them.
    ("partitioner", "murmur2_random"),
    ("message.timeout.ms", "30000"),
    ("topic.metadata.propagation.max.ms", "5000"),
    ("queue.buffering.max.kbytes", "131072"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("queued.max.messages.kbytes", "16384"),
    // When that much is there, fetching rests for so long; the default of a second is longer than it
    // takes to handle it.
    ("fetch.queue.backoff.ms", "10"),
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "1000"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
];

/// A cluster and how to talk to it.
///
/// ```
/// # #[cfg(feature = "kafka")] {
/// use wharf_transport::kafka::Options;
///
/// let options = Options::parse("kafka://one:9092,two?compression.codec=zstd");
/// assert_eq!(options.map(|options| options.brokers().to_owned()), Ok("one:9092,two".to_owned()));
/// assert!(Options::parse("kafka://one?enable.auto.commit=true").is_err());
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    brokers: String,
    properties: BTreeMap<String, String>,
}

/// Without the values: there may be passwords among them.
impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.properties.keys().collect();
        formatter
            .debug_struct("Options")
            .field("brokers", &self.brokers)
            .field("properties", &names)
            .finish()
    }
}

impl Options {
    /// The cluster behind `brokers`: `host:port`, several with commas between them.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            properties: BTreeMap::new(),
        }
    }

    /// Reads an address. Names and values of properties may be percent-encoded.
    ///
    /// # Errors
    /// [`Error::Refused`] says what is wrong with it.
    pub fn parse(address: &str) -> Result<Self, Error> {
        let refused = |why: &str| Error::Refused(format!("the address {address:?} {why}"));
        let rest = address
            .strip_prefix("kafka://")
            .ok_or_else(|| refused("does not begin with kafka://"))?;
        let (brokers, query) = rest.split_once('?').unwrap_or((rest, ""));
        let brokers = brokers.trim_end_matches('/');
        if brokers.is_empty() || brokers.split(',').any(str::is_empty) {
            return Err(refused("names no broker; it reads kafka://host:9092"));
        }
        if brokers.contains(['@', '/']) {
            let hint = "has more than brokers before the \"?\"; credentials are properties: sasl.username=…&sasl.password=…";
            // Whatever stands there may be a password: it is not repeated.
            return Err(Error::Refused(format!("the address {hint}")));
        }
        let mut options = Self::new(brokers);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                Error::Refused(format!("the property {pair:?} of the address has no value"))
            })?;
            let decoded = (decode(name), decode(value));
            let (Some(name), Some(value)) = decoded else {
                return Err(Error::Refused(format!(
                    "the property {name:?} of the address is not percent-encoded UTF-8"
                )));
            };
            options = options.with(&name, &value)?;
        }
        Ok(options)
    }

    /// The same with a property of librdkafka.
    ///
    /// # Errors
    /// [`Error::Refused`] for a property that the transport needs for itself.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, Error> {
        if let Some((name, why)) = OURS.iter().find(|(ours, _)| *ours == name) {
            return Err(Error::Refused(format!(
                "the property {name} cannot be chosen: {why}"
            )));
        }
        self.properties.insert(name.to_owned(), value.to_owned());
        Ok(self)
    }

    /// The brokers.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The largest message that the producer takes, in bytes.
    pub(super) fn message_bytes_max(&self) -> usize {
        let set = self.properties.get("message.max.bytes");
        set.and_then(|value| value.parse().ok()).unwrap_or(1 << 20)
    }

    /// The configuration of a client, to which `more` is added.
    pub(super) fn client(&self, more: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        for (name, value) in DEFAULTS {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        // Our own bookkeeping comes on top of what a publisher may send.
        let bytes_max = self.message_bytes_max() + BOOKKEEPING_BYTES_MAX;
        config.set("message.max.bytes", bytes_max.to_string());
        for (name, value) in more {
            config.set(*name, *value);
        }
        config
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_names_brokers_and_properties() {
        let options =
            Options::parse("kafka://a:1,b?sasl.password=p%26%3D%25&linger.ms=0").expect("valid");
        assert_eq!(options.brokers(), "a:1,b");
        let config = options.client(&[("group.id", "g")]);
        let get = |name| config.get(name);
        assert_eq!(get("bootstrap.servers"), Some("a:1,b"));
        assert_eq!(get("sasl.password"), Some("p&=%"));
        assert_eq!((get("linger.ms"), get("group.id")), (Some("0"), Some("g")));
        assert!(!format!("{options:?}").contains("p&"), "{options:?}");
    }

    #[test]
    fn what_the_contract_stands_on_cannot_be_chosen() {
        for (name, _) in OURS {
            let error = Options::parse(&format!("kafka://a?{name}=x")).expect_err("ours");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_wrong_address_is_refused_and_says_why() {
        for (address, why) in [
            ("nats://a", "kafka://"),
            ("kafka://", "names no broker"),
            ("kafka://a,,b", "names no broker"),
            ("kafka://u:secret@a", "sasl.username"),
            ("kafka://a?x", "has no value"),
            ("kafka://a?x=%f", "percent"),
            ("kafka://a?x=%+1", "percent"),
            ("kafka://a?x=%ff", "percent"),
        ] {
            let error = Options::parse(address).expect_err(address).to_string();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_address_makes_it_panic(text in ".{0,40}") {
            let _parsed = Options::parse(&format!("kafka://{text}"));
            let _decoded = decode(&text);
        }
    }
}

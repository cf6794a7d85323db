//! Every setting there is: its name, type, default and meaning, written once.
//!
//! The macro turns each section into a plain struct and keeps the doc comments, so that the
//! reference page is generated from the same lines the compiler reads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::relay::{Database, Lacking, Mode, SecretUrl, Valueless};
use super::saga::{Mapping, Secret, User};
use super::units::{Address, ByteCount, Limit, Migration, Period};

/// A setting as the reference describes it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The section's name.
    pub section: &'static str,
    /// The key within the section, in kebab-case.
    pub key: String,
    /// The lines of its doc comment.
    pub doc: &'static [&'static str],
}

/// The name of the tables of relays in the reference and in errors' pages.
pub(super) const RELAYS: &str = "relay.<name>";

/// A section: a plain struct and its default.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        $Section:ident {
            $($(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr;)*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub struct $Section {
            $($(#[doc = $doc])* pub $field: $type,)*
        }

        impl Default for $Section {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

macro_rules! settings {
    (
    each relay {
        $(#[doc = $relay_doc:literal])*
        $Relay:ident {
            $($(#[doc = $its_doc:literal])* $its_field:ident: $its_type:ty = $its_default:expr;)*
        }
    }
    $(
        $(#[doc = $section_doc:literal])*
        $section:ident as $Section:ident {
            $($(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr;)*
        }
    )*) => {
        /// The whole configuration of a node. `Config::default()` is what runs without any file.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub struct Config {
            $($(#[doc = $section_doc])* pub $section: $Section,)*
            /// The relays, by name.
            pub relay: BTreeMap<String, $Relay>,
        }

        section! {
            $(#[doc = $relay_doc])*
            $Relay { $($(#[doc = $its_doc])* $its_field: $its_type = $its_default;)* }
        }

        $(section! {
            $(#[doc = $section_doc])*
            $Section { $($(#[doc = $doc])* $field: $type = $default;)* }
        })*

        impl Config {
            /// The sections in order, with what they are about.
            pub(super) const SECTIONS: &'static [(&'static str, &'static [&'static str])] =
                &[$((stringify!($section), &[$($section_doc),*]),)* (RELAYS, &[$($relay_doc),*])];

            /// Section, field and doc comment of every setting.
            const FIELDS: &'static [(&'static str, &'static str, &'static [&'static str])] =
                &[
                    $($((stringify!($section), stringify!($field), &[$($doc),*]),)*)*
                    $((RELAYS, stringify!($its_field), &[$($its_doc),*]),)*
                ];
        }
    };
}

impl Config {
    /// Every setting, in the order of the reference.
    pub fn settings() -> impl Iterator<Item = Setting> {
        Self::FIELDS.iter().map(|(section, field, doc)| {
            let key = field.replace('_', "-");
            Setting { section, key, doc }
        })
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

settings! {
    each relay {
        /// A relay, which moves the rows of an outbox table to topics.
        /// Each has a table of its own, such as `[relay.orders]`; its name may have lower-case letters, digits and `-`, and its checkpoints are kept under it.
        Relay {
            /// The address of the database: `postgres://user:password@host/database`, `mysql://…`, `sqlite:///path/to/file`.
            /// Its password is never shown; a variable keeps it out of the file.
            url: SecretUrl = SecretUrl::default();
            /// `postgres`, `mysql` (also MariaDB) or `sqlite`. Unset: as the address says.
            kind: Option<Database> = None;
            /// `log` reads the database's log (Postgres), `poll` asks for new rows.
            /// Unset: `log` for Postgres, `poll` for the others.
            mode: Option<Mode> = None;
            /// The outbox table, with its schema if need be.
            table: String = "wharf_outbox".to_owned();
            /// Where messages go: `embedded` is this node, others are addresses such as `kafka://host:9092`, `amqp://host` or `nats://host`.
            /// Only this node gets each row exactly once; the others at least once, with the same id.
            target: SecretUrl = SecretUrl::from("embedded");
            /// The topic of a row: `{column}` is the value of a column, `${routedByValue}` that of `route-by`, `${name}` and `$1` a group of `topic-pattern`.
            /// Unset: `outbox.event.` and the value of `route-by`.
            topic: Option<String> = None;
            /// A regular expression for the whole value of `route-by`; a value that does not match is the topic itself.
            /// Debezium's `route.topic.regex`.
            topic_pattern: Option<String> = None;
            /// The column that decides the topic.
            /// Debezium's `route.by.field`.
            route_by: String = "aggregatetype".to_owned();
            /// The column that becomes the header `id`, and the CloudEvents id.
            /// Debezium's `table.field.event.id`.
            id_column: String = "id".to_owned();
            /// The column that becomes the key.
            /// Debezium's `table.field.event.key`.
            key_column: String = "aggregateid".to_owned();
            /// The column that becomes the CloudEvents type.
            /// Debezium's `table.field.event.type`.
            type_column: String = "type".to_owned();
            /// The column that becomes the payload; NULL is a tombstone.
            /// Debezium's `table.field.event.payload`.
            payload_column: String = "payload".to_owned();
            /// The column whose JSON object becomes headers; the table may lack it.
            headers_column: String = "headers".to_owned();
            /// The column with a trace context, as Debezium's extension for Quarkus writes it; the table may lack it.
            /// Debezium's `tracing.span.context.field`.
            tracing_column: String = "tracingspancontext".to_owned();
            /// The column with the time of the message. Unset: when the row was committed.
            /// Debezium's `table.field.event.timestamp`.
            timestamp_column: Option<String> = None;
            /// Columns placed beside the payload, separated by commas: `column:header:alias`, `column:envelope:alias`, `column:partition`.
            /// Debezium's `table.fields.additional.placement`.
            additional: String = String::new();
            /// What an additional column that the table lacks means: `error` or `ignore`.
            /// Debezium's `table.field.additional.missing`.
            additional_missing: Lacking = Lacking::Error;
            /// Whether a payload of JSON is taken apart and written anew.
            /// Debezium's `table.expand.json.payload`.
            expand_json: bool = false;
            /// What becomes of null fields in an expanded payload: `ignore` or `keep`.
            /// Debezium's `table.json.payload.null.behavior`.
            null_fields: Valueless = Valueless::Ignore;
            /// What becomes of fields with empty arrays in an expanded payload: `ignore` or `keep`.
            /// Debezium's `table.json.payload.empty.array.behavior`.
            empty_arrays: Valueless = Valueless::Ignore;
            /// Whether a blank payload is a tombstone.
            /// Debezium's `route.tombstone.on.empty.payload`.
            tombstone_on_empty: bool = false;
            /// Whether keys are JSON, as with Debezium and the `JsonConverter` without schemas: a text in quotes.
            json_keys: bool = false;
            /// Whether values are JSON, as with Debezium and the `JsonConverter` without schemas: a text in quotes, bytes in base64.
            /// An expanded payload and an envelope are JSON anyway.
            json_values: bool = false;
            /// The CloudEvents source of rows that do not say it themselves. Unset: `wharf:outbox:` and the relay's name.
            source: Option<String> = None;
            /// Send exactly what Debezium's router sends: no CloudEvents, no headers from `headers-column`, no trace; and JSON, times and fractions letter by letter as its converters write them.
            debezium_headers_only: bool = false;
            /// The partitions of topics that are created. Unset: `topics.default-partitions`.
            partitions: Option<u32> = None;
            /// How many bytes of rows are under way at most.
            in_flight_size_max: ByteCount = ByteCount(16 << 20);
            /// How long rows stay in the table at least, or `unlimited`; only those go that have arrived.
            /// On Postgres the relay's user has to own the table, if it is partitioned.
            keep: Limit<Period> = Limit::At(Period(DAY));
            /// With `poll`: the longest wait between two looks at the table while nothing comes.
            poll_interval_max: Period = Period(Duration::from_millis(250));
            /// With `poll`: how long after a relay was lost another one takes over.
            lease: Period = Period(Duration::from_secs(6));
            /// With `log`: the replication slot. Unset: `wharf_` and the relay's name.
            slot: Option<String> = None;
            /// With `log`: the publication. Unset: the name of the slot.
            publication: Option<String> = None;
            /// With `log`: whether the publication and, where none has been before, the slot are created.
            create_slot: bool = true;
            /// With `log`: whether a slot that was lost is created again, after the rows were read from the table.
            recreate_slot: bool = false;
            /// With `log`: how often something is written to the log so that the slot moves on while other databases are busy; `0s` for never.
            heartbeat: Period = Period(Duration::from_secs(10));
            /// With `log`: how much of its log the database may keep for this relay, or `unlimited`. Beyond it, the slot is given up and rows are read from the table.
            retained_max: Limit<ByteCount> = Limit::Unlimited;
            /// With `log`: whether messages written by `pg_logical_emit_message` without a table are rows, too.
            messages: bool = false;
            /// With `log`: whether rows that were in the table before the first start are wanted.
            backlog: bool = true;
        }
    }

    /// The node itself.
    node as Node {
        /// The directory that holds everything the node knows.
        /// Created when missing; locked while a node runs.
        data: PathBuf = PathBuf::from("wharf-data");
        /// The node's name in logs and in the metrics' `wharf_node_info`.
        name: String = "wharf".to_owned();
        /// How long connections may take to finish what they are doing when the node stops.
        drain_timeout: Period = Period(Duration::from_secs(5));
    }

    /// The listener that speaks the Kafka protocol.
    kafka as Kafka {
        /// Where to listen. Port 0 picks a free one.
        listen: Address = Address::new("127.0.0.1", 9092);
        /// The address clients are told to connect to.
        /// Needed when they reach the node under another name, for instance through a container's port.
        /// Unset: the address listened on.
        advertised: Option<Address> = None;
        /// Listen beyond loopback although nobody has to authenticate.
        /// Everyone who can reach the port can then read and write every topic.
        allow_unauthenticated_beyond_loopback: bool = false;
        /// The largest request accepted; a connection that announces more is closed.
        /// Kafka's `socket.request.max.bytes`.
        request_size_max: ByteCount = ByteCount(100 << 20);
        /// How many connections may be open at once; further ones are closed at once.
        /// Lowered at the start to what the system's limit of open files leaves.
        connections_max: usize = 10_000;
        /// A connection that sends nothing for this long is closed, and so is one that does not take an answer within this time, plus one second per MiB of it.
        /// Kafka's `connections.max.idle.ms`.
        idle_timeout: Period = Period(MINUTE.saturating_mul(10));
        /// A request must arrive whole within this time, plus one second per MiB.
        receive_timeout: Period = Period(Duration::from_secs(30));
        /// How many bytes of requests the whole node holds at once.
        /// Beyond it sockets are not read until earlier requests are answered.
        in_flight_size_max: ByteCount = ByteCount(256 << 20);
        /// How many requests of one connection are worked on at once; answers keep their order.
        /// While more than 1 MiB of a connection's answers is not taken, none of its further requests is worked on.
        in_flight_requests_max: usize = 64;
        /// The most one fetch answers; whatever a client asks for beyond it comes with its next fetch.
        /// Kafka's `fetch.max.bytes`.
        fetch_size_max: ByteCount = ByteCount(55 << 20);
        /// How much all connections together should be answered at once, when many read slowly.
        /// Each may have its share of it, at least 64 KiB or one batch.
        fetches_size_max: ByteCount = ByteCount(512 << 20);
        /// How many fetch sessions are kept; the longest idle goes first.
        /// Kafka's `max.incremental.fetch.session.cache.slots`.
        fetch_sessions_max: usize = 1_000;
    }

    /// The listener for metrics and health.
    http as Http {
        /// Where to listen. Port 0 picks a free one.
        listen: Address = Address::new("127.0.0.1", 8080);
        /// Listen beyond loopback although nobody has to authenticate.
        allow_unauthenticated_beyond_loopback: bool = false;
    }

    /// The schema registry, with the REST API that Confluent's clients speak.
    registry as SchemaRegistry {
        /// Whether the node has a schema registry.
        enabled: bool = true;
        /// Where to listen. Port 0 picks a free one.
        listen: Address = Address::new("127.0.0.1", 8081);
        /// Listen beyond loopback although nobody has to authenticate.
        /// Everyone who can reach the port can then register and delete schemas.
        allow_unauthenticated_beyond_loopback: bool = false;
        /// How many connections may be open at once; further ones wait.
        /// Lowered at the start to a part of what the system's limit of open files leaves.
        connections_max: usize = 1_000;
        /// The largest body of a request, and so about the largest schema; a larger one is refused with 413.
        request_size_max: ByteCount = ByteCount(4 << 20);
        /// How many bytes of requests are held at once; beyond it bodies are not read until earlier requests are answered.
        in_flight_size_max: ByteCount = ByteCount(64 << 20);
        /// A file that says who reads which topic and which fields, for impact reports.
        catalogue: Option<PathBuf> = None;
    }

    /// The orchestrator of sagas.
    saga as Sagas {
        /// Whether the node runs sagas.
        enabled: bool = true;
        /// How many partitions the topics of sagas get when they are created; more of them decide side by side.
        /// A node whose topics are there already keeps their number.
        partitions: u32 = 4;
        /// How long a saga that ended is kept, or `unlimited`.
        keep: Limit<Period> = Limit::At(Period(DAY.saturating_mul(7)));
        /// How many sagas that ended are kept at most; those that ended first go first.
        keep_max: usize = 100_000;
        /// The largest value that a saga itself keeps, as JSON.
        /// What comes in and is larger goes into the node's store of large payloads, and the saga keeps the reference.
        payload_max: ByteCount = ByteCount(256 << 10);
        /// The largest input, answer or signal that goes into that store, the folder `claims` of the data directory; `0B` for none.
        /// A larger one is refused, and of a worker it is the error `States.DataLimitExceeded`.
        claim_max: ByteCount = ByteCount(8 << 20);
        /// How many sagas may be under way at once, about; further starts are refused with 429, and records that start sagas wait.
        open_max: usize = 1_000_000;
        /// How many requests may wait in each partition to be decided; further ones are refused with 429.
        waiting_max: usize = 4_096;
        /// How long one HTTP worker may take to answer, when the step says nothing shorter.
        http_timeout: Period = Period(Duration::from_secs(30));
        /// How many requests one host of HTTP workers is sent at once; further tasks wait.
        http_in_flight_max: usize = 32;
        /// The key that requests to HTTP workers are signed with (HMAC-SHA256). Never shown.
        http_secret: Option<Secret> = None;
        /// The address under which HTTP workers reach this node, for answers that come later.
        /// Unset: the address of the HTTP listener.
        public_url: Option<String> = None;
        /// Where every alarm of a parked saga is posted to, as JSON.
        alarm_webhook: Option<SecretUrl> = None;
        /// What does the work of resources with foreign names: each entry has `arn`, where `*` stands for anything and `NAME` for the part that `to` takes over, and `to`, such as `wharf:topic:NAME`.
        resource: Vec<Mapping> = Vec::new();
        /// Who may use the Step Functions API: each entry has an `access-key` and a `secret`, with which requests are signed.
        /// Without any, nobody has to sign. Secrets are never shown.
        user: Vec<User> = Vec::new();
    }

    /// Watching sagas that nobody orchestrates: what follows what, and contracts with their verdicts.
    choreography as Choreography {
        /// Whether choreographies are watched.
        enabled: bool = false;
        /// A folder of contracts, as YAML or JSON, read at the start beside those that are deployed.
        contracts: Option<PathBuf> = None;
        /// The topics that the lens watches; none for all whose names do not begin with `_`.
        /// The topics of contracts are watched whatever is said here.
        topics: Vec<String> = Vec::new();
        /// How far back topics are read at the start.
        history: Limit<Period> = Limit::At(Period(DAY.saturating_mul(7)));
        /// An instance is taken to be over for the lens when nothing comes for this long.
        idle: Period = Period(MINUTE.saturating_mul(10));
        /// How many instances the lens and each contract keep in memory.
        instances_max: usize = 100_000;
        /// How many partitions are watched.
        partitions_max: usize = 10_000;
        /// Where bad verdicts are sent to as JSON: `http://…` or `https://…`.
        webhook: Option<SecretUrl> = None;
    }

    /// The log on disk. The defaults fit most machines.
    log as Log {
        /// The size of one journal file. A single request's batch may fill a quarter of it.
        journal_file_size: ByteCount = ByteCount(64 << 20);
        /// How many full journal files may wait before the oldest is settled into segments.
        journal_files_max: usize = 8;
        /// How much one commit writes and syncs together at most.
        group_size_max: ByteCount = ByteCount(8 << 20);
        /// How much of the newest data is kept in memory for consumers that keep up.
        tail_size_max: ByteCount = ByteCount(64 << 20);
        /// How many batches the journal's index holds in memory before settling starts early.
        index_batches_max: usize = 1_000_000;
        /// How many segment files are kept open at once.
        open_segments_max: usize = 4096;
        /// How many idempotent producers a partition remembers; the longest idle is forgotten first.
        producers_per_partition_max: usize = 5_000;
        /// An idempotent producer idle for this long is forgotten.
        /// Kafka's `producer.id.expiration.ms`.
        producer_expiry: Period = Period(DAY);
    }

    /// Topics: how they come into being, and the defaults of those that do not say otherwise.
    topics as Topics {
        /// Create a topic when a client first names it.
        /// Kafka's `auto.create.topics.enable`.
        auto_create: bool = true;
        /// The number of partitions of a topic created without one.
        /// Kafka's `num.partitions`.
        default_partitions: u32 = 1;
        /// How many partitions the node holds at most, over all topics.
        partitions_max: usize = 200_000;
        /// Delete records older than this.
        /// Kafka's `log.retention.ms`.
        default_retention: Limit<Period> = Limit::At(Period(DAY.saturating_mul(7)));
        /// Delete the oldest records of a partition beyond this size.
        /// Kafka's `log.retention.bytes`.
        default_retention_size: Limit<ByteCount> = Limit::Unlimited;
        /// Start a new segment at this size.
        /// Kafka's `log.segment.bytes`.
        default_segment_size: ByteCount = ByteCount(1 << 30);
        /// Start a new segment when the first record of the current one is this old.
        /// Kafka's `log.roll.ms`.
        default_segment_age: Period = Period(DAY.saturating_mul(7));
        /// The largest record batch accepted.
        /// Kafka's `message.max.bytes`.
        default_message_size_max: ByteCount = ByteCount(1_048_588);
    }

    /// Consumer groups.
    groups as Groups {
        /// How long the first rebalance of an empty group waits for more members.
        /// Kafka's `group.initial.rebalance.delay.ms`.
        initial_rebalance_delay: Period = Period(Duration::from_secs(3));
        /// The shortest session time-out a member may ask for.
        /// Kafka's `group.min.session.timeout.ms`.
        session_timeout_min: Period = Period(Duration::from_secs(6));
        /// The longest session time-out a member may ask for.
        /// Kafka's `group.max.session.timeout.ms`.
        session_timeout_max: Period = Period(MINUTE.saturating_mul(30));
        /// The most members a group may have.
        /// Kafka's `group.max.size`.
        members_max: usize = 10_000;
        /// How many groups the node holds at most.
        groups_max: usize = 100_000;
        /// The longest text a client may store with an offset.
        /// Kafka's `offset.metadata.max.bytes`.
        offset_metadata_size_max: ByteCount = ByteCount(4096);
        /// A member of the consumer protocol that is not heard of for this long is removed.
        /// Kafka's `group.consumer.session.timeout.ms`.
        consumer_session_timeout: Period = Period(Duration::from_secs(45));
        /// The shortest such time-out that a single group may be given.
        /// Kafka's `group.consumer.min.session.timeout.ms`.
        consumer_session_timeout_min: Period = Period(Duration::from_secs(45));
        /// The longest such time-out that a single group may be given.
        /// Kafka's `group.consumer.max.session.timeout.ms`.
        consumer_session_timeout_max: Period = Period(MINUTE);
        /// How often members of the consumer protocol are told to send heartbeats.
        /// Kafka's `group.consumer.heartbeat.interval.ms`.
        consumer_heartbeat_interval: Period = Period(Duration::from_secs(5));
        /// The shortest such interval that a single group may be given.
        /// Kafka's `group.consumer.min.heartbeat.interval.ms`.
        consumer_heartbeat_interval_min: Period = Period(Duration::from_secs(5));
        /// The longest such interval that a single group may be given.
        /// Kafka's `group.consumer.max.heartbeat.interval.ms`.
        consumer_heartbeat_interval_max: Period = Period(Duration::from_secs(15));
        /// The most members a group of the consumer protocol may have.
        /// Kafka's `group.consumer.max.size`.
        consumer_members_max: usize = 10_000;
        /// Which groups may change between the classic and the consumer protocol while they have members:
        /// `upgrade` to the consumer protocol, `downgrade` to the classic one, `bidirectional` or `disabled`.
        /// Kafka's `group.consumer.migration.policy`.
        consumer_migration_policy: Migration = Migration::Bidirectional;
        /// Offsets of a group without members are forgotten after this long.
        /// Kafka's `offsets.retention.minutes`.
        offsets_retention: Period = Period(DAY.saturating_mul(7));
    }

    /// Transactions.
    transactions as Transactions {
        /// The longest time a producer may let its transaction be open before it is aborted.
        /// Kafka's `transaction.max.timeout.ms`.
        timeout_max: Period = Period(MINUTE.saturating_mul(15));
        /// A transactional id is forgotten when it had no transaction for this long.
        /// Kafka's `transactional.id.expiration.ms`.
        id_expiry: Period = Period(DAY.saturating_mul(7));
        /// How many transactional ids the node holds at most.
        ids_max: usize = 100_000;
    }
}

//! The table of topic settings: Kafka's names, types, defaults and limits, and Wharf's own.
//!
//! This is the only list: parsing, describing, the documentation page and the tests read it. A
//! setting that Kafka's tools commonly write is in it even where a single node has nothing to do
//! for it; its documentation then says so.

use super::kind;

/// What values a setting takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Check {
    /// `true` or `false`.
    Boolean,
    /// A whole number within limits; the first field is Kafka's type of it.
    Whole(i8, i64, i64),
    /// A number within limits.
    Double(f64, f64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A comma-separated list of these words, not empty.
    Words(&'static [&'static str]),
    /// The name of a class, with or without its package, whose last part is one of these.
    Class(&'static [&'static str]),
    /// A comma-separated list of anything.
    List,
}

impl Check {
    /// Kafka's numeric type of the setting.
    pub(super) fn kind(self) -> i8 {
        match self {
            Self::Boolean => kind::BOOLEAN,
            Self::Whole(kind, _, _) => kind,
            Self::Double(_, _) => kind::DOUBLE,
            Self::Word(_) | Self::Class(_) => kind::STRING,
            Self::Words(_) | Self::List => kind::LIST,
        }
    }
}

/// One topic setting.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) name: &'static str,
    /// The name of the node's setting that gives the default, as Kafka calls it.
    pub(super) node_name: &'static str,
    pub(super) default: &'static str,
    pub(super) check: Check,
    pub(super) documentation: &'static str,
}

const LONG_MAX: i64 = i64::MAX;
const INT_MAX: i64 = i32::MAX as i64;

/// Confluent's names for how the subject of a record is found.
const STRATEGIES: &[&str] = &[
    "TopicNameStrategy",
    "RecordNameStrategy",
    "TopicRecordNameStrategy",
];

const fn long(min: i64, max: i64) -> Check {
    Check::Whole(kind::LONG, min, max)
}

const fn int(min: i64, max: i64) -> Check {
    Check::Whole(kind::INT, min, max)
}

macro_rules! definitions {
    ($($name:literal, $node_name:literal, $default:literal, $check:expr, $documentation:literal;)*) => {
        /// Every topic setting, by name.
        pub(super) const DEFINITIONS: &[Definition] = &[$(Definition {
            name: $name,
            node_name: $node_name,
            default: $default,
            check: $check,
            documentation: $documentation,
        }),*];
    };
}

definitions! {
    "cleanup.policy", "log.cleanup.policy", "delete", Check::Words(&["compact", "delete"]),
        "What happens to old data: delete removes segments by retention, compact keeps the newest record of each key. With both, superseded records go and old segments too. A topic that is only compacted is not subject to retention. Records without a key go when a topic is compacted.";
    "compression.gzip.level", "compression.gzip.level", "-1", int(-1, 9),
        "The level for batches that are compressed anew with gzip; -1 is gzip's own.";
    "compression.lz4.level", "compression.lz4.level", "9", int(1, 17),
        "Accepted without effect: batches that are compressed anew with lz4 are so at its fastest level.";
    "compression.type", "compression.type", "producer",
        Check::Word(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "How batches are stored: producer keeps what the producer sent, byte for byte; a batch in another codec than the one named here is compressed anew before it is written, which costs the node time.";
    "compression.zstd.level", "compression.zstd.level", "3", int(-131_072, 22),
        "The level for batches that are compressed anew with zstd.";
    "confluent.key.schema.validation", "confluent.key.schema.validation", "false", Check::Boolean,
        "Whether keys must name a schema that belongs to their subject, as values must under wharf.schema.validation; alone, it refuses records that do not.";
    "confluent.key.subject.name.strategy", "confluent.key.subject.name.strategy",
        "io.confluent.kafka.serializers.subject.TopicNameStrategy", Check::Class(STRATEGIES),
        "The subject that the schema of a key must belong to: of TopicNameStrategy the topic's name and -key, of RecordNameStrategy the full name of the record's type, of TopicRecordNameStrategy the topic's name, a hyphen and that name. The package of the class does not matter.";
    "confluent.value.schema.validation", "confluent.value.schema.validation", "false", Check::Boolean,
        "The same as wharf.schema.validation=reject, unless that says warn.";
    "confluent.value.subject.name.strategy", "confluent.value.subject.name.strategy",
        "io.confluent.kafka.serializers.subject.TopicNameStrategy", Check::Class(STRATEGIES),
        "The subject that the schema of a value must belong to: of TopicNameStrategy the topic's name and -value, otherwise as for keys.";
    "delete.retention.ms", "log.cleaner.delete.retention.ms", "86400000", long(0, LONG_MAX),
        "How long tombstones (and the markers of transactions) of a compacted topic are kept after they were first compacted.";
    "file.delete.delay.ms", "log.segment.delete.delay.ms", "60000", long(0, LONG_MAX),
        "Accepted without effect: files are removed as soon as nothing reads them.";
    "flush.messages", "log.flush.interval.messages", "9223372036854775807", long(1, LONG_MAX),
        "Accepted without effect: every append is synced before it is acknowledged (see wharf.sync.before.ack).";
    "flush.ms", "log.flush.interval.ms", "9223372036854775807", long(0, LONG_MAX),
        "Accepted without effect: every append is synced before it is acknowledged (see wharf.sync.before.ack).";
    "follower.replication.throttled.replicas", "follower.replication.throttled.replicas", "", Check::List,
        "Accepted without effect: there are no followers.";
    "index.interval.bytes", "log.index.interval.bytes", "4096", int(0, INT_MAX),
        "Accepted without effect: the log chooses how dense its indexes are.";
    "leader.replication.throttled.replicas", "leader.replication.throttled.replicas", "", Check::List,
        "Accepted without effect: there are no followers.";
    "max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", "9223372036854775807", long(1, LONG_MAX),
        "The longest a record waits to be compacted. When set, records are moved to segments early for it.";
    "max.message.bytes", "message.max.bytes", "1048588", int(0, INT_MAX),
        "The largest record batch accepted, in bytes, after compression.";
    "message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms", "3600000", long(0, LONG_MAX),
        "How far a producer's timestamps may lie after the node's clock, judged by the newest one that the batch states. Not checked under LogAppendTime.";
    "message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms", "9223372036854775807", long(0, LONG_MAX),
        "How far a producer's timestamps may lie before the node's clock. Not checked under LogAppendTime.";
    "message.timestamp.type", "log.message.timestamp.type", "CreateTime",
        Check::Word(&["CreateTime", "LogAppendTime"]),
        "Whether records keep the producer's timestamp or get the time of the append.";
    "min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio", "0.5", Check::Double(0.0, 1.0),
        "A partition is compacted when more than this share of the bytes in its segments was not compacted yet, or earlier by max.compaction.lag.ms.";
    "min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", "0", long(0, LONG_MAX),
        "The shortest a record stays as it is. Judged for whole segments, by their newest record.";
    "min.insync.replicas", "min.insync.replicas", "1", int(1, INT_MAX),
        "Accepted without effect: there is one copy, and it is synced before it is acknowledged.";
    "preallocate", "log.preallocate", "false", Check::Boolean,
        "Accepted without effect: journal files are always preallocated.";
    "retention.bytes", "log.retention.bytes", "-1", long(-1, LONG_MAX),
        "Old segments of a partition are deleted beyond this size; -1 keeps all.";
    "retention.ms", "log.retention.ms", "604800000", long(-1, LONG_MAX),
        "Segments whose newest record is older are deleted; -1 keeps all. A record stamped more than an hour ahead of the clock counts as old as those appended after it.";
    "segment.bytes", "log.segment.bytes", "1073741824", int(14, INT_MAX),
        "The size at which a partition starts a new segment file. A batch larger than it is refused.";
    "segment.index.bytes", "log.index.size.max.bytes", "10485760", int(4, INT_MAX),
        "Accepted without effect: the log sizes its indexes itself.";
    "segment.jitter.ms", "log.roll.jitter.ms", "0", long(0, LONG_MAX),
        "Accepted without effect: segments of all partitions are written together anyway.";
    "segment.ms", "log.roll.ms", "604800000", long(1, LONG_MAX),
        "The age at which a partition starts a new segment file.";
    "unclean.leader.election.enable", "unclean.leader.election.enable", "false", Check::Boolean,
        "Accepted without effect: there is one copy and no election.";
    "wharf.schema.validation", "wharf.schema.validation", "off",
        Check::Word(&["off", "warn", "reject"]),
        "What happens to records whose value does not name a schema that exists in the node's registry and belongs to its subject: nothing, a line in the log and a count, or a refusal as INVALID_RECORD. Null values pass. It needs a registry in the node.";
    "wharf.schema.validation.depth", "wharf.schema.validation.depth", "id",
        Check::Word(&["id", "payload"]),
        "How far a record is looked into under validation: payload also reads its bytes with the schema that it names, which costs the node time.";
    "wharf.sync.before.ack", "wharf.sync.before.ack", "true", Check::Boolean,
        "Whether a produce request is answered after its data is synced to disk. With false it is answered after the write, and a power failure may lose acknowledged records.";
}

/// The setting of this name.
pub(super) fn find(name: &str) -> Option<&'static Definition> {
    DEFINITIONS
        .binary_search_by(|definition| definition.name.cmp(name))
        .ok()
        .map(|index| &DEFINITIONS[index])
}

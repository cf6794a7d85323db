//! From the node's settings to the options of its parts. Every setting is used here or in
//! `node.rs`; none is ignored.

use wharf_broker::group::MigrationPolicy;
use wharf_log::Options as LogOptions;

use crate::config::{ByteCount, Config, Limit, Migration, Period, Topics};
use crate::kafka::Limits;

/// This node's id in the protocol; there is one node.
const NODE_ID: i32 = 1;

impl Config {
    /// `secret` is drawn at random; a log that has one already keeps its own.
    pub(crate) fn log_options(&self, secret: u64) -> LogOptions {
        let log = &self.log;
        LogOptions {
            journal_file_bytes: log.journal_file_size.0,
            journal_files_max: log.journal_files_max,
            group_bytes_max: log.group_size_max.as_usize(),
            tail_bytes_max: log.tail_size_max.as_usize(),
            index_batches_max: log.index_batches_max,
            open_segments_max: log.open_segments_max,
            producers_per_partition_max: log.producers_per_partition_max,
            secret,
            producer_expiry: log.producer_expiry.0,
            ..LogOptions::default()
        }
    }

    pub(crate) fn broker_options(
        &self,
        cluster_id: String,
        log_directory: String,
    ) -> wharf_broker::Options {
        let Self {
            kafka,
            topics,
            groups,
            transactions,
            ..
        } = self;
        wharf_broker::Options {
            node_id: NODE_ID,
            cluster_id,
            log_directory,
            auto_create_topics: topics.auto_create,
            default_partitions: i32::try_from(topics.default_partitions).unwrap_or(i32::MAX),
            partitions_max: topics.partitions_max,
            topic_defaults: topic_defaults(topics),
            group_initial_rebalance_delay: groups.initial_rebalance_delay.0,
            group_session_timeout_min: groups.session_timeout_min.0,
            group_session_timeout_max: groups.session_timeout_max.0,
            group_members_max: groups.members_max,
            groups_max: groups.groups_max,
            consumer_session_timeout: groups.consumer_session_timeout.0,
            consumer_session_timeout_min: groups.consumer_session_timeout_min.0,
            consumer_session_timeout_max: groups.consumer_session_timeout_max.0,
            consumer_heartbeat_interval: groups.consumer_heartbeat_interval.0,
            consumer_heartbeat_interval_min: groups.consumer_heartbeat_interval_min.0,
            consumer_heartbeat_interval_max: groups.consumer_heartbeat_interval_max.0,
            consumer_members_max: groups.consumer_members_max,
            consumer_migration_policy: match groups.consumer_migration_policy {
                Migration::Bidirectional => MigrationPolicy::Bidirectional,
                Migration::Upgrade => MigrationPolicy::Upgrade,
                Migration::Downgrade => MigrationPolicy::Downgrade,
                Migration::Disabled => MigrationPolicy::Disabled,
            },
            offsets_retention: groups.offsets_retention.0,
            offset_metadata_bytes_max: groups.offset_metadata_size_max.as_usize(),
            transactional_ids_max: transactions.ids_max,
            transaction_timeout_max: transactions.timeout_max.0,
            transactional_id_expiration: transactions.id_expiry.0,
            fetch_sessions_max: kafka.fetch_sessions_max,
            fetch_bytes_max: kafka.fetch_size_max.as_usize(),
            fetches_bytes_max: kafka.fetches_size_max.as_usize(),
            stretch_bytes_min: wharf_broker::Options::default().stretch_bytes_min,
        }
    }

    pub(crate) fn connection_limits(&self) -> Limits {
        Limits {
            request_bytes_max: self.kafka.request_size_max.as_usize(),
            requests_max: self.kafka.in_flight_requests_max,
            idle: self.kafka.idle_timeout.0,
            receive: self.kafka.receive_timeout.0,
        }
    }
}

/// The topic settings that differ from the built-in ones, as Kafka's tools write them. Those that
/// do not differ are left out, so that tools show them as defaults.
fn topic_defaults(topics: &Topics) -> Vec<(String, String)> {
    let entries = |topics: &Topics| {
        [
            ("retention.ms", milliseconds(&topics.default_retention)),
            ("retention.bytes", bytes(&topics.default_retention_size)),
            ("segment.bytes", topics.default_segment_size.0.to_string()),
            (
                "segment.ms",
                topics.default_segment_age.0.as_millis().to_string(),
            ),
            (
                "max.message.bytes",
                topics.default_message_size_max.0.to_string(),
            ),
        ]
    };
    let changed = entries(topics).into_iter().zip(entries(&Topics::default()));
    let changed = changed.filter(|(set, built_in)| set != built_in);
    changed
        .map(|((name, value), _)| (name.to_owned(), value))
        .collect()
}

/// Kafka writes "unlimited" as -1.
fn milliseconds(limit: &Limit<Period>) -> String {
    limit
        .as_option()
        .map_or("-1".to_owned(), |period| period.0.as_millis().to_string())
}

fn bytes(limit: &Limit<ByteCount>) -> String {
    limit
        .as_option()
        .map_or("-1".to_owned(), |size| size.0.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_parts() {
        let config = Config::default();
        let log = format!("{:?}", LogOptions::default());
        assert_eq!(
            format!("{:?}", config.log_options(LogOptions::default().secret)),
            log
        );
        let broker = format!("{:?}", wharf_broker::Options::default());
        assert_eq!(
            format!(
                "{:?}",
                config.broker_options("wharf".to_owned(), String::new())
            ),
            broker
        );
    }

    #[test]
    fn only_changed_topic_settings_are_passed_on() {
        let mut config = Config::default();
        config.topics.default_retention = Limit::Unlimited;
        config.topics.default_segment_age = Period(Duration::from_secs(1));
        let expected = [("retention.ms", "-1"), ("segment.ms", "1000")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(topic_defaults(&config.topics), expected);
    }
}

//! One file per API key. Each has a [`Card`] that says what is answered, and a `handle`.
//!
//! The list at the foot is the only list: what is advertised, dispatched, tested and printed in
//! `COMPAT.md` comes from it. What is not in it is not advertised.

use std::ops::RangeInclusive;

use crate::frame::Call;
use crate::shape::Shape;
use crate::{Disconnect, Outcome};

/// ApiVersions: the one key whose unknown versions are answered.
pub(crate) const API_VERSIONS_KEY: i16 = 18;

/// What is known of an API key before a request arrives.
#[derive(Debug)]
pub(crate) struct Card {
    /// Kafka's number.
    pub(crate) key: i16,
    /// Kafka's name.
    pub(crate) name: &'static str,
    /// The versions clients are told.
    pub(crate) advertised: RangeInclusive<i16>,
    /// The versions that are answered; others end the connection.
    pub(crate) answered: RangeInclusive<i16>,
    /// The KIPs whose rules are kept.
    pub(crate) kips: &'static [u16],
    /// What a request looks like.
    pub(crate) shape: Shape,
    /// What a reader of `COMPAT.md` should know.
    pub(crate) notes: &'static str,
}

/// A key with its handler.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) card: &'static Card,
    pub(crate) handle: fn(Call) -> Result<Outcome, Disconnect>,
    /// The versions of the request that the message crate reads.
    #[cfg(test)]
    pub(crate) codec: RangeInclusive<i16>,
    /// Decodes and encodes a request with the message crate.
    #[cfg(test)]
    pub(crate) recode: crate::shape::tests::Recode,
    /// Reads a response with the message crate.
    #[cfg(test)]
    pub(crate) read: crate::shape::tests::Read,
}

#[cfg(test)]
impl Api {
    /// Whether the message crate reads this version; else the key's file has a codec of its own.
    pub(crate) fn codec_reads(&self, version: i16) -> bool {
        self.codec.contains(&version)
    }

    /// The answered versions that the message crate reads.
    pub(crate) fn codec_versions(&self) -> impl Iterator<Item = i16> {
        let answered = self.card.answered.clone();
        answered.filter(|version| self.codec_reads(*version))
    }
}

/// The API with this key.
pub(crate) fn find(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.card.key == key)
}

macro_rules! apis {
    ($($module:ident: $request:ident;)*) => {
        $(mod $module;)*

        /// Every API there is, by key.
        pub(crate) static APIS: &[Api] = &[$(Api {
            card: &$module::CARD,
            handle: $module::handle,
            #[cfg(test)]
            codec: {
                use kafka_protocol::protocol::Message;
                let versions = kafka_protocol::messages::$request::VERSIONS;
                versions.min..=versions.max
            },
            #[cfg(test)]
            recode: crate::shape::tests::recode::<kafka_protocol::messages::$request>,
            #[cfg(test)]
            read: crate::shape::tests::read::<kafka_protocol::messages::$request>,
        }),*];
    };
}

mod config_resource;
mod in_order;
mod quota_entity;
mod repeated;

pub(crate) use k18_api_versions::answer_unknown_version;

apis! {
    k00_produce: ProduceRequest;
    k01_fetch: FetchRequest;
    k02_list_offsets: ListOffsetsRequest;
    k03_metadata: MetadataRequest;
    k08_offset_commit: OffsetCommitRequest;
    k09_offset_fetch: OffsetFetchRequest;
    k10_find_coordinator: FindCoordinatorRequest;
    k11_join_group: JoinGroupRequest;
    k12_heartbeat: HeartbeatRequest;
    k13_leave_group: LeaveGroupRequest;
    k14_sync_group: SyncGroupRequest;
    k15_describe_groups: DescribeGroupsRequest;
    k16_list_groups: ListGroupsRequest;
    k18_api_versions: ApiVersionsRequest;
    k19_create_topics: CreateTopicsRequest;
    k20_delete_topics: DeleteTopicsRequest;
    k21_delete_records: DeleteRecordsRequest;
    k22_init_producer_id: InitProducerIdRequest;
    k23_offset_for_leader_epoch: OffsetForLeaderEpochRequest;
    k24_add_partitions_to_txn: AddPartitionsToTxnRequest;
    k25_add_offsets_to_txn: AddOffsetsToTxnRequest;
    k26_end_txn: EndTxnRequest;
    k27_write_txn_markers: WriteTxnMarkersRequest;
    k28_txn_offset_commit: TxnOffsetCommitRequest;
    k29_describe_acls: DescribeAclsRequest;
    k30_create_acls: CreateAclsRequest;
    k31_delete_acls: DeleteAclsRequest;
    k32_describe_configs: DescribeConfigsRequest;
    k33_alter_configs: AlterConfigsRequest;
    k35_describe_log_dirs: DescribeLogDirsRequest;
    k37_create_partitions: CreatePartitionsRequest;
    k42_delete_groups: DeleteGroupsRequest;
    k43_elect_leaders: ElectLeadersRequest;
    k44_incremental_alter_configs: IncrementalAlterConfigsRequest;
    k45_alter_partition_reassignments: AlterPartitionReassignmentsRequest;
    k46_list_partition_reassignments: ListPartitionReassignmentsRequest;
    k47_offset_delete: OffsetDeleteRequest;
    k48_describe_client_quotas: DescribeClientQuotasRequest;
    k49_alter_client_quotas: AlterClientQuotasRequest;
    k50_describe_user_scram_credentials: DescribeUserScramCredentialsRequest;
    k55_describe_quorum: DescribeQuorumRequest;
    k57_update_features: UpdateFeaturesRequest;
    k60_describe_cluster: DescribeClusterRequest;
    k61_describe_producers: DescribeProducersRequest;
    k65_describe_transactions: DescribeTransactionsRequest;
    k66_list_transactions: ListTransactionsRequest;
    k68_consumer_group_heartbeat: ConsumerGroupHeartbeatRequest;
    k69_consumer_group_describe: ConsumerGroupDescribeRequest;
    k74_list_config_resources: ListConfigResourcesRequest;
    k75_describe_topic_partitions: DescribeTopicPartitionsRequest;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_in_order_and_advertise_at_least_what_they_answer() {
        assert!(APIS.is_sorted_by(|a, b| a.card.key < b.card.key));
        for Card {
            name,
            advertised,
            answered,
            ..
        } in APIS.iter().map(|api| api.card)
        {
            assert!(!answered.is_empty(), "{name}");
            assert!(advertised.start() <= answered.start(), "{name}");
            assert_eq!(advertised.end(), answered.end(), "{name}");
        }
    }
}

//! Groups of the consumer protocol (KIP-848), which librdkafka lists but cannot describe: asked for
//! with the two requests it takes, over connections of our own.

use std::collections::BTreeMap;

use anyhow::Result;
use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup;
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, GroupId};
use kafka_protocol::protocol::StrBytes;

use crate::client::Connection;
use crate::cluster::{Cluster, Coordinated};

/// A group of the consumer protocol.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) state: String,
    pub(crate) assignor: String,
    pub(crate) members: Vec<Member>,
}

/// A member with what it reads.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) host: String,
    pub(crate) partitions: Vec<(String, i32)>,
}

/// Those of the groups that are of the consumer protocol, by name.
pub(crate) fn describe(
    connection: &Connection,
    groups: &[String],
) -> Result<BTreeMap<String, Description>> {
    let mut found = BTreeMap::new();
    if groups.is_empty() {
        return Ok(found);
    }
    let mut cluster = Cluster::connect(connection)?;
    for (address, groups) in cluster.coordinators(Coordinated::Group, groups)? {
        let ids = groups.into_iter().map(StrBytes::from_string).map(GroupId);
        let describe = ConsumerGroupDescribeRequest::default().with_group_ids(ids.collect());
        let answer = cluster.at(&address)?.ask(&describe)?;
        let known = answer
            .groups
            .into_iter()
            .filter(|group| group.error_code == 0);
        found.extend(known.map(|group| (group.group_id.to_string(), description(group))));
    }
    Ok(found)
}

fn description(group: DescribedGroup) -> Description {
    let members = group.members.into_iter().map(|member| {
        let topics = member.assignment.topic_partitions.into_iter();
        let partitions = topics.flat_map(|topic| {
            let name = topic.topic_name.to_string();
            topic
                .partitions
                .into_iter()
                .map(move |index| (name.clone(), index))
        });
        Member {
            id: member.member_id.to_string(),
            client: member.client_id.to_string(),
            host: member.client_host.to_string(),
            partitions: partitions.collect(),
        }
    });
    Description {
        state: group.group_state.to_string(),
        assignor: group.assignor_name.to_string(),
        members: members.collect(),
    }
}

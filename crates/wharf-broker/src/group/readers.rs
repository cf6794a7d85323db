//! Who reads a topic: for reports about it, not for serving it.

use wharf_message::Timestamp;

use super::protocol::Protocol;
use crate::{Broker, Context, Error, TopicRef};

/// A group that reads a topic, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicReader {
    /// The group.
    pub group: String,
    /// Kafka's name of its state.
    pub state: &'static str,
    /// Its members: the client's name and host.
    pub members: Vec<(String, String)>,
    /// What it has committed for the topic, by partition.
    pub offsets: Vec<ReaderOffset>,
}

/// How far a group has come in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderOffset {
    /// The partition.
    pub partition: i32,
    /// The next offset to be read.
    pub offset: i64,
    /// When that was committed.
    pub committed_at: Timestamp,
}

impl Broker {
    /// The groups that committed offsets for this topic (not for an earlier one of its name), or whose
    /// members subscribe to it; by name.
    pub fn readers(&self, _cx: &Context, topic: &TopicRef) -> Result<Vec<TopicReader>, Error> {
        let topic = self.topic(topic)?;
        let mut readers = Vec::new();
        for cell in self.shared.groups.inner.cells() {
            let Some(group) = cell.open() else { continue };
            let offsets = group.offsets.iter().filter(|(name, _, record)| {
                *name == topic.name.as_str() && record.topic_id == topic.id
            });
            let mut offsets: Vec<ReaderOffset> = offsets
                .map(|(_, partition, record)| ReaderOffset {
                    partition,
                    offset: record.offset,
                    committed_at: record.committed_at,
                })
                .collect();
            offsets.sort_by_key(|offset| offset.partition);
            let members: Vec<(String, String)> = match &group.protocol {
                Protocol::Classic(machine) => {
                    let members = machine.members().iter().map(|(_, member)| member);
                    let name = |text: &str| text.to_owned();
                    members
                        .map(|member| (name(&member.client_id), name(&member.client_host)))
                        .collect()
                }
                Protocol::Consumer(group) => {
                    let members = group.members().map(|(_, member)| member);
                    members
                        .map(|member| {
                            (member.client_id.to_string(), member.client_host.to_string())
                        })
                        .collect()
                }
            };
            let is_subscribed =
                !members.is_empty() && group.protocol.is_subscribed(topic.name.as_str());
            if offsets.is_empty() && !is_subscribed {
                continue;
            }
            readers.push(TopicReader {
                group: cell.name.clone(),
                state: group.protocol.state(),
                members,
                offsets,
            });
        }
        readers.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(readers)
    }
}

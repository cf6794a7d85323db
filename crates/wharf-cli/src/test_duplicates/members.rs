//! Members of a group whose process is gone: they are removed, as its broker would do when their
//! session ends, so that nobody has to wait for that.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, GroupId, LeaveGroupRequest};
use kafka_protocol::protocol::StrBytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::groups::GroupInfo;
use wharf_server::Problem;

use super::process::check_interrupt;
use crate::client::{Connection, PATIENCE};
use crate::cluster::{Cluster, Coordinated};
use crate::consumer_group;

const PAUSE: Duration = Duration::from_millis(20);
/// The epoch by which a member of the consumer protocol leaves.
const LEAVING: i32 = -1;

/// Removes every member of a group and waits until it has none.
pub(super) fn remove(connection: &Connection, observer: &BaseConsumer, group: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        check_interrupt()?;
        let list = observer.fetch_group_list(Some(group), PATIENCE);
        let list = list.map_err(|error| connection.explain(&error))?;
        let classic = list.groups().iter().flat_map(GroupInfo::members);
        let classic: Vec<String> = classic.map(|member| member.id().to_owned()).collect();
        let found = consumer_group::describe(connection, &[group.to_owned()]);
        // Brokers from before the consumer protocol do not have it.
        let found = found.unwrap_or_default().remove(group);
        let modern = found.map(|found| found.members).unwrap_or_default();
        if classic.is_empty() && modern.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Problem::plain(
                format!("the group {group} still has members after its consumer was killed"),
                "another process is in the group, or the consumer runs outside of its process group",
                "let --run start everything that reads as {group}, in the foreground",
            )
            .into());
        }
        let modern = modern
            .into_iter()
            .map(|member| member.id)
            .collect::<Vec<_>>();
        leave(connection, group, &classic, &modern)?;
        thread::park_timeout(PAUSE);
    }
}

fn leave(
    connection: &Connection,
    group: &str,
    classic: &[String],
    modern: &[String],
) -> Result<()> {
    let mut cluster = Cluster::connect(connection)?;
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let id = GroupId(text(group));
    // A refusal needs no answer: whether they are gone is looked at again.
    for address in cluster
        .coordinators(Coordinated::Group, &[group.to_owned()])?
        .into_keys()
    {
        let wire = cluster.at(&address)?;
        if !classic.is_empty() {
            let members = classic
                .iter()
                .map(|one| MemberIdentity::default().with_member_id(text(one)));
            let request = LeaveGroupRequest::default().with_group_id(id.clone());
            wire.ask(&request.with_members(members.collect()))?;
        }
        for member in modern {
            let request = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(id.clone())
                .with_member_id(text(member))
                .with_member_epoch(LEAVING);
            wire.ask(&request)?;
        }
    }
    Ok(())
}

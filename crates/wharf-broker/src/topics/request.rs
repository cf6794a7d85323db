//! Checking a request to create a topic, in Kafka's order and with Kafka's errors.

use std::collections::BTreeMap;

use wharf_message::TopicName;

use super::{CreateTopic, PARTITIONS_PER_TOPIC_MAX};
use crate::config::Defaults;
use crate::{Context, Error, ErrorKind, Options, TopicConfig};

/// A request that may be carried out as far as it alone can tell.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) name: TopicName,
    pub(super) partitions: usize,
    pub(super) config: TopicConfig,
}

fn refuse<T>(kind: ErrorKind, message: impl Into<String>) -> Result<T, Error> {
    Err(Error::new(kind, message))
}

/// Checks a topic's name.
pub(super) fn name(text: &str) -> Result<TopicName, Error> {
    TopicName::new(text).map_err(|error| Error::new(ErrorKind::InvalidTopic, error.to_string()))
}

/// Refuses changes of internal topics by anybody but the node's own roles.
pub(crate) fn may_change(cx: &Context, name: &TopicName) -> Result<(), Error> {
    if name.is_internal() && !cx.principal.is_internal() {
        return refuse(
            ErrorKind::InvalidTopic,
            format!("{name} is an internal topic, which clients do not change"),
        );
    }
    Ok(())
}

/// The same for records: those meant for the node's roles are taken.
pub(crate) fn may_write(cx: &Context, name: &TopicName) -> Result<(), Error> {
    match name.is_inbox() {
        true => Ok(()),
        false => may_change(cx, name),
    }
}

/// Checks everything about `request` that does not depend on other topics.
pub(super) fn check(
    cx: &Context,
    options: &Options,
    defaults: &Defaults,
    request: &CreateTopic,
) -> Result<Checked, Error> {
    let name = name(&request.name)?;
    may_change(cx, &name)?;
    let partitions = if request.assignment.is_empty() {
        check_replication(request.replication)?;
        check_partitions(request.partitions, options.default_partitions)?
    } else {
        check_assignment(options, request)?
    };
    let overrides: BTreeMap<_, _> = request
        .configs
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
        .collect();
    // A default asked for by a null value must still be the default of something.
    let nulls = request.configs.iter().filter(|(_, value)| value.is_none());
    for (name, _) in nulls {
        crate::config::check_name(name)?;
    }
    Ok(Checked {
        name,
        partitions,
        config: TopicConfig::new(defaults, &overrides)?,
    })
}

fn check_replication(factor: Option<i16>) -> Result<(), Error> {
    match factor {
        None | Some(-1 | 1) => Ok(()),
        Some(factor) if factor < 1 => refuse(
            ErrorKind::InvalidReplicationFactor,
            format!("the replication factor is {factor}; it must be 1, or -1 for the default"),
        ),
        Some(factor) => refuse(
            ErrorKind::InvalidReplicationFactor,
            format!("the replication factor is {factor}, larger than the one node there is"),
        ),
    }
}

fn check_partitions(count: Option<i32>, default: i32) -> Result<usize, Error> {
    let count = count.filter(|count| *count != -1).unwrap_or(default);
    match usize::try_from(count) {
        Ok(count @ 1..=PARTITIONS_PER_TOPIC_MAX) => Ok(count),
        Ok(0) | Err(_) => refuse(
            ErrorKind::InvalidPartitions,
            format!("the number of partitions is {count}; it must be at least 1"),
        ),
        Ok(_) => refuse(
            ErrorKind::InvalidPartitions,
            format!(
                "the number of partitions is {count}; at most {PARTITIONS_PER_TOPIC_MAX} are allowed"
            ),
        ),
    }
}

fn check_assignment(options: &Options, request: &CreateTopic) -> Result<usize, Error> {
    let given = |count: i64| count != -1;
    if request.partitions.is_some_and(|count| given(count.into()))
        || request
            .replication
            .is_some_and(|factor| given(factor.into()))
    {
        return refuse(
            ErrorKind::InvalidRequest,
            "a manual assignment excludes a number of partitions or a replication factor",
        );
    }
    let count = check_partitions(i32::try_from(request.assignment.len()).ok(), 1)?;
    let mut seen = vec![false; count];
    for (index, nodes) in &request.assignment {
        let slot = usize::try_from(*index)
            .ok()
            .and_then(|index| seen.get_mut(index));
        match slot {
            Some(slot) if !*slot => *slot = true,
            _ => {
                return refuse(
                    ErrorKind::InvalidReplicaAssignment,
                    "the partitions of a manual assignment must count up from 0, each once",
                );
            }
        }
        if nodes.as_slice() != [options.node_id] {
            return refuse(
                ErrorKind::InvalidReplicaAssignment,
                format!(
                    "partition {index} must be assigned to node {} alone",
                    options.node_id
                ),
            );
        }
    }
    Ok(count)
}

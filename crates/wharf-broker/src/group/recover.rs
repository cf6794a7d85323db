//! The groups as the log's state tells them when the node starts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use wharf_log::{Appender, Reader, StateChange};

use super::alarm::Alarms;
use super::consumer::{Around, ConsumerGroup, GroupHeader, Member, is_header};
use super::keys;
use super::machine::{Limits, Machine};
use super::protocol::Protocol;
use super::record::{GroupRecord, OffsetRecord};
use super::settings::Settings;
use super::shell::{Cell, Group, Groups, Inner, of_state};
use crate::sync::lock;
use crate::topics::Topics;
use crate::{Error, ErrorKind, Options, Runtime};

/// Producer, group, topic and partition.
type PendingKey = (i64, String, String, i32);

impl Groups {
    /// Reads the groups and their offsets from the log's state.
    pub(crate) fn recover(
        options: &Options,
        appender: &Appender,
        reader: &Reader,
        topics: &Arc<Topics>,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Self, Error> {
        let now = runtime.steady();
        let limits = Limits::from(options);
        let settings = Settings::recover(reader)?;
        let mut members = read_members(reader)?;
        let mut groups = BTreeMap::<String, Group>::new();
        for (key, value) in reader.state(keys::GROUPS) {
            let name = keys::parse_group(&key).ok_or_else(|| unreadable("group", &key))?;
            let mut group = if is_header(&value) {
                let around = Around {
                    now,
                    limits: settings.limits(&name, options),
                    catalog: &**topics,
                };
                let members = members.remove(&name).unwrap_or_default();
                let header = GroupHeader::decode(&value)?;
                let group = ConsumerGroup::recover(&header, members, around);
                Group::new(Protocol::consumer(group))
            } else {
                let record = GroupRecord::decode(&value)?;
                Group::new(Protocol::classic(Machine::recover(limits, record, now)))
            };
            group.stores.recover(value);
            group.is_stored = true;
            groups.insert(name, group);
        }
        for (of, record) in read_pending(reader)? {
            let (producer, name, topic, partition) = of;
            let group = groups
                .entry(name)
                .or_insert_with(|| Group::new(Protocol::classic(Machine::new(limits, now))));
            let key = (topic, partition);
            group.offsets.pending.recover(producer, key, record);
        }
        for (key, value) in reader.state(keys::OFFSETS) {
            let found = keys::parse_offset(&key);
            let (name, topic, partition) = found.ok_or_else(|| unreadable("offset", &key))?;
            let record = OffsetRecord::decode(&value)?;
            let group = groups
                .entry(name)
                .or_insert_with(|| Group::new(Protocol::classic(Machine::new(limits, now))));
            group.offsets.recover(topic, partition, record);
        }
        let table = groups.into_iter().map(|(name, group)| {
            let group = Mutex::new(group);
            (name.clone(), Arc::new(Cell { name, group }))
        });
        let inner = Arc::new(Inner {
            options: options.clone(),
            runtime,
            topics: Arc::clone(topics),
            settings,
            appender: appender.clone(),
            table: Mutex::new(table.collect()),
            alarms: Alarms::default(),
        });
        for cell in inner.cells() {
            inner.settle(&cell, &mut lock(&cell.group));
        }
        inner.remove_orphans(&members);
        Ok(Self { inner })
    }
}

impl Inner {
    /// Members whose group became a classic one, in a store that came through while the removal
    /// of the members did not.
    fn remove_orphans(&self, members: &BTreeMap<String, Vec<(String, Member)>>) {
        let orphans = members.iter().flat_map(|(group, members)| {
            members.iter().map(|(id, _)| StateChange {
                key: keys::member(group, id),
                value: None,
            })
        });
        let orphans: Vec<_> = orphans.collect();
        if !orphans.is_empty() {
            // Nobody waits for it; what fails now is tried with the next start.
            drop(crate::commit::submit(
                &self.appender,
                of_state(orphans),
                |_| (),
            ));
        }
    }
}

/// The stored members of groups of the consumer protocol, by group.
fn read_members(reader: &Reader) -> Result<BTreeMap<String, Vec<(String, Member)>>, Error> {
    let mut members = BTreeMap::<String, Vec<(String, Member)>>::new();
    for (key, value) in reader.state(keys::MEMBERS) {
        let found = keys::parse_member(&key);
        let (group, id) = found.ok_or_else(|| unreadable("group member", &key))?;
        members
            .entry(group)
            .or_default()
            .push((id, Member::decode(&value)?));
    }
    Ok(members)
}

/// The stored offsets of open transactions, in the order in which they were asked for as far as
/// their times tell it.
fn read_pending(reader: &Reader) -> Result<Vec<(PendingKey, OffsetRecord)>, Error> {
    let mut pending = Vec::new();
    for (key, value) in reader.state(keys::PENDING) {
        let found = keys::parse_pending(&key);
        let of = found.ok_or_else(|| unreadable("transaction's offset", &key))?;
        pending.push((of, OffsetRecord::decode(&value)?));
    }
    pending.sort_by_key(|(_, record)| record.committed_at);
    Ok(pending)
}

pub(super) fn unreadable(what: &str, key: &[u8]) -> Error {
    let message = format!(
        "the key of a stored {what} cannot be read: {}",
        key.escape_ascii()
    );
    Error::new(ErrorKind::UnknownServerError, message)
}

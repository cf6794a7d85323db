//! The quotas as they are now, and which of them counts for a client: the most particular one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use wharf_log::Reader;

use super::entity::{QuotaEntity, QuotaKey, QuotaName};
use super::record;
use crate::{Error, keys};

/// The quotas of one entity, and their value in the state.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) values: BTreeMap<QuotaKey, f64>,
    pub(super) encoded: Bytes,
}

/// Every entity with quotas.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entities: HashMap<QuotaEntity, Stored>,
}

impl Table {
    pub(super) fn recover(reader: &Reader) -> Result<Self, Error> {
        let mut table = Self::default();
        for (key, value) in reader.state(keys::QUOTAS) {
            table.put(record::entity(&key)?, Some(value))?;
        }
        Ok(table)
    }

    pub(super) fn get(&self, entity: &QuotaEntity) -> Option<&Stored> {
        self.entities.get(entity)
    }

    pub(super) fn len(&self) -> usize {
        self.entities.len()
    }

    /// By entity, in a stable order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&QuotaEntity, &Stored)> {
        let mut entries: Vec<_> = self.entities.iter().collect();
        entries.sort_by_key(|(entity, _)| *entity);
        entries.into_iter()
    }

    /// Puts an entity's value, or takes the entity out.
    pub(super) fn put(&mut self, entity: QuotaEntity, value: Option<Bytes>) -> Result<(), Error> {
        match value {
            None => drop(self.entities.remove(&entity)),
            Some(encoded) => {
                let values = record::decode(&encoded)?;
                self.entities.insert(entity, Stored { values, encoded });
            }
        }
        Ok(())
    }

    fn value(&self, entity: &QuotaEntity, key: QuotaKey) -> Option<f64> {
        self.entities.get(entity)?.values.get(&key).copied()
    }

    /// The entity whose quota of `key` counts for this user and client, and the quota. In Kafka's
    /// order: whoever names the user and the client comes first, the default of all clients last.
    pub(super) fn of_client(
        &self,
        key: QuotaKey,
        user: &Arc<str>,
        client_id: &Arc<str>,
    ) -> Option<(QuotaEntity, f64)> {
        let user = Some(QuotaName::Named(Arc::clone(user)));
        let client = Some(QuotaName::Named(Arc::clone(client_id)));
        let default = Some(QuotaName::Default);
        let order = [
            (user.clone(), client.clone()),
            (user.clone(), default.clone()),
            (user, None),
            (default.clone(), client.clone()),
            (default.clone(), default.clone()),
            (default.clone(), None),
            (None, client),
            (None, default),
        ];
        order.into_iter().find_map(|(user, client_id)| {
            let entity = QuotaEntity {
                user,
                client_id,
                ip: None,
            };
            let value = self.value(&entity, key)?;
            Some((entity, value))
        })
    }

    /// The quota that counts for connections from this address.
    pub(super) fn of_address(&self, key: QuotaKey, address: &Arc<str>) -> Option<f64> {
        let names = [QuotaName::Named(Arc::clone(address)), QuotaName::Default];
        names.into_iter().find_map(|name| {
            let entity = QuotaEntity {
                ip: Some(name),
                ..QuotaEntity::default()
            };
            self.value(&entity, key)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Option<QuotaName> {
        match name {
            "" => None,
            "*" => Some(QuotaName::Default),
            name => Some(QuotaName::Named(name.into())),
        }
    }

    fn entity(user: &str, client_id: &str) -> QuotaEntity {
        QuotaEntity {
            user: name(user),
            client_id: name(client_id),
            ip: None,
        }
    }

    fn put(table: &mut Table, entity: QuotaEntity, key: QuotaKey, value: Option<f64>) {
        let value = value.map(|value| record::encode(&BTreeMap::from([(key, value)])));
        table
            .put(entity, value)
            .expect("what was encoded is decoded");
    }

    #[test]
    fn the_most_particular_quota_counts_in_the_order_of_kafka() {
        const KEY: QuotaKey = QuotaKey::ProducerByteRate;
        let order = [
            ("alice", "app"),
            ("alice", "*"),
            ("alice", ""),
            ("*", "app"),
            ("*", "*"),
            ("*", ""),
            ("", "app"),
            ("", "*"),
        ];
        let mut table = Table::default();
        let mut value = 8.0;
        let found = |table: &Table| table.of_client(KEY, &"alice".into(), &"app".into());
        assert_eq!(found(&table), None);
        for (user, client_id) in order.into_iter().rev() {
            put(&mut table, entity(user, client_id), KEY, Some(value));
            assert_eq!(found(&table), Some((entity(user, client_id), value)));
            value -= 1.0;
        }
        // Another key of the same entities does not hide the ones that have this one.
        put(
            &mut table,
            entity("alice", "app"),
            QuotaKey::RequestPercentage,
            Some(1.0),
        );
        assert_eq!(found(&table).expect("the next one").0, entity("alice", "*"));
        for (user, client_id) in order {
            put(&mut table, entity(user, client_id), KEY, None);
        }
        assert_eq!(found(&table), None);
    }

    #[test]
    fn quotas_of_others_do_not_count() {
        const KEY: QuotaKey = QuotaKey::ConsumerByteRate;
        let mut table = Table::default();
        put(&mut table, entity("bob", ""), KEY, Some(1.0));
        put(&mut table, entity("bob", "app"), KEY, Some(1.0));
        put(&mut table, entity("", "other"), KEY, Some(1.0));
        assert_eq!(table.of_client(KEY, &"alice".into(), &"app".into()), None);
    }

    #[test]
    fn an_address_has_its_own_quota_or_the_default() {
        const KEY: QuotaKey = QuotaKey::ConnectionCreationRate;
        let mut table = Table::default();
        let ip = |ip: &str| QuotaEntity {
            ip: name(ip),
            ..QuotaEntity::default()
        };
        put(&mut table, ip("*"), KEY, Some(2.0));
        put(&mut table, ip("10.0.0.1"), KEY, Some(9.0));
        assert_eq!(table.of_address(KEY, &"10.0.0.1".into()), Some(9.0));
        assert_eq!(table.of_address(KEY, &"10.0.0.2".into()), Some(2.0));
    }
}

//! Quotas in the durable state: the entity is the key, its quotas are the value.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::entity::{QuotaEntity, QuotaKey, QuotaName};
use crate::encoding::{Decoder, Encoder};
use crate::{Error, keys};

const VERSION: u8 = 1;
const ABSENT: u8 = 0;
const DEFAULT: u8 = 1;
const NAMED: u8 = 2;
/// A quota's number and value.
const QUOTA_BYTES: usize = 1 + 8;

/// The key of an entity.
pub(super) fn key(entity: &QuotaEntity) -> Bytes {
    let QuotaEntity {
        user,
        client_id,
        ip,
    } = entity;
    let mut encoder = Encoder::new(VERSION);
    for name in [user, client_id, ip] {
        match name {
            None => encoder.u8(ABSENT),
            Some(QuotaName::Default) => encoder.u8(DEFAULT),
            Some(QuotaName::Named(name)) => encoder.u8(NAMED).text(name),
        };
    }
    let mut key = BytesMut::from(keys::QUOTAS);
    key.put(encoder.finish());
    key.freeze()
}

/// The entity of a key.
pub(super) fn entity(key: &[u8]) -> Result<QuotaEntity, Error> {
    let key = key.get(keys::QUOTAS.len()..).unwrap_or_default();
    let mut decoder = Decoder::new("quota's entity", VERSION, key)?;
    let mut name = || match decoder.u8()? {
        ABSENT => Ok(None),
        DEFAULT => Ok(Some(QuotaName::Default)),
        NAMED => Ok(Some(QuotaName::Named(decoder.text()?.into()))),
        other => Err(decoder.invalid(&format!("there is no kind of name {other}"))),
    };
    let (user, client_id, ip) = (name()?, name()?, name()?);
    decoder.finish()?;
    Ok(QuotaEntity {
        user,
        client_id,
        ip,
    })
}

/// The numbers of the keys on the disk; never reused.
const fn number(key: QuotaKey) -> u8 {
    match key {
        QuotaKey::ProducerByteRate => 1,
        QuotaKey::ConsumerByteRate => 2,
        QuotaKey::RequestPercentage => 3,
        QuotaKey::ConnectionCreationRate => 4,
    }
}

/// The value of an entity's quotas.
pub(super) fn encode(values: &BTreeMap<QuotaKey, f64>) -> Bytes {
    let mut encoder = Encoder::new(VERSION);
    encoder.u32(u32::try_from(values.len()).expect("there are few keys"));
    for (key, value) in values {
        encoder.u8(number(*key)).u64(value.to_bits());
    }
    encoder.finish()
}

/// The quotas of a value.
pub(super) fn decode(value: &[u8]) -> Result<BTreeMap<QuotaKey, f64>, Error> {
    let mut decoder = Decoder::new("quotas", VERSION, value)?;
    let mut values = BTreeMap::new();
    for _ in 0..decoder.count(QUOTA_BYTES)? {
        let (found, value) = (decoder.u8()?, f64::from_bits(decoder.u64()?));
        let key = QuotaKey::ALL.into_iter().find(|key| number(*key) == found);
        match key {
            Some(key) if value.is_finite() && value > 0.0 => values.insert(key, value),
            Some(_) => return Err(decoder.invalid("a quota is not positive")),
            None => return Err(decoder.invalid(&format!("there is no quota {found}"))),
        };
    }
    decoder.finish()?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = Option<QuotaName>> {
        prop_oneof![
            Just(None),
            Just(Some(QuotaName::Default)),
            any::<String>().prop_map(|name| Some(QuotaName::Named(name.into()))),
        ]
    }

    proptest! {
        #[test]
        fn entities_and_quotas_are_read_back(
            (user, client_id, ip) in (name(), name(), name()),
            values in prop::collection::btree_map(
                prop::sample::select(&QuotaKey::ALL[..]),
                1e-6..1e15_f64,
                0..4,
            ),
        ) {
            let original = QuotaEntity { user, client_id, ip };
            prop_assert_eq!(entity(&key(&original)), Ok(original));
            prop_assert_eq!(decode(&encode(&values)), Ok(values));
        }

        #[test]
        fn hostile_bytes_are_refused_and_never_panic(bytes: Vec<u8>) {
            let _any = (entity(&bytes), decode(&bytes));
        }
    }
}

//! Whose quotas there are and which: Kafka's kinds of entities, the keys, and what fits together.

use core::net::IpAddr;
use std::collections::HashSet;
use std::sync::Arc;

use crate::{Error, ErrorKind};

/// The longest name in bytes; client ids come in requests with a 16-bit length.
const NAME_BYTES_MAX: usize = 32_767;

/// One of a kind: a certain one, or every one that has no quota of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaName {
    /// Each that has none of its own.
    Default,
    /// This one.
    Named(Arc<str>),
}

/// Who has quotas: a user, a client id, both together, or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaEntity {
    /// The user (`ANONYMOUS` when nobody authenticates).
    pub user: Option<QuotaName>,
    /// The client's own name (`client.id`).
    pub client_id: Option<QuotaName>,
    /// The address connections come from.
    pub ip: Option<QuotaName>,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaKey {
    /// Bytes of produce requests per second (`producer_byte_rate`).
    ProducerByteRate,
    /// Bytes of fetch answers per second (`consumer_byte_rate`).
    ConsumerByteRate,
    /// Time that requests are worked on, as a percentage of one thread (`request_percentage`).
    RequestPercentage,
    /// New connections per second (`connection_creation_rate`).
    ConnectionCreationRate,
}

/// What Kafka limits and this node does not.
const NOT_LIMITED: &str = "controller_mutation_rate";

impl QuotaKey {
    /// Every key.
    pub const ALL: [Self; 4] = [
        Self::ProducerByteRate,
        Self::ConsumerByteRate,
        Self::RequestPercentage,
        Self::ConnectionCreationRate,
    ];

    /// The name that Kafka's tools use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProducerByteRate => "producer_byte_rate",
            Self::ConsumerByteRate => "consumer_byte_rate",
            Self::RequestPercentage => "request_percentage",
            Self::ConnectionCreationRate => "connection_creation_rate",
        }
    }

    /// What may be taken in a second under a quota of this key.
    pub(super) fn rate(self, quota: f64) -> f64 {
        match self {
            // Nanoseconds of every second.
            Self::RequestPercentage => quota / 100.0 * 1e9,
            _ => quota,
        }
    }

    /// Whether entities with an address have it; the others then do not.
    const fn is_of_addresses(self) -> bool {
        matches!(self, Self::ConnectionCreationRate)
    }

    const fn is_whole(self) -> bool {
        !matches!(self, Self::RequestPercentage)
    }
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::new(ErrorKind::InvalidRequest, message))
}

/// Checks the changes of one entity; returns them with their keys.
pub(super) fn check(
    entity: &QuotaEntity,
    changes: &[(String, Option<f64>)],
) -> Result<Vec<(QuotaKey, Option<f64>)>, Error> {
    check_entity(entity)?;
    let mut seen = HashSet::new();
    let mut checked = Vec::with_capacity(changes.len());
    for (name, value) in changes {
        let key = key(entity, name)?;
        if !seen.insert(key) {
            return invalid(format!("{name} is named more than once"));
        }
        if let Some(value) = *value {
            check_value(key, value)?;
        }
        checked.push((key, *value));
    }
    Ok(checked)
}

fn check_entity(entity: &QuotaEntity) -> Result<(), Error> {
    let QuotaEntity {
        user,
        client_id,
        ip,
    } = entity;
    if ip.is_some() == (user.is_some() || client_id.is_some()) {
        return invalid("quotas are of a user, a client id, both, or an address alone");
    }
    for name in [user, client_id, ip].into_iter().flatten() {
        if let QuotaName::Named(name) = name
            && (name.is_empty() || name.len() > NAME_BYTES_MAX)
        {
            return invalid(format!("a name has between 1 and {NAME_BYTES_MAX} bytes"));
        }
    }
    match ip {
        Some(QuotaName::Named(name)) if name.parse::<IpAddr>().is_err() => {
            let shown: String = name.chars().take(100).collect();
            invalid(format!(
                "{shown:?} is no IP address; names of hosts are not looked up"
            ))
        }
        _ => Ok(()),
    }
}

fn key(entity: &QuotaEntity, name: &str) -> Result<QuotaKey, Error> {
    let Some(key) = QuotaKey::ALL.into_iter().find(|key| key.name() == name) else {
        let known = QuotaKey::ALL.map(QuotaKey::name).join(", ");
        let shown: String = name.chars().take(100).collect();
        return invalid(if name == NOT_LIMITED {
            format!("{NOT_LIMITED} is not limited by this node; it limits {known}")
        } else {
            format!("there is no quota {shown:?}; there are {known}")
        });
    };
    if key.is_of_addresses() != entity.ip.is_some() {
        let whose = if key.is_of_addresses() {
            "an address"
        } else {
            "users and client ids"
        };
        return invalid(format!("{name} is a quota of {whose}"));
    }
    Ok(key)
}

fn check_value(key: QuotaKey, value: f64) -> Result<(), Error> {
    let name = key.name();
    if !value.is_finite() || value <= 0.0 {
        return invalid(format!("{name} must be more than 0, not {value}"));
    }
    if key.is_whole() && (value.fract() != 0.0 || value > 9_007_199_254_740_992.0) {
        return invalid(format!(
            "{name} must be a whole number up to 2^53, not {value}"
        ));
    }
    if value < 1e-6 || value > 1e15 && !key.is_whole() {
        return invalid(format!("{name} must be a percentage, not {value}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Option<QuotaName> {
        Some(QuotaName::Named(name.into()))
    }

    fn of(
        user: Option<QuotaName>,
        client_id: Option<QuotaName>,
        ip: Option<QuotaName>,
    ) -> QuotaEntity {
        QuotaEntity {
            user,
            client_id,
            ip,
        }
    }

    fn is_good(entity: &QuotaEntity, name: &str, value: Option<f64>) -> bool {
        match check(entity, &[(name.to_owned(), value)]) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::InvalidRequest);
                assert!(!error.message.is_empty());
                false
            }
        }
    }

    #[test]
    fn entities_are_users_client_ids_both_or_an_address() {
        let default = Some(QuotaName::Default);
        for good in [
            of(named("a"), None, None),
            of(default.clone(), None, None),
            of(None, named("a"), None),
            of(named("a"), default.clone(), None),
        ] {
            assert!(is_good(&good, "producer_byte_rate", Some(1.0)), "{good:?}");
            assert!(
                !is_good(&good, "connection_creation_rate", Some(1.0)),
                "{good:?}"
            );
        }
        for good in [named("127.0.0.1"), named("::1"), default.clone()] {
            let good = of(None, None, good);
            assert!(
                is_good(&good, "connection_creation_rate", Some(1.0)),
                "{good:?}"
            );
            assert!(!is_good(&good, "consumer_byte_rate", Some(1.0)), "{good:?}");
        }
        for bad in [
            QuotaEntity::default(),
            of(named(""), None, None),
            of(None, None, named("example.org")),
            of(None, named("a"), named("127.0.0.1")),
            of(named("a"), named("a"), default),
        ] {
            assert!(!is_good(&bad, "producer_byte_rate", Some(1.0)), "{bad:?}");
            assert!(
                !is_good(&bad, "connection_creation_rate", Some(1.0)),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn values_are_positive_and_whole_where_they_count_things() {
        let user = of(named("a"), None, None);
        for key in [
            "producer_byte_rate",
            "consumer_byte_rate",
            "request_percentage",
        ] {
            for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX, 1e-300] {
                assert!(!is_good(&user, key, Some(bad)), "{key} {bad}");
            }
            assert!(is_good(&user, key, Some(1024.0)) && is_good(&user, key, None));
        }
        assert!(is_good(&user, "request_percentage", Some(0.5)));
        assert!(!is_good(&user, "producer_byte_rate", Some(0.5)));
    }

    #[test]
    fn a_key_that_is_unknown_not_limited_or_named_twice_is_refused() {
        let user = of(named("a"), None, None);
        assert!(!is_good(&user, "producer_bite_rate", None));
        let refused = check(&user, &[(NOT_LIMITED.to_owned(), Some(1.0))]).unwrap_err();
        assert!(
            refused.message.contains("is not limited by this node"),
            "{refused}"
        );
        let twice = [
            ("request_percentage".to_owned(), None),
            ("request_percentage".to_owned(), Some(1.0)),
        ];
        assert!(check(&user, &twice).is_err());
    }
}

//! What the quota keys (48, 49) share: Kafka's words for entities.

use kafka_protocol::protocol::StrBytes;
use wharf_broker::{Error, ErrorKind, QuotaEntity, QuotaName};

/// A kind of entity: a name on the wire, a field here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    User,
    ClientId,
    Ip,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::User, Self::ClientId, Self::Ip];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ClientId => "client-id",
            Self::Ip => "ip",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The entity's name of this kind.
    pub(super) const fn of(self, entity: &QuotaEntity) -> Option<&QuotaName> {
        match self {
            Self::User => entity.user.as_ref(),
            Self::ClientId => entity.client_id.as_ref(),
            Self::Ip => entity.ip.as_ref(),
        }
    }
}

/// A name on the wire: null is the default.
pub(super) fn quota_name(name: Option<&StrBytes>) -> QuotaName {
    name.map_or(QuotaName::Default, |name| {
        QuotaName::Named(name.as_str().into())
    })
}

/// The entity of kinds and names, each kind at most once.
pub(super) fn entity<'a>(
    parts: impl Iterator<Item = (&'a StrBytes, Option<&'a StrBytes>)>,
) -> Result<QuotaEntity, Error> {
    let mut entity = QuotaEntity::default();
    for (kind, name) in parts {
        let Some(known) = Kind::from_name(kind) else {
            return Err(unknown(kind, ErrorKind::InvalidRequest));
        };
        let place = match known {
            Kind::User => &mut entity.user,
            Kind::ClientId => &mut entity.client_id,
            Kind::Ip => &mut entity.ip,
        };
        if place.replace(quota_name(name)).is_some() {
            let message = format!("the entity has more than one {}", known.name());
            return Err(Error::new(ErrorKind::InvalidRequest, message));
        }
    }
    Ok(entity)
}

/// The refusal of a kind of entity that does not exist.
pub(super) fn unknown(kind: &str, error: ErrorKind) -> Error {
    let kind: String = kind.chars().take(100).collect();
    let known = Kind::ALL.map(Kind::name).join(", ");
    Error::new(
        error,
        format!("there is no kind of entity {kind:?}; there are {known}"),
    )
}

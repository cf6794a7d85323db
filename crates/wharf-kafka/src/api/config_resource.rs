//! What the configuration keys (32, 33, 44, 74) share: the kinds of resources, whose they are, and
//! the one way to change a setting.
//!
//! Topics have settings that change. The node's own come from its configuration file and are
//! read-only here; to delete a change of one is no change, since there is never any. Groups
//! have settings whether or not they exist. Loggers and client metrics subscriptions do not exist:
//! they describe as empty and refuse every change. Nothing is changed before the whole resource
//! was found good.

use kafka_protocol::protocol::StrBytes;
use wharf_broker::{
    Broker, ConfigChange, ConfigOperation, ConfigSource, Context, Error, ErrorKind, TopicRef,
};

use super::in_order::in_order;
use super::repeated::repeated;

/// A kind of resource with settings (`ConfigResource.Type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Topic,
    Node,
    NodeLoggers,
    ClientMetrics,
    Group,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [
        Self::Topic,
        Self::Node,
        Self::NodeLoggers,
        Self::ClientMetrics,
        Self::Group,
    ];

    pub(super) const fn code(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Node => 4,
            Self::NodeLoggers => 8,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }

    pub(super) fn from_code(code: i8) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|kind| kind.code() == code);
        known.ok_or_else(|| invalid(format!("resource type {code} is not known")))
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidRequest, message)
}

/// Kafka's number for the origin of a value (`ConfigEntry.ConfigSource`).
pub(super) const fn source_code(source: ConfigSource) -> i8 {
    match source {
        ConfigSource::Topic => 1,
        ConfigSource::Node => 4,
        ConfigSource::Default => 5,
        ConfigSource::Group => 8,
    }
}

/// Checks that `name` is this node's id.
pub(super) fn check_node(broker: &Broker, name: &str) -> Result<(), Error> {
    let node = broker.options().node_id;
    match name.parse::<i32>() {
        Ok(id) if id == node => Ok(()),
        Ok(id) => Err(invalid(format!("this is node {node}, not node {id}"))),
        Err(_) => Err(invalid(format!(
            "a node is named by its id ({node}), not by {name:?}"
        ))),
    }
}

/// A resource to change, from either of the two requests.
pub(super) struct Alteration {
    pub(super) kind: i8,
    pub(super) name: StrBytes,
    /// The changes, with operations and values unchecked.
    pub(super) changes: Vec<Change>,
}

/// A change as it arrives: the operation's number and a value that may be missing.
pub(super) struct Change {
    pub(super) name: StrBytes,
    pub(super) operation: i8,
    pub(super) value: Option<StrBytes>,
}

/// How to apply alterations.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    /// Settings that are not named go back to their defaults (AlterConfigs).
    pub(super) replace: bool,
    /// Check only.
    pub(super) validate_only: bool,
}

/// Applies the alterations of one request, each on its own; one result each, in order. A resource
/// that is named twice is not touched at all.
pub(super) async fn alter_all(
    broker: &Broker,
    cx: &Context,
    alterations: Vec<Alteration>,
    mode: Mode,
) -> Vec<(i8, StrBytes, Result<(), Error>)> {
    let repeated = repeated(alterations.iter().map(|one| (one.kind, one.name.clone())));
    let repeated = &repeated;
    let work = alterations.into_iter().map(
        |Alteration {
             kind,
             name,
             changes,
         }| async move {
            let result = if repeated.contains(&(kind, name.clone())) {
                Err(invalid("a resource may be named only once in a request"))
            } else {
                alter(broker, cx, kind, &name, changes, mode).await
            };
            (kind, name, result)
        },
    );
    in_order(work).await
}

async fn alter(
    broker: &Broker,
    cx: &Context,
    kind: i8,
    name: &str,
    changes: Vec<Change>,
    mode: Mode,
) -> Result<(), Error> {
    let kind = Kind::from_code(kind)?;
    let changes = checked(changes)?;
    let changes_nothing = kind != Kind::Topic
        && changes
            .iter()
            .all(|change| change.operation == ConfigOperation::Delete);
    let refused = |what: &str| {
        let settings: Vec<_> = changes.iter().map(|change| change.name.as_str()).collect();
        Err(Error::new(
            ErrorKind::InvalidRequest,
            format!("{what}: {}", settings.join(", ")),
        ))
    };
    match kind {
        Kind::Topic => {
            let topic = TopicRef::Name(name.to_owned());
            broker
                .alter_topic_config(cx, &topic, changes, mode.replace, mode.validate_only)
                .await
        }
        Kind::Group => {
            broker
                .alter_group_config(cx, name, changes, mode.replace, mode.validate_only)
                .await
        }
        Kind::Node | Kind::NodeLoggers if !name.is_empty() => {
            check_node(broker, name)?;
            if changes_nothing {
                Ok(())
            } else {
                refused(FIXED)
            }
        }
        _ if changes_nothing => Ok(()),
        Kind::Node | Kind::NodeLoggers => refused(FIXED),
        Kind::ClientMetrics => refused("this node takes no client metrics subscriptions"),
    }
}

/// Why the node's settings do not change.
const FIXED: &str = "the node's settings come from its configuration and change with a restart";

fn checked(changes: Vec<Change>) -> Result<Vec<ConfigChange>, Error> {
    let repeated = repeated(changes.iter().map(|change| &change.name));
    if let Some(twice) = changes
        .iter()
        .find(|change| repeated.contains(&change.name))
    {
        return Err(invalid(format!(
            "the setting {} is named more than once",
            twice.name
        )));
    }
    changes.into_iter().map(change).collect()
}

fn change(change: Change) -> Result<ConfigChange, Error> {
    let operation = match change.operation {
        0 => ConfigOperation::Set,
        1 => ConfigOperation::Delete,
        2 => ConfigOperation::Append,
        3 => ConfigOperation::Subtract,
        other => {
            return Err(invalid(format!(
                "there is no operation {other} on a setting"
            )));
        }
    };
    let value = match (operation, change.value) {
        (ConfigOperation::Delete, _) => None,
        (_, Some(value)) => Some(value.to_string()),
        (_, None) => {
            return Err(invalid(format!(
                "the setting {} needs a value",
                change.name
            )));
        }
    };
    Ok(ConfigChange {
        name: change.name.to_string(),
        operation,
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, operation: i8, value: Option<&str>) -> Change {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        Change {
            name: text(name),
            operation,
            value: value.map(text),
        }
    }

    #[test]
    fn every_operation_has_its_number_and_only_delete_needs_no_value() {
        let operation = |number| change(request("a", number, Some("v"))).map(|one| one.operation);
        assert_eq!(operation(0), Ok(ConfigOperation::Set));
        assert_eq!(operation(1), Ok(ConfigOperation::Delete));
        assert_eq!(operation(2), Ok(ConfigOperation::Append));
        assert_eq!(operation(3), Ok(ConfigOperation::Subtract));
        for unknown in [-1, 4, i8::MAX] {
            assert_eq!(
                operation(unknown).expect_err("no such").kind,
                ErrorKind::InvalidRequest
            );
        }
        for number in [0, 2, 3] {
            let refused = change(request("a", number, None)).expect_err("no value");
            assert_eq!(refused.kind, ErrorKind::InvalidRequest);
            assert!(refused.message.contains("the setting a"), "{refused}");
        }
        assert_eq!(
            change(request("a", 1, Some("ignored"))).map(|one| one.value),
            Ok(None)
        );
    }

    #[test]
    fn a_setting_named_twice_is_refused_whatever_the_operations() {
        let twice = vec![
            request("a", 0, Some("1")),
            request("b", 0, Some("1")),
            request("a", 1, None),
        ];
        let refused = checked(twice).expect_err("named twice");
        assert_eq!(refused.kind, ErrorKind::InvalidRequest);
        assert!(refused.message.contains("the setting a"), "{refused}");
    }

    #[test]
    fn every_kind_of_resource_is_known_by_its_number() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Ok(kind));
        }
        for unknown in [0, 1, 3, -4] {
            assert!(Kind::from_code(unknown).is_err());
        }
    }
}

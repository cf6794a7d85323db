//! Names of topics and groups, checked once at the edge. The rules are Kafka's for topics
//! (`Topic.validate`).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest topic name in bytes, as Kafka allows it.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// A valid topic name: 1 to 249 of `[a-zA-Z0-9._-]`, and not `.` or `..`. Cheap to clone.
///
/// ```
/// use wharf_message::TopicName;
///
/// let orders = TopicName::new("shop.orders")?;
/// assert_eq!(orders.as_str(), "shop.orders");
/// assert!(!orders.is_internal());
/// assert!(TopicName::new("shop orders").is_err());
/// # Ok::<(), wharf_message::InvalidName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// Why a text is no topic name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(String);

impl TopicName {
    /// Checks `text` against Kafka's rules.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName("the topic name is empty".to_owned()));
        }
        if text == "." || text == ".." {
            return Err(InvalidName(format!("a topic cannot be named \"{text}\"")));
        }
        if text.len() > TOPIC_NAME_BYTES_MAX {
            return Err(InvalidName(format!(
                "the topic name is {} bytes long; at most {TOPIC_NAME_BYTES_MAX} are allowed",
                text.len()
            )));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(other) = text.chars().find(|c| !allowed(*c)) {
            return Err(InvalidName(format!(
                "the topic name contains {other:?}; only ASCII letters, digits, '.', '_' and '-' are allowed"
            )));
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is one of Wharf's or Kafka's own topics, which clients do not write to.
    pub fn is_internal(&self) -> bool {
        self.0.starts_with("_wharf.") || &*self.0 == "__consumer_offsets"
    }

    /// Whether clients write records to this internal topic: workers of sagas answer in one, and
    /// records of the other start sagas.
    pub fn is_inbox(&self) -> bool {
        matches!(&*self.0, "_wharf.saga-replies" | "_wharf.saga-starts")
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// A valid name of a group of consumers: the rules of [`TopicName`], since it is part of the names of
/// topics (`dlq.<topic>.<group>`). Cheap to clone.
///
/// ```
/// use wharf_message::GroupName;
///
/// assert_eq!(GroupName::new("billing")?.as_str(), "billing");
/// let error = GroupName::new("").unwrap_err();
/// assert_eq!(error.to_string(), "the group name is empty");
/// # Ok::<(), wharf_message::InvalidName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// Checks `text`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let invalid = |error: InvalidName| InvalidName(error.0.replacen("topic", "group", 1));
        TopicName::new(text)
            .map(|name| Self(name.0))
            .map_err(invalid)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_kafka_accepts_and_says_why_otherwise() {
        assert!(TopicName::new("orders.v1_x-2").is_ok());
        assert!(TopicName::new("").is_err());
        assert!(TopicName::new("..").is_err());
        assert!(TopicName::new(&"a".repeat(249)).is_ok());
        assert!(TopicName::new(&"a".repeat(250)).is_err());
        let error = TopicName::new("a b").expect_err("a space is not allowed");
        assert!(error.to_string().contains("' '"), "{error}");
    }
}

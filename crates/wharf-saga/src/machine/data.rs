//! The small vocabulary: identities, shared JSON values, times as JSON. No decision is made here.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

/// The namespace of saga ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x7f6b_1c52_93d4_5e0a_8a41_6c0e_57a9_d1b3);

/// The identity of a saga: the same type and idempotency key always give the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SagaId(Uuid);

impl SagaId {
    /// The id of the saga of this type that this idempotency key starts.
    pub fn of(saga_type: &str, key: &str) -> Self {
        let namespace = Uuid::new_v5(&NAMESPACE, saga_type.as_bytes());
        Self(Uuid::new_v5(&namespace, key.as_bytes()))
    }

    /// Reads the text form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(Self)
    }

    /// The bytes, for choosing a partition.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for SagaId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl fmt::Debug for SagaId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// Names one dispatch of one task: what a callback or a task token carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskToken {
    /// The saga.
    pub saga: SagaId,
    /// The visit of the state.
    pub step: u32,
    /// The dispatch; an older one is stale.
    pub generation: u32,
}

impl TaskToken {
    /// Reads the text form; `None` for anything else. The seal of a [`TokenKey`](super::TokenKey) may
    /// stand behind it and is not checked: what it names is certain only where it came by itself.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let token = Self {
            saga: SagaId::parse(parts.next()?)?,
            step: parts.next()?.parse().ok()?,
            generation: parts.next()?.parse().ok()?,
        };
        let _seal = parts.next();
        parts.next().is_none().then_some(token)
    }
}

impl fmt::Display for TaskToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.saga, self.step, self.generation)
    }
}

/// A JSON value that is shared, not copied, however many places hold it.
#[derive(Clone, PartialEq, Eq)]
pub struct Data(Arc<Value>);

impl Data {
    /// JSON `null`.
    pub fn null() -> Self {
        Self::from(Value::Null)
    }

    /// The value.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// The value, shared.
    pub fn shared(&self) -> &Arc<Value> {
        &self.0
    }
}

impl Default for Data {
    fn default() -> Self {
        Self::null()
    }
}

impl Deref for Data {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl From<Value> for Data {
    fn from(value: Value) -> Self {
        Self(Arc::new(value))
    }
}

impl From<Arc<Value>> for Data {
    fn from(value: Arc<Value>) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

/// Times as milliseconds in JSON.
pub(super) mod millis {
    use serde::{Deserialize, Deserializer, Serializer};
    use wharf_message::Timestamp;

    pub(crate) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(time.as_millis())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_millis)
    }

    /// The same for times that may be absent.
    pub(crate) mod option {
        use serde::{Deserialize, Deserializer, Serializer};
        use wharf_message::Timestamp;

        pub(crate) fn serialize<S: Serializer>(
            time: &Option<Timestamp>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => to.serialize_some(&time.as_millis()),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            Ok(Option::<i64>::deserialize(from)?.map(Timestamp::from_millis))
        }
    }
}

/// For `skip_serializing_if`: the defaults that facts leave out.
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}

/// For `skip_serializing_if`.
pub(super) fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Reads a value that may be absent: one that is there is there, also when it is `null`.
pub(super) fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Data>, D::Error> {
    Data::deserialize(from).map(Some)
}

//! The shapes of requests, and the walk that checks a frame against one before anything of it is
//! decoded.
//!
//! The message crate's decoders trust the lengths they read. After [`Shape::check`] has accepted a
//! body every length in it fits into the frame, the counts are bounded and texts are UTF-8, so
//! decoding allocates at most [`ELEMENTS_MAX`] structs. Nothing here allocates, and no input may
//! panic. A shape knows nothing of nullability: the decoders refuse a null where none may be.

#[cfg(test)]
pub(crate) mod tests;
mod walk;

pub(crate) use walk::Walk;

/// Array elements in one whole request (Kafka 4.4 allows as many per array).
pub(crate) const ELEMENTS_MAX: usize = 1_000_000;
/// Tagged fields in one whole request (Kafka 4.4 allows as many per struct).
pub(crate) const TAGGED_FIELDS_MAX: usize = 10_000;

/// The shape of a request in all its versions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// The first version with compact lengths and tagged fields (KIP-482); `i16::MAX` for none.
    pub(crate) flexible_from: i16,
    fields: &'static [Field],
}

/// A field in the versions it exists in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    kind: Kind,
    first: i16,
    last: i16,
    tag: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// UTF-8 with a length.
    Text,
    /// Bytes with a length: also records.
    Bytes,
    /// A struct in an array, with its own tagged fields.
    Array(&'static [Field]),
    /// Plain values in an array.
    Items(&'static Field),
    /// A struct behind a presence byte.
    Optional(&'static [Field]),
    /// A struct.
    Struct(&'static [Field]),
}

const fn field(kind: Kind) -> Field {
    Field {
        kind,
        first: 0,
        last: i16::MAX,
        tag: None,
    }
}

/// A flag.
pub(crate) const BOOL: Field = field(Kind::Fixed(1));
/// One byte.
pub(crate) const INT8: Field = field(Kind::Fixed(1));
/// Two bytes.
pub(crate) const INT16: Field = field(Kind::Fixed(2));
/// Four bytes.
pub(crate) const INT32: Field = field(Kind::Fixed(4));
/// Eight bytes.
pub(crate) const INT64: Field = field(Kind::Fixed(8));
/// A floating-point number of eight bytes.
pub(crate) const FLOAT64: Field = field(Kind::Fixed(8));
/// Sixteen bytes.
pub(crate) const UUID: Field = field(Kind::Fixed(16));
/// A text, perhaps null.
pub(crate) const TEXT: Field = field(Kind::Text);
/// Bytes or records, perhaps null.
pub(crate) const BYTES: Field = field(Kind::Bytes);

/// An array of structs, perhaps null.
pub(crate) const fn array(fields: &'static [Field]) -> Field {
    field(Kind::Array(fields))
}

/// An array of plain values, perhaps null.
pub(crate) const fn items(item: &'static Field) -> Field {
    field(Kind::Items(item))
}

/// A struct that may be absent.
pub(crate) const fn optional(fields: &'static [Field]) -> Field {
    field(Kind::Optional(fields))
}

/// A struct.
pub(crate) const fn structure(fields: &'static [Field]) -> Field {
    field(Kind::Struct(fields))
}

impl Field {
    /// Exists from this version on.
    pub(crate) const fn from(self, first: i16) -> Self {
        Self { first, ..self }
    }

    /// Exists up to this version.
    pub(crate) const fn to(self, last: i16) -> Self {
        Self { last, ..self }
    }

    /// Travels among the tagged fields under this tag.
    pub(crate) const fn tag(self, tag: u32) -> Self {
        Self {
            tag: Some(tag),
            ..self
        }
    }

    fn exists_in(&self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }
}

impl Shape {
    /// A request that became flexible in version `flexible_from`.
    pub(crate) const fn new(flexible_from: i16, fields: &'static [Field]) -> Self {
        Self {
            flexible_from,
            fields,
        }
    }

    /// A request without flexible versions.
    pub(crate) const fn rigid(fields: &'static [Field]) -> Self {
        Self {
            flexible_from: i16::MAX,
            fields,
        }
    }

    /// Whether this version has compact lengths and tagged fields, also in the header.
    pub(crate) const fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }

    /// Checks a request body; returns how many bytes it takes. Bytes behind it are no error, as
    /// in Kafka.
    pub(crate) fn check(&self, body: &[u8], version: i16) -> Result<usize, Malformed> {
        let mut walk = Walk::new(body, version, self.is_flexible(version));
        walk.structure(self.fields)?;
        Ok(walk.at())
    }

    /// How many array elements a body has; none when it does not have this shape.
    pub(crate) fn elements(&self, body: &[u8], version: i16) -> usize {
        let mut walk = Walk::new(body, version, self.is_flexible(version));
        walk.structure(self.fields).map_or(0, |()| walk.elements())
    }
}

/// Why a body does not have its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(crate) struct Malformed {
    /// The byte of the body where the walk stopped.
    pub(crate) at: usize,
    /// What is wrong there.
    pub(crate) what: &'static str,
}

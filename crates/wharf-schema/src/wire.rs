//! Confluent's wire format: how a record names the schema it was written with.
//!
//! - The **prefix**, before the payload: `0x00` and the id (four bytes, big-endian), or `0x01` and
//!   the GUID (sixteen bytes).
//! - The **header** `__key_schema_id` or `__value_schema_id` with the same bytes, by custom those of
//!   the GUID; the payload then stands alone.
//! - With Protobuf, the path of the message in its file follows the id: zig-zag varints, their
//!   count first; the path `[0]`, the first message, is the single byte `0x00`.
//!
//! Which kind a schema has is known only once its id was looked up, so reading has two steps:
//! [`Framed::read`] finds the id, [`Framed::message`] the rest for Protobuf, [`Framed::payload`]
//! for the others. What comes in is written by strangers: nothing here panics, and a path is at
//! most [`PATH_MAX`] long.

use std::fmt;

use uuid::Uuid;

/// The record header that names the schema of the key.
pub const KEY_HEADER: &str = "__key_schema_id";

/// The record header that names the schema of the value.
pub const VALUE_HEADER: &str = "__value_schema_id";

/// How deep a Protobuf message may be nested in its file: as deep as protoc allows nesting at all.
pub const PATH_MAX: usize = 64;

const MAGIC_ID: u8 = 0;
const MAGIC_GUID: u8 = 1;

/// The name of a schema in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaId {
    /// The id in the registry's context; positive where a registry gave it.
    Id(i32),
    /// The same in every registry and context.
    Guid(Uuid),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(formatter, "id {id}"),
            Self::Guid(guid) => write!(formatter, "GUID {guid}"),
        }
    }
}

/// Where a record names its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In a record header.
    Header,
    /// Before the payload.
    Prefix,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Header => "the header with the schema's name",
            Self::Prefix => "the payload",
        })
    }
}

/// Why a record names no schema that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unframed {
    /// Neither form begins so.
    #[error("{0} begins with the byte {1:#04x}, and not with 0x00 (an id) or 0x01 (a GUID)")]
    Magic(Place, u8),
    /// It ends inside the name.
    #[error("{0} ends before the name of a schema does")]
    Short(Place),
    /// The path of the message is none.
    #[error("the path of the Protobuf message in {0} is broken: {1}")]
    Path(Place, &'static str),
}

/// A key or value with the name of its schema taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    /// The schema's name.
    pub id: SchemaId,
    /// Where it stood.
    pub place: Place,
    /// What follows the name in the same place.
    rest: &'a [u8],
    /// The key or value as it is in the record.
    whole: &'a [u8],
}

impl<'a> Framed<'a> {
    /// Reads what a record says of a key or value: the header if it is there (its last, if it
    /// is there more than once), otherwise the prefix.
    ///
    /// # Errors
    /// When neither names a schema; a header that is there and broken is not passed over.
    pub fn read(header: Option<&'a [u8]>, whole: &'a [u8]) -> Result<Self, Unframed> {
        let (place, bytes) = match header {
            Some(header) => (Place::Header, header),
            None => (Place::Prefix, whole),
        };
        let (&magic, after) = bytes.split_first().ok_or(Unframed::Short(place))?;
        let (id, rest) = match magic {
            MAGIC_ID => after
                .split_first_chunk()
                .map(|(id, rest)| (SchemaId::Id(i32::from_be_bytes(*id)), rest)),
            MAGIC_GUID => after
                .split_first_chunk()
                .map(|(guid, rest)| (SchemaId::Guid(Uuid::from_bytes(*guid)), rest)),
            other => return Err(Unframed::Magic(place, other)),
        }
        .ok_or(Unframed::Short(place))?;
        Ok(Self {
            id,
            place,
            rest,
            whole,
        })
    }

    /// The payload of Avro and JSON Schema.
    pub fn payload(&self) -> &'a [u8] {
        match self.place {
            Place::Header => self.whole,
            Place::Prefix => self.rest,
        }
    }

    /// The path of the message and the payload of Protobuf.
    ///
    /// # Errors
    /// When there is no path, or one longer than [`PATH_MAX`].
    pub fn message(&self) -> Result<(Vec<i32>, &'a [u8]), Unframed> {
        let (path, rest) = read_path(self.rest).map_err(|why| Unframed::Path(self.place, why))?;
        Ok(match self.place {
            Place::Header => (path, self.whole),
            Place::Prefix => (path, rest),
        })
    }
}

/// Writes the name of a schema, and for Protobuf the path of the message: the beginning of a
/// payload, or the value of a header.
pub fn write(id: SchemaId, path: Option<&[i32]>, out: &mut Vec<u8>) {
    match id {
        SchemaId::Id(id) => {
            out.push(MAGIC_ID);
            out.extend_from_slice(&id.to_be_bytes());
        }
        SchemaId::Guid(guid) => {
            out.push(MAGIC_GUID);
            out.extend_from_slice(guid.as_bytes());
        }
    }
    match path {
        None => {}
        Some([0]) => out.push(0),
        Some(path) => {
            write_varint(i32::try_from(path.len()).unwrap_or(i32::MAX), out);
            for &index in path {
                write_varint(index, out);
            }
        }
    }
}

fn read_path(bytes: &[u8]) -> Result<(Vec<i32>, &[u8]), &'static str> {
    let (count, mut rest) = read_varint(bytes)?;
    if count == 0 {
        return Ok((vec![0], rest));
    }
    let count = usize::try_from(count).map_err(|_negative| "its length is negative")?;
    if count > PATH_MAX {
        return Err("it is deeper than messages can be nested");
    }
    let mut path = Vec::with_capacity(count);
    for _ in 0..count {
        let (index, after) = read_varint(rest)?;
        if index < 0 {
            return Err("an index is negative");
        }
        path.push(index);
        rest = after;
    }
    Ok((path, rest))
}

/// Zig-zag, then seven bits a byte, the lowest first.
fn write_varint(number: i32, out: &mut Vec<u8>) {
    let mut rest = (number.cast_unsigned() << 1) ^ (number >> 31).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn read_varint(bytes: &[u8]) -> Result<(i32, &[u8]), &'static str> {
    let mut number = 0_u32;
    for (at, &byte) in bytes.iter().enumerate().take(5) {
        let bits = u32::from(byte & 0x7f);
        if at == 4 && bits > 0x0f {
            break;
        }
        number |= bits << (7 * at);
        if byte & 0x80 == 0 {
            let value = (number >> 1).cast_signed() ^ -(number & 1).cast_signed();
            return Ok((value, &bytes[at + 1..]));
        }
    }
    Err(match bytes.len() {
        0..5 => "it ends inside a number",
        _ => "a number has more than 32 bits",
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = SchemaId> {
        prop_oneof![
            any::<i32>().prop_map(SchemaId::Id),
            any::<[u8; 16]>().prop_map(|bytes| SchemaId::Guid(Uuid::from_bytes(bytes))),
        ]
    }

    fn paths() -> impl Strategy<Value = Vec<i32>> {
        prop::collection::vec(
            prop_oneof![0..200_i32, 0..=i32::MAX, Just(i32::MAX)],
            1..=PATH_MAX,
        )
    }

    proptest! {
        #[test]
        fn what_is_written_before_a_payload_is_read_again(
            id in ids(), path in prop::option::of(paths()), payload: Vec<u8>,
        ) {
            let mut bytes = Vec::new();
            write(id, path.as_deref(), &mut bytes);
            bytes.extend_from_slice(&payload);
            let framed = Framed::read(None, &bytes).unwrap();
            prop_assert_eq!((framed.id, framed.place), (id, Place::Prefix));
            match path {
                None => prop_assert_eq!(framed.payload(), &payload[..]),
                Some(path) => prop_assert_eq!(framed.message().unwrap(), (path, &payload[..])),
            }
        }

        #[test]
        fn what_is_written_as_a_header_leaves_the_payload_alone(
            id in ids(), path in paths(), payload: Vec<u8>,
        ) {
            let mut header = Vec::new();
            write(id, Some(&path), &mut header);
            let framed = Framed::read(Some(&header), &payload).unwrap();
            prop_assert_eq!((framed.id, framed.place), (id, Place::Header));
            prop_assert_eq!(framed.payload(), &payload[..]);
            prop_assert_eq!(framed.message().unwrap(), (path, &payload[..]));
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            header in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
            whole in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            if let Ok(framed) = Framed::read(header.as_deref(), &whole) {
                prop_assert!(framed.payload().len() <= whole.len());
                if let Ok((path, payload)) = framed.message() {
                    prop_assert!(!path.is_empty() && path.len() <= PATH_MAX);
                    prop_assert!(payload.len() <= whole.len());
                }
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_clients() {
        let bytes = |id, path: Option<&[i32]>| {
            let mut out = Vec::new();
            write(id, path, &mut out);
            out
        };
        assert_eq!(bytes(SchemaId::Id(258), None), [0, 0, 0, 1, 2]);
        assert_eq!(bytes(SchemaId::Id(1), Some(&[0])), [0, 0, 0, 0, 1, 0]);
        assert_eq!(
            bytes(SchemaId::Id(1), Some(&[1, 0])),
            [0, 0, 0, 0, 1, 4, 2, 0]
        );
        assert_eq!(
            bytes(SchemaId::Id(1), Some(&[100])),
            [0, 0, 0, 0, 1, 2, 0xc8, 1]
        );
        let guid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let expected: Vec<u8> = (1..2).chain(1..=16).collect();
        assert_eq!(bytes(SchemaId::Guid(guid), None), expected);
    }

    #[test]
    fn what_names_no_schema_is_told_apart() {
        let refused =
            |header: Option<&[u8]>, whole: &[u8]| Framed::read(header, whole).unwrap_err();
        assert_eq!(refused(None, b""), Unframed::Short(Place::Prefix));
        assert_eq!(refused(None, &[0, 0, 0, 1]), Unframed::Short(Place::Prefix));
        assert_eq!(refused(None, b"{}"), Unframed::Magic(Place::Prefix, b'{'));
        let whole = [0, 0, 0, 0, 1];
        assert_eq!(
            refused(Some(&[1, 2]), &whole),
            Unframed::Short(Place::Header)
        );
        assert_eq!(
            refused(None, b"{}").to_string(),
            "the payload begins with the byte 0x7b, and not with 0x00 (an id) or 0x01 (a GUID)"
        );
    }

    #[test]
    fn a_broken_path_of_a_message_is_refused() {
        let mut bytes = vec![0, 0, 0, 0, 1];
        for path in [
            &[][..],
            &[0x80],
            &[1],                                  // a count of -1
            &[2, 1],                               // an index of -1
            &[4, 0],                               // one index of two
            &[0xff, 0xff, 0xff, 0xff, 0x7f],       // more than 32 bits
            &[0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0], // 2^31 - 1 indexes
        ] {
            bytes.truncate(5);
            bytes.extend_from_slice(path);
            let framed = Framed::read(None, &bytes).unwrap();
            assert!(framed.message().is_err(), "{path:?}");
        }
    }
}

//! The messages of `pgoutput`, version 1 without streaming: bytes in, messages out.
//!
//! Invariants: no bytes make it panic or allocate more than they hold; values are slices of the frame,
//! never copies; bytes that end too early, or go on behind the end, are an error that says where. It
//! keeps no state: what a relation's number means is the caller's business.

use bytes::Bytes;

/// A message of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A transaction begins; all its messages follow, until its [`Message::Commit`].
    Begin(Begin),
    /// A transaction ends.
    Commit(Commit),
    /// Where the transaction came from, when it was replicated to here.
    Origin,
    /// What a relation's number means from here on.
    Relation(Relation),
    /// What the number of a type means that is not built in.
    Type(Type),
    /// A row was inserted.
    Insert(Insert),
    /// A row was changed: the relation's number.
    Update(u32),
    /// A row was deleted: the relation's number.
    Delete(u32),
    /// Relations were emptied.
    Truncate,
    /// Something that `pg_logical_emit_message` wrote.
    Emitted(Emitted),
}

/// The beginning of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Where its commit is: grows from transaction to transaction.
    pub final_lsn: u64,
    /// When it was committed, in microseconds since 2000.
    pub committed_micros: i64,
    /// Its id, without the epoch.
    pub xid: u32,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where the commit is, as in [`Begin::final_lsn`].
    pub lsn: u64,
    /// Behind the commit. May be where the first change of the next transaction is.
    pub end_lsn: u64,
    /// When it was committed, in microseconds since 2000.
    pub committed_micros: i64,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its number.
    pub id: u32,
    /// Its schema; empty for `pg_catalog`.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its columns.
    pub columns: Vec<RelationColumn>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Its name.
    pub name: String,
    /// The number of its type.
    pub type_id: u32,
}

/// A type that is not built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
}

/// A row that was inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    /// The number of its table.
    pub relation: u32,
    /// Its values, in the order of the table's columns.
    pub values: Vec<Value>,
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// SQL's NULL.
    Null,
    /// Not sent, since it did not change; never in an insert.
    Unchanged,
    /// In the text form of its type.
    Text(Bytes),
    /// In the binary form of its type.
    Binary(Bytes),
}

/// What `pg_logical_emit_message` wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// Whether it belongs to the transaction around it. If not, it stands alone.
    pub transactional: bool,
    /// Where it is.
    pub lsn: u64,
    /// Its prefix.
    pub prefix: String,
    /// Its content.
    pub content: Bytes,
}

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The message ends in the middle of something.
    #[error("a message of the log ends too early, at byte {0}")]
    Short(usize),
    /// Something follows the message.
    #[error("a message of the log goes on behind its end, at byte {0}")]
    Long(usize),
    /// No message starts like this.
    #[error("a message of the log has the unknown kind {0:?}")]
    Kind(char),
    /// A part of a message has an unknown kind.
    #[error("a part of a message of the log has the unknown kind {0:?}")]
    Part(char),
    /// A name is not UTF-8.
    #[error("a name in the log is not UTF-8, at byte {0}")]
    Name(usize),
}

/// Reads one message.
///
/// # Errors
/// When the bytes are not exactly one message of version 1.
pub fn decode(frame: &Bytes) -> Result<Message, Malformed> {
    let mut reader = Reader { frame, at: 0 };
    let message = match reader.u8()? {
        b'B' => Message::Begin(Begin {
            final_lsn: reader.u64()?,
            committed_micros: reader.i64()?,
            xid: reader.u32()?,
        }),
        b'C' => {
            reader.u8()?; // flags, none of which is in use
            Message::Commit(Commit {
                lsn: reader.u64()?,
                end_lsn: reader.u64()?,
                committed_micros: reader.i64()?,
            })
        }
        b'O' => {
            reader.u64()?;
            reader.name()?;
            Message::Origin
        }
        b'R' => Message::Relation(relation(&mut reader)?),
        b'Y' => {
            let id = reader.u32()?;
            reader.name()?; // the schema
            let name = reader.name()?;
            Message::Type(Type { id, name })
        }
        b'I' => {
            let relation = reader.u32()?;
            match reader.u8()? {
                b'N' => {}
                part => return Err(Malformed::Part(part.into())),
            }
            let values = tuple(&mut reader)?;
            Message::Insert(Insert { relation, values })
        }
        b'U' => {
            let relation = reader.u32()?;
            let mut part = reader.u8()?;
            if matches!(part, b'K' | b'O') {
                tuple(&mut reader)?;
                part = reader.u8()?;
            }
            if part != b'N' {
                return Err(Malformed::Part(part.into()));
            }
            tuple(&mut reader)?;
            Message::Update(relation)
        }
        b'D' => {
            let relation = reader.u32()?;
            match reader.u8()? {
                b'K' | b'O' => tuple(&mut reader)?,
                part => return Err(Malformed::Part(part.into())),
            };
            Message::Delete(relation)
        }
        b'T' => {
            let relations = reader.u32()?;
            reader.u8()?; // how
            for _ in 0..relations {
                reader.u32()?;
            }
            Message::Truncate
        }
        b'M' => Message::Emitted(emitted(&mut reader)?),
        kind => return Err(Malformed::Kind(kind.into())),
    };
    match reader.at == frame.len() {
        true => Ok(message),
        false => Err(Malformed::Long(reader.at)),
    }
}

fn relation(reader: &mut Reader<'_>) -> Result<Relation, Malformed> {
    let id = reader.u32()?;
    let namespace = reader.name()?;
    let name = reader.name()?;
    reader.u8()?; // the replica identity, which an insert has no use for
    let count = reader.u16()?;
    // A column takes at least ten bytes: no more room than the frame can fill.
    let mut columns = Vec::with_capacity(usize::from(count).min(reader.left() / 10));
    for _ in 0..count {
        reader.u8()?; // whether it is part of the key
        let name = reader.name()?;
        let type_id = reader.u32()?;
        reader.u32()?; // the type's modifier
        columns.push(RelationColumn { name, type_id });
    }
    Ok(Relation {
        id,
        namespace,
        name,
        columns,
    })
}

fn tuple(reader: &mut Reader<'_>) -> Result<Vec<Value>, Malformed> {
    let count = usize::from(reader.u16()?);
    // A value takes at least one byte.
    let mut values = Vec::with_capacity(count.min(reader.left()));
    for _ in 0..count {
        values.push(match reader.u8()? {
            b'n' => Value::Null,
            b'u' => Value::Unchanged,
            b't' => Value::Text(reader.bytes()?),
            b'b' => Value::Binary(reader.bytes()?),
            part => return Err(Malformed::Part(part.into())),
        });
    }
    Ok(values)
}

fn emitted(reader: &mut Reader<'_>) -> Result<Emitted, Malformed> {
    Ok(Emitted {
        transactional: reader.u8()? & 1 == 1,
        lsn: reader.u64()?,
        prefix: reader.name()?,
        content: reader.bytes()?,
    })
}

struct Reader<'a> {
    frame: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn left(&self) -> usize {
        self.frame.len() - self.at
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let rest = self.frame.get(self.at..).unwrap_or_default();
        let taken = rest.first_chunk().ok_or(Malformed::Short(self.at))?;
        self.at += N;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.take().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, Malformed> {
        self.take().map(i64::from_be_bytes)
    }

    /// A name, which ends with a zero.
    fn name(&mut self) -> Result<String, Malformed> {
        let rest = self.frame.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == 0);
        let end = end.ok_or(Malformed::Short(self.at))?;
        let name = str::from_utf8(&rest[..end]).map_err(|_bad| Malformed::Name(self.at))?;
        self.at += end + 1;
        Ok(name.to_owned())
    }

    /// Bytes behind their length.
    fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.u32()? as usize;
        if length > self.left() {
            return Err(Malformed::Short(self.at));
        }
        let bytes = self.frame.slice(self.at..self.at + length);
        self.at += length;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(parts: &[&[u8]]) -> Bytes {
        parts.concat().into()
    }

    #[test]
    fn every_kind_of_message_is_read_and_its_values_are_slices_of_the_frame() {
        let begin = frame(&[
            b"B",
            &7u64.to_be_bytes(),
            &8i64.to_be_bytes(),
            &[0, 0, 0, 9],
        ]);
        let expected = Begin {
            final_lsn: 7,
            committed_micros: 8,
            xid: 9,
        };
        assert_eq!(decode(&begin), Ok(Message::Begin(expected)));
        let commit = frame(&[b"C\0", &7u64.to_be_bytes(), &9u64.to_be_bytes(), &[0; 8]]);
        let expected = Commit {
            lsn: 7,
            end_lsn: 9,
            committed_micros: 0,
        };
        assert_eq!(decode(&commit), Ok(Message::Commit(expected)));
        let relation = frame(&[
            b"R\0\0\0\x05public\0outbox\0d\0\x02",
            b"\x01id\0\0\0\x0b\x86\xff\xff\xff\xff",
            b"\0payload\0\0\0\0\x11\xff\xff\xff\xff",
        ]);
        let Ok(Message::Relation(relation)) = decode(&relation) else {
            panic!("no relation");
        };
        assert_eq!((relation.id, &*relation.name), (5, "outbox"));
        let types: Vec<_> = relation.columns.iter().map(|c| c.type_id).collect();
        assert_eq!(types, [2950, 17]);
        let insert = frame(&[b"I\0\0\0\x05N\0\x04nut\0\0\0\x03abcb\0\0\0\x01\xff"]);
        let Ok(Message::Insert(row)) = decode(&insert) else {
            panic!("no insert");
        };
        let [
            Value::Null,
            Value::Unchanged,
            Value::Text(text),
            Value::Binary(bytes),
        ] = row.values.as_slice()
        else {
            panic!("{row:?}");
        };
        assert_eq!((&text[..], &bytes[..]), (&b"abc"[..], &b"\xff"[..]));
        assert!(insert.as_ptr_range().contains(&text.as_ptr()));
        let update = frame(&[b"U\0\0\0\x05O\0\x01nN\0\x01n"]);
        assert_eq!(decode(&update), Ok(Message::Update(5)));
        assert_eq!(
            decode(&frame(&[b"U\0\0\0\x05N\0\0"])),
            Ok(Message::Update(5))
        );
        let delete = frame(&[b"D\0\0\0\x05K\0\x01n"]);
        assert_eq!(decode(&delete), Ok(Message::Delete(5)));
        let truncate = frame(&[b"T\0\0\0\x01\0\0\0\0\x05"]);
        assert_eq!(decode(&truncate), Ok(Message::Truncate));
        let named = frame(&[b"Y\0\0\0\x07public\0mood\0"]);
        let name = "mood".to_owned();
        assert_eq!(decode(&named), Ok(Message::Type(Type { id: 7, name })));
        let origin = frame(&[b"O", &[0; 8], b"elsewhere\0"]);
        assert_eq!(decode(&origin), Ok(Message::Origin));
        let emitted = frame(&[b"M\x01", &3u64.to_be_bytes(), b"hello\0\0\0\0\x02{}"]);
        let expected = Emitted {
            transactional: true,
            lsn: 3,
            prefix: "hello".to_owned(),
            content: "{}".into(),
        };
        assert_eq!(decode(&emitted), Ok(Message::Emitted(expected)));
    }

    #[test]
    fn bytes_that_are_no_message_are_refused_with_the_reason() {
        for (bytes, expected) in [
            (&b""[..], Malformed::Short(0)),
            (b"B\0", Malformed::Short(1)),
            (b"x", Malformed::Kind('x')),
            (b"I\0\0\0\x05K", Malformed::Part('K')),
            (b"I\0\0\0\x05N\0\x01x", Malformed::Part('x')),
            (b"I\0\0\0\x05N\0\x01t\xff\xff\xff\xff", Malformed::Short(13)),
            (b"T\xff\xff\xff\xff\0", Malformed::Short(6)),
            (b"D\0\0\0\x05K\0\0!", Malformed::Long(8)),
            (b"Y\0\0\0\x05\xff\0a\0", Malformed::Name(5)),
            (b"Y\0\0\0\x05ab", Malformed::Short(5)),
        ] {
            assert_eq!(decode(&Bytes::from_static(bytes)), Err(expected));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            kind in prop::sample::select(&b"BCORYIUDTMx"[..]),
            rest in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let bytes = [&[kind][..], &rest].concat();
            drop(decode(&bytes.into()));
        }

        #[test]
        fn a_row_cut_short_anywhere_is_refused(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..9),
        ) {
            let mut bytes = b"I\0\0\0\x05N".to_vec();
            bytes.extend((values.len() as u16).to_be_bytes());
            for value in &values {
                bytes.push(b't');
                bytes.extend((value.len() as u32).to_be_bytes());
                bytes.extend(value);
            }
            let frame = Bytes::from(bytes);
            let texts = values.into_iter().map(|value| Value::Text(value.into())).collect();
            let insert = Insert { relation: 5, values: texts };
            prop_assert_eq!(decode(&frame), Ok(Message::Insert(insert)));
            for end in 0..frame.len() {
                prop_assert!(decode(&frame.slice(..end)).is_err());
            }
        }
    }
}

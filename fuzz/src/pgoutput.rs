//! Messages of Postgres's logical replication, as a relay gets them from a server that may be anything.
//!
//! What is read is written again and read once more: it must be the same, and as long as what was read,
//! so that no byte is passed over or made up. Strings and values must be parts of the frame.

use bytes::Bytes;
use wharf_relay::postgres::pgoutput::{Emitted, Insert, Message, Relation, Value, decode};

pub(crate) fn run(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    let Ok(message) = decode(&frame) else {
        return;
    };
    let held: usize = match &message {
        Message::Insert(insert) => insert.values.iter().map(held).sum(),
        Message::Relation(relation) => {
            let columns = relation.columns.iter();
            columns.map(|column| column.name.len() + 10).sum::<usize>() + relation.name.len()
        }
        Message::Emitted(emitted) => emitted.content.len() + emitted.prefix.len(),
        _ => 0,
    };
    assert!(
        held <= data.len(),
        "{held} bytes were made of {}",
        data.len()
    );
    if let Some(again) = encode(&message, data) {
        assert_eq!(again.len(), data.len());
        assert_eq!(decode(&again.into()), Ok(message));
    }
    // Nothing may stand behind a message, nor may it end early.
    let longer = [data, &[0]].concat();
    assert!(decode(&longer.into()).is_err());
    assert!(decode(&frame.slice(..frame.len() - 1)).is_err());
}

fn held(value: &Value) -> usize {
    match value {
        Value::Null | Value::Unchanged => 1,
        Value::Text(bytes) | Value::Binary(bytes) => bytes.len() + 5,
    }
}

/// The message as Postgres writes it, for those kinds that keep all of what they were read from; bytes
/// that carry nothing are taken from there.
fn encode(message: &Message, read: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(read.len());
    match message {
        Message::Begin(begin) => {
            out.push(b'B');
            out.extend(begin.final_lsn.to_be_bytes());
            out.extend(begin.committed_micros.to_be_bytes());
            out.extend(begin.xid.to_be_bytes());
        }
        Message::Commit(commit) => {
            out.extend([b'C', read[1]]);
            out.extend(commit.lsn.to_be_bytes());
            out.extend(commit.end_lsn.to_be_bytes());
            out.extend(commit.committed_micros.to_be_bytes());
        }
        Message::Insert(Insert { relation, values }) => {
            out.push(b'I');
            out.extend(relation.to_be_bytes());
            out.push(b'N');
            out.extend(u16::try_from(values.len()).ok()?.to_be_bytes());
            values.iter().for_each(|value| put(&mut out, value));
        }
        Message::Relation(relation) => put_relation(&mut out, relation)?,
        Message::Emitted(emitted) => put_emitted(&mut out, emitted, read[1]),
        _ => return None,
    }
    Some(out)
}

fn put(out: &mut Vec<u8>, value: &Value) {
    let (kind, bytes) = match value {
        Value::Null => return out.push(b'n'),
        Value::Unchanged => return out.push(b'u'),
        Value::Text(bytes) => (b't', bytes),
        Value::Binary(bytes) => (b'b', bytes),
    };
    out.push(kind);
    put_bytes(out, bytes);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend(length.to_be_bytes());
    out.extend(bytes);
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.extend(name.as_bytes());
    out.push(0);
}

fn put_relation(out: &mut Vec<u8>, relation: &Relation) -> Option<()> {
    out.push(b'R');
    out.extend(relation.id.to_be_bytes());
    put_name(out, &relation.namespace);
    put_name(out, &relation.name);
    out.push(b'd');
    out.extend(u16::try_from(relation.columns.len()).ok()?.to_be_bytes());
    for column in &relation.columns {
        out.push(0);
        put_name(out, &column.name);
        out.extend(column.type_id.to_be_bytes());
        out.extend([0xff; 4]);
    }
    Some(())
}

fn put_emitted(out: &mut Vec<u8>, emitted: &Emitted, flags: u8) {
    out.extend([b'M', flags]);
    out.extend(emitted.lsn.to_be_bytes());
    put_name(out, &emitted.prefix);
    put_bytes(out, &emitted.content);
}

/// A transaction as a server sends it: one message of each kind.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let position = 0x0001_6b37_4d80_u64.to_be_bytes();
    let time = 773_452_800_000_000_i64.to_be_bytes();
    let parts: [&[&[u8]]; 12] = [
        &[b"B", &position, &time, &[0, 0, 3, 9]],
        &[b"O", &position, b"elsewhere\0"],
        &[
            b"R\0\0\x40\x05public\0wharf_outbox\0d\0\x02",
            b"\x01id\0\0\0\x0b\x86\xff\xff\xff\xff",
            b"\0payload\0\0\0\0\x11\xff\xff\xff\xff",
        ],
        &[b"Y\0\0\x40\x07public\0mood\0"],
        &[b"I\0\0\x40\x05N\0\x04nut\0\0\0\x03abcb\0\0\0\x01\xff"],
        &[b"U\0\0\x40\x05O\0\x01nN\0\x01n"],
        &[b"U\0\0\x40\x05K\0\x01nN\0\x01u"],
        &[b"U\0\0\x40\x05N\0\x01t\0\0\0\x01x"],
        &[b"D\0\0\x40\x05K\0\x01n"],
        &[b"T\0\0\0\x01\0\0\0\x40\x05"],
        &[b"M\x01", &position, b"wharf_outbox\0\0\0\0\x02{}"],
        &[b"C\0", &position, &position, &time],
    ];
    parts.map(<[&[u8]]>::concat).into()
}

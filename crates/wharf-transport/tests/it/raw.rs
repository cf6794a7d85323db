//! One record, written byte by byte: what no client library lets through.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Appends a record with headers whose names may be any bytes to partition 0.
pub fn produce(address: &str, topic: &str, payload: &[u8], headers: &[(&[u8], &[u8])]) {
    let mut record = vec![0, 0, 0]; // attributes, timestamp delta, offset delta
    varint(&mut record, -1); // no key
    bytes(&mut record, payload);
    varint(&mut record, headers.len() as i64);
    for (name, value) in headers {
        bytes(&mut record, name);
        bytes(&mut record, value);
    }
    let mut records = Vec::new();
    bytes(&mut records, &record);

    let mut body = Vec::new(); // what the checksum covers
    body.extend(0_i16.to_be_bytes()); // attributes
    body.extend(0_i32.to_be_bytes()); // last offset delta
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let now = i64::try_from(now.as_millis()).unwrap().to_be_bytes();
    body.extend(now);
    body.extend(now);
    body.extend((-1_i64).to_be_bytes()); // producer id
    body.extend((-1_i16).to_be_bytes()); // producer epoch
    body.extend((-1_i32).to_be_bytes()); // first sequence
    body.extend(1_i32.to_be_bytes()); // records
    body.extend(records);

    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes()); // base offset
    batch.extend(length(body.len() + 9));
    batch.extend((-1_i32).to_be_bytes()); // leader epoch
    batch.push(2); // magic
    batch.extend(crc32c::crc32c(&body).to_be_bytes());
    batch.extend(body);

    let mut request = Vec::new();
    request.extend([0, 0, 0, 3, 0, 0, 0, 7]); // Produce, version 3, correlation 7
    request.extend((-1_i16).to_be_bytes()); // no client id
    request.extend((-1_i16).to_be_bytes()); // no transaction
    request.extend((-1_i16).to_be_bytes()); // acks=all
    request.extend(10_000_i32.to_be_bytes());
    request.extend(1_i32.to_be_bytes()); // topics
    request.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
    request.extend(topic.as_bytes());
    request.extend([0, 0, 0, 1, 0, 0, 0, 0]); // partitions: one, 0
    request.extend(length(batch.len()));
    request.extend(batch);

    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&length(request.len())).unwrap();
    stream.write_all(&request).unwrap();
    let mut size = [0; 4];
    stream.read_exact(&mut size).unwrap();
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    // Correlation, topics, the topic's name, partitions, the partition's number, its error.
    let error = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[error..error + 2], [0, 0], "{answer:?}");
}

fn length(of: usize) -> [u8; 4] {
    i32::try_from(of).unwrap().to_be_bytes()
}

fn bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    varint(to, i64::try_from(bytes.len()).unwrap());
    to.extend(bytes);
}

/// A zigzag varint.
fn varint(to: &mut Vec<u8>, number: i64) {
    let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
    while rest >= 0x80 {
        to.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    to.push(rest.to_le_bytes()[0]);
}

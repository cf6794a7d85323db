//! A Kafka consumer that does nothing but move bytes: what a server can hand out, without what a
//! client's own work costs. It asks, walks the batch headers for the next offset, and forgets.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bytes::{Buf as _, BufMut as _, BytesMut};

use super::{Topic, WITHIN};

const FETCH: i16 = 1;
/// The oldest version that Apache Kafka 4 still answers.
const VERSION: i16 = 4;
/// What one fetch may answer, in total and for one partition.
const TOTAL_BYTES: i32 = 8 << 20;
const PARTITION_BYTES: i32 = 8 << 20;
/// Where a batch says how long it is, and how many offsets it spans.
const BATCH_HEADER: usize = 27;
/// The largest answer that is believed.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// How fast a topic was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    /// Bytes of record batches.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

/// Reads a topic from its beginning until `messages` offsets were passed.
pub(crate) fn read_all(address: &str, topic: &Topic, messages: u64) -> Result<Read> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(WITHIN))?;
    let mut offsets = vec![0_i64; topic.partitions];
    let mut read = Read {
        bytes: 0,
        took: Duration::ZERO,
    };
    let mut answer = Vec::new();
    let began = Instant::now();
    loop {
        let passed: i64 = offsets.iter().sum();
        if u64::try_from(passed)? >= messages {
            read.took = began.elapsed();
            return Ok(read);
        }
        ensure!(
            began.elapsed() < WITHIN,
            "{passed} of {messages} messages within {WITHIN:?}"
        );
        stream.write_all(&request(&topic.name, &offsets)?)?;
        receive(&mut stream, &mut answer)?;
        read.bytes += walk(&answer, &mut offsets)?;
    }
}

fn request(topic: &str, offsets: &[i64]) -> Result<BytesMut> {
    let mut body = BytesMut::new();
    body.put_i32(0);
    body.put_i16(FETCH);
    body.put_i16(VERSION);
    body.put_i32(1);
    string(&mut body, "bench")?;
    body.put_i32(-1);
    body.put_i32(100);
    body.put_i32(1);
    body.put_i32(TOTAL_BYTES);
    body.put_i8(0);
    body.put_i32(1);
    string(&mut body, topic)?;
    body.put_i32(i32::try_from(offsets.len())?);
    for (partition, offset) in offsets.iter().enumerate() {
        body.put_i32(i32::try_from(partition)?);
        body.put_i64(*offset);
        body.put_i32(PARTITION_BYTES);
    }
    let length = i32::try_from(body.len() - 4)?;
    body[..4].copy_from_slice(&length.to_be_bytes());
    Ok(body)
}

fn string(body: &mut BytesMut, text: &str) -> Result<()> {
    body.put_i16(i16::try_from(text.len())?);
    body.put_slice(text.as_bytes());
    Ok(())
}

fn receive(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length))?;
    ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
    answer.resize(length, 0);
    Ok(stream.read_exact(answer)?)
}

/// Moves the offsets on; answers how many bytes of whole batches there were.
fn walk(answer: &[u8], offsets: &mut [i64]) -> Result<u64> {
    let mut input = answer;
    // Correlation id and throttle time.
    skip(&mut input, 8)?;
    let topics = input.try_get_i32()?;
    let mut bytes = 0;
    for _ in 0..topics {
        let name = usize::try_from(input.try_get_i16()?)?;
        skip(&mut input, name)?;
        for _ in 0..input.try_get_i32()? {
            let partition = usize::try_from(input.try_get_i32()?)?;
            let error = input.try_get_i16()?;
            ensure!(error == 0, "partition {partition} answers error {error}");
            // High watermark and last stable offset.
            skip(&mut input, 16)?;
            let aborted = usize::try_from(input.try_get_i32()?.max(0))?;
            skip(&mut input, aborted * 16)?;
            let length = usize::try_from(input.try_get_i32()?.max(0))?;
            let Some((mut records, rest)) = input.split_at_checked(length) else {
                bail!("an answer that is cut off");
            };
            input = rest;
            let Some(offset) = offsets.get_mut(partition) else {
                bail!("partition {partition} was not asked for");
            };
            while let Some((next, size)) = first_batch(records) {
                bytes += u64::try_from(size)?;
                *offset = next;
                records = &records[size..];
            }
        }
    }
    Ok(bytes)
}

fn skip(input: &mut &[u8], bytes: usize) -> Result<()> {
    ensure!(bytes <= input.len(), "an answer that is cut off");
    input.advance(bytes);
    Ok(())
}

/// The offset after the first batch and its size, if it is there as a whole.
fn first_batch(records: &[u8]) -> Option<(i64, usize)> {
    if records.len() < BATCH_HEADER {
        return None;
    }
    let mut header = records;
    let base = header.get_i64();
    let length = usize::try_from(header.get_i32()).ok()?;
    header.advance(11);
    let last = i64::from(header.get_i32());
    let size = length.checked_add(12)?;
    (size <= records.len()).then_some((base + last + 1, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch that spans three offsets.
    fn batch(base: i64) -> BytesMut {
        let mut batch = BytesMut::new();
        batch.put_i64(base);
        batch.put_i32(49 + 4);
        batch.put_bytes(0, 11);
        batch.put_i32(2);
        batch.put_bytes(7, 49 + 4 + 12 - 27);
        batch
    }

    #[test]
    fn offsets_move_past_whole_batches_only() {
        let mut answer = BytesMut::new();
        answer.put_bytes(0, 8);
        answer.put_i32(1);
        string(&mut answer, "topic").expect("short");
        answer.put_i32(1);
        answer.put_i32(1);
        answer.put_i16(0);
        answer.put_bytes(0, 16);
        answer.put_i32(-1);
        let records = [batch(5), batch(8), BytesMut::from(&batch(11)[..40])].concat();
        answer.put_i32(i32::try_from(records.len()).expect("small"));
        answer.put_slice(&records);
        let mut offsets = [0, 5];
        let bytes = walk(&answer, &mut offsets).expect("it is well-formed");
        assert_eq!((bytes, offsets), (130, [0, 11]));
        for cut in 0..answer.len() {
            // Never a panic; what is cut off is an error or moves less.
            walk(&answer[..cut], &mut [0, 5]).ok();
        }
    }
}

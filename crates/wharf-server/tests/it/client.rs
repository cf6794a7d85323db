//! The least of a Kafka client and of an HTTP client, written by hand: bytes out, bytes in.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut as _, Bytes, BytesMut};
use wharf_log::batch::{Record, build};
use wharf_message::Timestamp;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the Kafka listener.
pub(crate) struct Kafka(TcpStream);

impl From<TcpStream> for Kafka {
    fn from(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }
}

impl Kafka {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        TcpStream::connect(address).unwrap().into()
    }

    /// Sends a request with a version-1 header and returns the answer after its correlation id.
    pub(crate) fn call(&mut self, key: i16, version: i16, body: &[u8]) -> Vec<u8> {
        let mut request = BytesMut::new();
        request.put_i16(key);
        request.put_i16(version);
        request.put_i32(7);
        text(&mut request, "test");
        request.put_slice(body);
        let length = i32::try_from(request.len()).unwrap();
        self.0.write_all(&length.to_be_bytes()).unwrap();
        self.0.write_all(&request).unwrap();
        let mut word = [0; 4];
        self.0.read_exact(&mut word).unwrap();
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(word)).unwrap()];
        self.0.read_exact(&mut answer).unwrap();
        assert_eq!(answer.drain(..4).as_slice(), 7_i32.to_be_bytes());
        answer
    }

    /// ApiVersions v0; returns the error code.
    pub(crate) fn api_versions(&mut self) -> i16 {
        first_code(&self.call(18, 0, &[]))
    }

    /// Creates a topic of one partition (CreateTopics v2); returns the error code.
    pub(crate) fn create_topic(&mut self, name: &str) -> i16 {
        self.create_topic_with(name, &[])
    }

    /// The same with settings.
    pub(crate) fn create_topic_with(&mut self, name: &str, settings: &[(&str, &str)]) -> i16 {
        let mut body = BytesMut::new();
        body.put_i32(1);
        text(&mut body, name);
        body.put_i32(1);
        body.put_i16(1);
        body.put_i32(0);
        body.put_i32(i32::try_from(settings.len()).unwrap());
        for (name, value) in settings {
            text(&mut body, name);
            text(&mut body, value);
        }
        body.put_i32(10_000);
        body.put_u8(0);
        let answer = self.call(19, 2, &body);
        // Throttle time, the number of topics, the name.
        first_code(&answer[4 + 4 + 2 + name.len()..])
    }

    /// Produces one record to partition 0 (Produce v3, acks=all); returns error code and offset.
    pub(crate) fn produce(&mut self, topic: &str, value: &'static str) -> (i16, i64) {
        self.produce_pair(topic, None, Some(value))
    }

    /// The same with a key; without a value it is a tombstone.
    pub(crate) fn produce_pair(
        &mut self,
        topic: &str,
        key: Option<&str>,
        value: Option<&str>,
    ) -> (i16, i64) {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let (key, value) = (key.map(bytes), value.map(bytes));
        // Retention deletes what is old, so the time matters.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let timestamp = Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap());
        let record = Record {
            key,
            value,
            timestamp,
            ..Record::default()
        };
        let batch = build(&[record], None);
        let partition = self.produce_batch(3, topic, &batch);
        let offset = partition[2..10].try_into().unwrap();
        (first_code(&partition), i64::from_be_bytes(offset))
    }

    /// Produces a batch to partition 0 (acks=all); returns what is said of the partition.
    pub(crate) fn produce_batch(&mut self, version: i16, topic: &str, batch: &[u8]) -> Vec<u8> {
        let mut body = BytesMut::new();
        body.put_i16(-1);
        body.put_i16(-1);
        body.put_i32(10_000);
        body.put_i32(1);
        text(&mut body, topic);
        body.put_i32(1);
        body.put_i32(0);
        body.put_i32(i32::try_from(batch.len()).unwrap());
        body.put_slice(batch);
        let mut answer = self.call(0, version, &body);
        // The number of topics, the name, the number of partitions, the partition.
        answer.split_off(4 + 2 + topic.len() + 4 + 4)
    }

    /// Fetches partition 0 from `offset` (Fetch v4); returns error code and the records' bytes.
    pub(crate) fn fetch(&mut self, topic: &str, offset: i64) -> (i16, Vec<u8>) {
        let mut body = BytesMut::new();
        body.put_i32(-1);
        body.put_i32(100);
        body.put_i32(1);
        body.put_i32(1 << 20);
        body.put_u8(0);
        body.put_i32(1);
        text(&mut body, topic);
        body.put_i32(1);
        body.put_i32(0);
        body.put_i64(offset);
        body.put_i32(1 << 20);
        let answer = self.call(1, 4, &body);
        let partition = &answer[4 + 4 + 2 + topic.len() + 4 + 4..];
        // High watermark, last stable offset, no aborted transactions, the size of the records.
        (
            first_code(partition),
            partition[2 + 8 + 8 + 4 + 4..].to_vec(),
        )
    }

    /// Whether the other side ends the connection without a word.
    pub(crate) fn ended(mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }
}

pub(crate) fn text(buffer: &mut BytesMut, text: &str) {
    buffer.put_i16(i16::try_from(text.len()).unwrap());
    buffer.put_slice(text.as_bytes());
}

fn first_code(bytes: &[u8]) -> i16 {
    i16::from_be_bytes(bytes[..2].try_into().unwrap())
}

/// `GET path`: the status, the headers as sent, the body.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    request(address, "GET", path, &[], b"")
}

/// A request of any kind: the status, the headers as sent, the body.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) -> (u16, String, String) {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    if !body.is_empty() {
        head.push_str("content-length: ");
        head.push_str(&body.len().to_string());
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses a body early may close before it has read all of it.
    drop(stream.write_all(body));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

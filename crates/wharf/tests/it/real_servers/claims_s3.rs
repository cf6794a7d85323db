//! Claim checks in S3, against moto's server, which speaks its protocol.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use harness::{Group, Port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wharf::claim::{
    BlobStore, ClaimError, Claims, Digest, Name, ObjectBlobs, References, S3Settings, StoreError,
    SweepSettings, Unread, sweep,
};
use wharf::{Message, Timestamp};

/// A server of S3; ends when dropped.
struct Moto {
    address: String,
    _group: Group,
    _port: Port,
}

impl Moto {
    /// Starts it with a bucket.
    async fn start() -> Self {
        let program = std::env::var_os("WHARF_MOTO_SERVER");
        let program = program.expect("`cargo xtask test --only claim-check` says where it is");
        let port = Port::reserve().unwrap();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.number().to_string()]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut group = Group::spawn(&mut command).unwrap();
        let address = format!("127.0.0.1:{}", port.number());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !request(&address, "PUT /payloads")
            .await
            .is_some_and(|answer| answer.contains(" 200 "))
        {
            assert!(group.ended().unwrap().is_none(), "moto ended at once");
            assert!(Instant::now() < deadline, "moto does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self {
            address,
            _group: group,
            _port: port,
        }
    }

    fn store(&self) -> ObjectBlobs {
        ObjectBlobs::s3(S3Settings {
            endpoint: Some(format!("http://{}", self.address)),
            access_key: Some(("id".to_owned(), "secret".to_owned())),
            retry_for: Duration::from_secs(5),
            ..S3Settings::bucket("payloads")
        })
        .unwrap()
    }
}

/// The head of the answer to a request without a body.
async fn request(address: &str, line: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!(
        "{line} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

fn claims(store: ObjectBlobs) -> Claims {
    Claims::new("payloads", store).unwrap()
}

async fn keys(store: &ObjectBlobs) -> Vec<String> {
    let listed: Vec<_> = store.list("").try_collect().await.unwrap();
    listed.into_iter().map(|object| object.key).collect()
}

struct Nothing;

impl References for Nothing {
    fn visit<'a>(
        &'a self,
        _: &'a mut (dyn FnMut(&Message) + Send),
    ) -> BoxFuture<'a, Result<(), Unread>> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn payloads_small_and_in_parts_come_back_from_s3_and_are_swept() {
    let moto = Moto::start().await;
    let store = moto.store();
    let claims = claims(store.clone());
    let small = claims.check_in(Message::new("small"), 0).await.unwrap();
    assert_eq!(
        claims.open(&small).await.unwrap().bytes().await.unwrap(),
        "small"
    );
    claims.check_in(Message::new("small"), 0).await.unwrap();

    // Three parts, the last one short.
    let chunk = Bytes::from((0..=255).cycle().take(1 << 20).collect::<Vec<u8>>());
    let chunks = stream::repeat(chunk.clone()).take(20).map(Ok).boxed();
    let large = claims
        .check_in_stream(Message::default(), chunks)
        .await
        .unwrap();
    let mut reader = claims.open(&large).await.unwrap().into_reader();
    let mut read = Vec::new();
    reader.read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len(), 20 << 20);
    assert!(read.chunks(1 << 20).all(|part| part == chunk));
    let keys_before = keys(&store).await;
    assert_eq!(keys_before.len(), 2, "{keys_before:?}");

    let in_a_century = Timestamp::from_millis(4_000_000_000_000);
    let report = sweep(&claims, &[&Nothing], in_a_century, SweepSettings::default())
        .await
        .unwrap();
    assert_eq!(report.deleted.len(), 2);
    assert!(keys(&store).await.is_empty());
    let lost = claims.open(&large).await.unwrap_err();
    assert!(matches!(lost, ClaimError::Lost { .. }), "{lost}");
}

#[tokio::test]
async fn an_upload_to_s3_that_is_interrupted_leaves_no_object() {
    let moto = Moto::start().await;
    let store = moto.store();
    let chunk = Bytes::from(vec![7; 1 << 20]);
    let broken = stream::once(async { Err(std::io::Error::other("the client went away")) });
    let broken = stream::repeat(chunk).take(12).map(Ok).chain(broken).boxed();
    let ended = claims(store.clone())
        .check_in_stream(Message::default(), broken)
        .await;
    assert!(
        ended
            .unwrap_err()
            .to_string()
            .contains("the client went away")
    );
    assert!(keys(&store).await.is_empty());
    let uploads = request(&moto.address, "GET /payloads?uploads")
        .await
        .unwrap();
    assert!(!uploads.contains("<UploadId>"), "{uploads}");
}

#[tokio::test]
async fn an_object_damaged_in_s3_is_told() {
    let moto = Moto::start().await;
    let store = moto.store();
    let claims = claims(store.clone());
    let message = claims.check_in(Message::new("right"), 0).await.unwrap();
    let key = Digest::of(b"right").key("");
    let wrong = stream::once(async { Ok(Bytes::from("wrong")) }).boxed();
    store.put(Name::Key(&key), wrong).await.unwrap();
    let damaged = claims
        .open(&message)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap_err();
    assert!(matches!(damaged, ClaimError::Damaged { .. }), "{damaged}");
}

#[tokio::test]
async fn an_s3_that_is_away_is_told_as_such_and_not_as_a_loss() {
    let moto = Moto::start().await;
    let claims = claims(moto.store());
    let message = claims.check_in(Message::new("payload"), 0).await.unwrap();
    drop(moto);
    for error in [
        claims.open(&message).await.unwrap_err(),
        claims
            .check_in(Message::new("payload"), 0)
            .await
            .unwrap_err(),
    ] {
        let away = matches!(
            &error,
            ClaimError::Store {
                error: StoreError::Unavailable(_),
                ..
            }
        );
        assert!(away && error.reason().is_none(), "{error}");
    }
}

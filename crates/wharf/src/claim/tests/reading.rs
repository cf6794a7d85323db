//! What is read, and what is refused: lost, damaged, cut and hostile payloads.

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt;
use wharf_message::dead_letter::Reason;

use super::*;

/// A store that has this content under every key and says this size.
struct Liar {
    bytes: u64,
    chunks: Vec<Bytes>,
}

impl BlobStore for Liar {
    fn put<'a>(
        &'a self,
        _: Name<'a>,
        _: ByteStream<'a>,
    ) -> BoxFuture<'a, Result<Receipt, StoreError>> {
        Box::pin(async { Err(StoreError::Denied("it is read only".to_owned())) })
    }

    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Object, StoreError>> {
        let chunks: Vec<_> = self.chunks.iter().cloned().map(Ok).collect();
        let object = Object {
            bytes: self.bytes,
            modified: Timestamp::ZERO,
            content: stream::iter(chunks).boxed(),
        };
        Box::pin(async move { Ok(object) })
    }

    fn delete<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::Denied("it is read only".to_owned())) })
    }

    fn list<'a>(&'a self, _: &'a str) -> stream::BoxStream<'a, Result<Listed, StoreError>> {
        stream::empty().boxed()
    }
}

/// A message that refers to this payload.
fn reference(store: &str, payload: &[u8], bytes: u64) -> Message {
    let mut message = Message::new("");
    let (store, digest) = (store.to_owned(), Digest::of(payload));
    Reference {
        store,
        digest,
        bytes,
    }
    .write(&mut message);
    message
}

#[tokio::test]
async fn a_payload_that_is_lost_is_told_with_its_key() {
    let store = memory();
    let claims = claims(store.clone());
    let message = claims
        .check_in(Message::new("payload"), 0)
        .await
        .expect("stored");
    let key = Digest::of(b"payload").key("");
    store.delete(&key).await.expect("deleted");
    let error = claims.open(&message).await.expect_err("it is lost");
    assert_eq!(error.reason(), Some(Reason::ClaimLost));
    assert!(error.to_string().contains(&key), "{error}");
}

#[tokio::test]
async fn a_payload_cut_short_is_told_before_anything_is_read() {
    let store = memory();
    let claims = claims(store.clone());
    let message = claims
        .check_in(Message::new("payload"), 0)
        .await
        .expect("stored");
    let key = Digest::of(b"payload").key("");
    store
        .put(Name::Key(&key), chunked(b"payl".to_vec(), 10))
        .await
        .expect("stored");
    let error = claims.open(&message).await.expect_err("it is cut");
    assert!(matches!(error, ClaimError::Damaged { .. }), "{error}");
    assert_eq!(error.reason(), Some(Reason::ClaimLost));
}

#[tokio::test]
async fn the_last_chunk_of_a_damaged_payload_is_never_handed_out() {
    let right: Vec<Bytes> = ["one ", "two ", "three"].map(Bytes::from).to_vec();
    let whole = right.concat();
    let size = whole.len() as u64;
    let wrong: [(&str, Vec<Bytes>); 4] = [
        (
            "changed at the beginning",
            ["One ", "two ", "three"].map(Bytes::from).to_vec(),
        ),
        (
            "changed at the end",
            ["one ", "two ", "threE"].map(Bytes::from).to_vec(),
        ),
        ("too short", ["one ", "two "].map(Bytes::from).to_vec()),
        (
            "too long",
            ["one ", "two ", "three", "!"].map(Bytes::from).to_vec(),
        ),
    ];
    for (what, chunks) in wrong {
        let claims = claims(Liar {
            bytes: size,
            chunks,
        });
        let message = reference("payloads", &whole, size);
        let mut got = Vec::new();
        let mut stream = claims
            .open(&message)
            .await
            .expect("its length is right")
            .into_stream();
        let error = loop {
            match stream.try_next().await {
                Ok(Some(chunk)) => got.push(chunk),
                Ok(None) => panic!("{what}: it was taken for whole"),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, ClaimError::Damaged { .. }),
            "{what}: {error}"
        );
        assert!(got.len() < right.len(), "{what}: {got:?}");
        assert!(
            stream.try_next().await.expect("it is over").is_none(),
            "{what}"
        );

        let blob = claims.open(&message).await.expect("its length is right");
        let mut text = Vec::new();
        let error = blob
            .into_reader()
            .read_to_end(&mut text)
            .await
            .expect_err(what);
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        assert!(read(&claims, &message).await.is_err());
    }
    let claims = claims(Liar {
        bytes: size,
        chunks: right,
    });
    let message = reference("payloads", &whole, size);
    assert_eq!(read(&claims, &message).await.expect("it is right"), whole);
}

#[tokio::test]
async fn a_payload_without_end_is_given_up_at_its_announced_length() {
    let endless = Bytes::from_static(&[0; 4_096]);
    let claims = claims(Liar {
        bytes: 10_000,
        chunks: vec![endless; 1_000],
    });
    let error = read(&claims, &reference("payloads", b"", 10_000))
        .await
        .expect_err("too long");
    assert!(
        error.to_string().contains("longer than announced"),
        "{error}"
    );
}

#[tokio::test]
async fn a_payload_that_is_announced_too_large_is_not_fetched() {
    let claims = claims(memory()).size_max(1_000).expect("a good size");
    let error = claims
        .open(&reference("payloads", b"", 1_001))
        .await
        .expect_err("too large");
    assert!(matches!(
        error,
        ClaimError::TooLarge {
            bytes: 1_001,
            bytes_max: 1_000
        }
    ));
    let error = claims
        .open(&reference("payloads", b"", u64::MAX))
        .await
        .expect_err("too large");
    assert_eq!(error.reason(), Some(Reason::Rejected));
}

#[tokio::test]
async fn a_store_that_is_not_configured_is_not_asked() {
    let claims = claims(memory());
    for store in ["elsewhere", "", "..", "https:"] {
        let error = claims
            .open(&reference(store, b"x", 1))
            .await
            .expect_err("unknown");
        assert!(matches!(error, ClaimError::UnknownStore(_)), "{error}");
    }
    let error = claims
        .open(&reference("../payloads", b"x", 1))
        .await
        .expect_err("no name");
    assert!(matches!(error, ClaimError::Invalid(_)), "{error}");
}

#[tokio::test]
async fn payloads_of_another_store_are_read_under_its_name() {
    let old = memory();
    let message = Claims::new("old", old.clone()).expect("a good name");
    let message = message
        .check_in(Message::new("payload"), 0)
        .await
        .expect("stored");
    let both = claims(memory())
        .with_store("old", old)
        .expect("a good name");
    assert_eq!(read(&both, &message).await.expect("read"), "payload");
}

#[tokio::test]
async fn a_tenant_does_not_reach_the_payloads_of_another() {
    let store = memory();
    let tenant = |name| claims(store.clone()).tenant(name).expect("a good name");
    let message = tenant("acme")
        .check_in(Message::new("payload"), 0)
        .await
        .expect("stored");
    assert_eq!(
        read(&tenant("acme"), &message).await.expect("read"),
        "payload"
    );
    for other in [tenant("other"), claims(store.clone())] {
        let error = other.open(&message).await.expect_err("not its own");
        assert!(matches!(error, ClaimError::Lost { .. }), "{error}");
    }
}

fn pointer(bucket: &str, key: &str, bytes: usize) -> Message {
    let class = "software.amazon.payloadoffloading.PayloadS3Pointer";
    let body = format!(r#"["{class}",{{"s3BucketName":"{bucket}","s3Key":"{key}"}}]"#);
    Message::new(body).with_header("ExtendedPayloadSize", bytes.to_string())
}

#[tokio::test]
async fn a_pointer_of_the_aws_extended_client_is_followed_into_its_bucket() {
    let store = memory();
    store
        .put(Name::Key("large/1"), chunked(payload(1, 300), 100))
        .await
        .expect("stored");
    store
        .put(Name::Key("secret"), chunked(payload(2, 300), 100))
        .await
        .expect("stored");
    let claims = claims(memory())
        .with_store("aws", store)
        .expect("a good name");
    let claims = claims.aws_bucket("b", "aws", "large/").expect("in order");

    let message = pointer("b", "large/1", 300);
    assert_eq!(
        read(&claims, &message).await.expect("read"),
        payload(1, 300)
    );
    let error = claims
        .open(&pointer("b", "large/1", 299))
        .await
        .expect_err("another length");
    assert!(matches!(error, ClaimError::Damaged { .. }));
    let error = claims
        .open(&pointer("b", "large/2", 1))
        .await
        .expect_err("it is not there");
    assert!(matches!(error, ClaimError::Lost { .. }));
}

#[tokio::test]
async fn a_hostile_pointer_reads_nothing() {
    let store = memory();
    store
        .put(Name::Key("secret"), chunked(payload(2, 300), 100))
        .await
        .expect("stored");
    let claims = claims(memory())
        .with_store("aws", store)
        .expect("a good name");
    let claims = claims.aws_bucket("b", "aws", "large/").expect("in order");
    for key in ["secret", "large/../secret", "large//x", "", "large/"] {
        let error = claims.open(&pointer("b", key, 300)).await.expect_err(key);
        assert_eq!(error.reason(), Some(Reason::Undecodable), "{key}: {error}");
    }
    let error = claims
        .open(&pointer("other", "large/1", 300))
        .await
        .expect_err("unknown");
    assert!(matches!(error, ClaimError::UnknownStore(_)), "{error}");
}

#[tokio::test]
async fn a_reference_to_somewhere_else_is_left_to_who_knows_it() {
    let message = Message::new("inline").with_header(header::CE_DATAREF, "https://example.com/a");
    assert_eq!(
        read(&claims(memory()), &message).await.expect("read"),
        "inline"
    );
    let message = Message::new("inline").with_header(header::CE_DATAREF, vec![0xff]);
    assert_eq!(
        read(&claims(memory()), &message).await.expect("read"),
        "inline"
    );
}

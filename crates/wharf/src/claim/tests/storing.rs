//! What is stored, under which key, and what an interruption leaves.

use futures_util::future::join_all;

use super::faults::Faulty;
use super::*;

#[tokio::test]
async fn payloads_of_every_size_come_back_as_they_were() {
    let folder = tempfile::tempdir().expect("a folder");
    let on_disk = ObjectBlobs::folder(folder.path()).expect("it can be written");
    let on_disk = ObjectBlobs {
        part: PART,
        ..on_disk
    };
    for store in [memory(), on_disk] {
        let claims = claims(store.clone());
        for bytes in [1, PART - 1, PART, PART + 1, 2 * PART, 10 * PART + 7] {
            let sent = payload(bytes as u8, bytes);
            let message = claims
                .check_in(Message::new(sent.clone()), 0)
                .await
                .expect("stored");
            assert_eq!(read(&claims, &message).await.expect("read"), sent);

            let chunks = chunked(sent.clone(), 333);
            let streamed = claims.check_in_stream(Message::default(), chunks).await;
            assert_eq!(streamed.expect("stored").headers, message.headers);
        }
        let keys = keys(&store).await;
        assert_eq!(keys.len(), 6, "{keys:?}");
        assert!(
            keys.iter().all(|key| key.starts_with("sha256/")),
            "{keys:?}"
        );
    }
}

#[tokio::test]
async fn an_empty_stream_is_a_payload_too() {
    let claims = claims(memory());
    let message = claims
        .check_in_stream(Message::default(), chunked(Vec::new(), 1))
        .await;
    let message = message.expect("stored");
    assert_eq!(read(&claims, &message).await.expect("read"), "");
}

#[tokio::test]
async fn only_a_payload_above_the_threshold_is_stored() {
    let store = memory();
    let claims = claims(store.clone());
    let message = Message::new(payload(1, 100)).with_key("k");
    assert_eq!(
        claims.check_in(message.clone(), 100).await,
        Ok(message.clone())
    );
    assert_eq!(
        claims.check_in(Message::default(), 0).await,
        Ok(Message::default())
    );
    assert!(keys(&store).await.is_empty());

    let small = claims.check_in(message.clone(), 99).await.expect("stored");
    assert_eq!(
        (&small.key, &small.payload),
        (&message.key, &Some(Bytes::new()))
    );
    assert_eq!(claims.check_out(small.clone()).await, Ok(message));
    // Forwarded, it refers to the same payload, and nothing is fetched or stored.
    assert_eq!(claims.check_in(small.clone(), 99).await, Ok(small));
}

#[tokio::test]
async fn a_reference_left_beside_another_payload_is_taken_out() {
    let claims = claims(memory());
    let large = Message::new(payload(1, 100));
    let mut other = claims.check_in(large, 10).await.expect("stored");
    other.payload = Some("small".into());
    let sent = claims.check_in(other, 10).await.expect("not stored");
    assert_eq!(sent, Message::new("small"));
    assert_eq!(read(&claims, &sent).await.expect("read"), "small");
}

#[tokio::test]
async fn an_upload_that_is_interrupted_leaves_nothing_that_can_be_read() {
    for bytes in [PART / 2, 3 * PART] {
        let store = memory();
        let claims = claims(store.clone());
        let broken = stream::once(async { Err(std::io::Error::other("the client went away")) });
        let broken = chunked(payload(1, bytes), 100).chain(broken).boxed();
        let error = claims
            .check_in_stream(Message::default(), broken)
            .await
            .expect_err("broken");
        assert!(
            error.to_string().contains("the client went away"),
            "{error}"
        );
        assert_eq!(error.reason(), None);
        assert!(keys(&store).await.is_empty());

        let hanging = chunked(payload(1, bytes), 100)
            .chain(stream::pending())
            .boxed();
        let mut upload = Box::pin(claims.check_in_stream(Message::default(), hanging));
        for _ in 0..100 {
            assert!(futures_util::poll!(&mut upload).is_pending());
            tokio::task::yield_now().await;
        }
        drop(upload);
        assert!(
            keys(&store)
                .await
                .iter()
                .all(|key| !key.starts_with("sha256/"))
        );
    }
}

#[tokio::test]
async fn a_payload_that_is_too_large_is_not_stored_however_it_comes() {
    let store = memory();
    let claims = claims(store.clone()).size_max(5_000).expect("a good size");
    let too_large = |error| {
        matches!(
            error,
            ClaimError::TooLarge {
                bytes_max: 5_000,
                ..
            }
        )
    };
    let error = claims
        .check_in(Message::new(payload(1, 5_001)), 0)
        .await
        .expect_err("too large");
    assert!(too_large(error));
    let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[0; 100]))).boxed();
    let error = claims
        .check_in_stream(Message::default(), endless)
        .await
        .expect_err("too large");
    assert!(too_large(error));
    assert!(keys(&store).await.is_empty());
    assert!(
        claims
            .check_in(Message::new(payload(1, 5_000)), 0)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn writers_of_one_payload_share_one_object_and_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let on_disk = ObjectBlobs::folder(folder.path()).expect("it can be written");
    let store = ObjectBlobs {
        part: PART,
        ..on_disk
    };
    let claims = claims(store.clone());
    let sent = payload(1, 5 * PART);
    let write = |streamed: bool| {
        let (claims, sent) = (claims.clone(), sent.clone());
        async move {
            let message = if streamed {
                claims
                    .check_in_stream(Message::default(), chunked(sent, 100))
                    .await
            } else {
                claims.check_in(Message::new(sent), 0).await
            };
            let message = message.expect("stored");
            read(&claims, &message).await.expect("read")
        }
    };
    let read = join_all((0..16).map(|number| write(number % 2 == 0))).await;
    assert!(read.iter().all(|payload| *payload == sent));
    assert_eq!(keys(&store).await.len(), 1);
}

#[tokio::test]
async fn storing_again_mends_what_was_damaged() {
    let store = memory();
    let claims = claims(store.clone());
    let message = claims
        .check_in(Message::new("right"), 0)
        .await
        .expect("stored");
    let key = Digest::of(b"right").key("");
    store
        .put(Name::Key(&key), chunked(b"wrong".to_vec(), 10))
        .await
        .expect("stored");
    assert!(read(&claims, &message).await.is_err());
    claims
        .check_in(Message::new("right"), 0)
        .await
        .expect("stored");
    assert_eq!(read(&claims, &message).await.expect("read"), "right");
}

#[tokio::test]
async fn a_store_that_fails_is_a_reason_to_try_again() {
    let store = Faulty::new(None);
    let claims = claims(store.clone());
    let message = claims
        .check_in(Message::new("payload"), 0)
        .await
        .expect("stored");
    store.0.left.store(0, Ordering::SeqCst);
    for error in [
        claims
            .check_in(Message::new("payload"), 0)
            .await
            .expect_err("it is off"),
        read(&claims, &message).await.expect_err("it is off"),
    ] {
        assert_eq!(error.reason(), None);
        assert!(error.to_string().starts_with("WHARF-5215"), "{error}");
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    assert!(Claims::new("Pay/loads", memory()).is_err());
    assert!(Claims::new("", memory()).is_err());
    let claims = || claims(memory());
    assert!(claims().tenant("../other").is_err());
    assert!(claims().size_max(0).is_err());
    assert!(claims().aws_bucket("b", "unknown", "").is_err());
    assert!(claims().aws_bucket("b", "payloads", "no-slash").is_err());
}

#[tokio::test]
async fn a_key_that_climbs_out_of_the_folder_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("secret"), "s").expect("written");
    let store = ObjectBlobs::folder(folder.path().join("inner")).expect("it can be written");
    for key in ["../secret", "a/../../secret", "/etc/passwd", "a//b", ".."] {
        let error = store.get(key).await.expect_err(key);
        assert!(
            matches!(error, StoreError::Refused(_) | StoreError::NotFound(_)),
            "{key}: {error}"
        );
        assert!(
            store.delete(key).await.is_err() || !key.contains(".."),
            "{key}"
        );
    }
    assert!(folder.path().join("secret").exists());
}

//! References to payloads, as messages carry them: our own headers, and the pointer of the AWS
//! extended client. Both are read as what a stranger may have written.

use wharf_message::{Message, header};

use super::{ClaimError, Digest};

/// What a `claim:` reference begins with.
const SCHEME: &str = "claim://";

/// A reference to a payload that a store of ours holds.
///
/// ```
/// use wharf::claim::Reference;
/// use wharf_message::{Message, header};
///
/// let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// let message = Message::new("")
///     .with_header(header::CE_DATAREF, format!("claim://payloads/{digest}"))
///     .with_header(header::CLAIM_SHA256, digest)
///     .with_header(header::CLAIM_SIZE, "3");
/// let reference = Reference::of(&message)?.expect("it has one");
/// assert_eq!((reference.store.as_str(), reference.bytes), ("payloads", 3));
///
/// let elsewhere = Message::new("").with_header(header::CE_DATAREF, "https://example.com/a");
/// assert_eq!(Reference::of(&elsewhere)?, None);
/// # Ok::<(), wharf::claim::ClaimError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The store's name.
    pub store: String,
    /// The payload's SHA-256.
    pub digest: Digest,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Reference {
    /// The reference that `message` carries, if it carries one of ours.
    ///
    /// # Errors
    /// [`ClaimError::Invalid`] when it is one of ours and not in order.
    pub fn of(message: &Message) -> Result<Option<Self>, ClaimError> {
        let text = |name| {
            let invalid = |error: wharf_message::NotText| ClaimError::Invalid(error.to_string());
            message.headers.text(name).map_err(invalid)
        };
        // Of other schemes nothing is known, not even that they are text.
        if !is_ours(message) {
            return Ok(None);
        }
        let target = text(header::CE_DATAREF)?.and_then(|uri| uri.strip_prefix(SCHEME));
        let (store, digest) = target
            .and_then(|target| target.split_once('/'))
            .ok_or_else(|| invalid("ce_dataref is not claim://store/sha256"))?;
        let digest = Digest::parse(digest)
            .ok_or_else(|| invalid("ce_dataref does not end in a SHA-256 in lower-case hex"))?;
        if text(header::CLAIM_SHA256)?.and_then(Digest::parse) != Some(digest) {
            return Err(invalid(
                "wharf-claim-sha256 is not the SHA-256 of ce_dataref",
            ));
        }
        let bytes = text(header::CLAIM_SIZE)?
            .and_then(|size| size.parse().ok())
            .ok_or_else(|| invalid("wharf-claim-size is no number of bytes"))?;
        let store = store.to_owned();
        Ok(Some(Self {
            store,
            digest,
            bytes,
        }))
    }

    /// Puts it into `message` in place of another.
    pub(super) fn write(&self, message: &mut Message) {
        let Self {
            store,
            digest,
            bytes,
        } = self;
        let headers = &mut message.headers;
        headers.set(header::CE_DATAREF, format!("{SCHEME}{store}/{digest}"));
        headers.set(header::CLAIM_SHA256, digest.to_string());
        headers.set(header::CLAIM_SIZE, bytes.to_string());
    }

    /// Takes ours out of `message`.
    pub(super) fn remove(message: &mut Message) {
        if is_ours(message) {
            for name in [header::CE_DATAREF, header::CLAIM_SHA256, header::CLAIM_SIZE] {
                message.headers.remove(name);
            }
        }
    }
}

fn is_ours(message: &Message) -> bool {
    let target = message.headers.get(header::CE_DATAREF);
    target.is_some_and(|target| target.starts_with(SCHEME.as_bytes()))
}

fn invalid(what: &str) -> ClaimError {
    ClaimError::Invalid(what.to_owned())
}

/// The attributes by which the AWS extended client marks its pointers, the newer one first. Their value
/// is the size of the payload in bytes.
const AWS_SIZES: [&str; 2] = ["ExtendedPayloadSize", "SQSLargePayloadSize"];
/// The classes that its pointers name: of version 2 and of version 1.
const AWS_CLASSES: [&str; 2] = [
    "software.amazon.payloadoffloading.PayloadS3Pointer",
    "com.amazon.sqs.javamessaging.MessageS3Pointer",
];
/// A pointer is no longer than this: the longest bucket name and key, escaped.
const AWS_POINTER_BYTES_MAX: usize = 16 << 10;

/// A pointer of the AWS extended client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AwsPointer {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) bytes: u64,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AwsBody {
    s3_bucket_name: String,
    s3_key: String,
}

impl AwsPointer {
    /// The pointer that `message` is, if it is marked as one.
    pub(super) fn of(message: &Message) -> Result<Option<Self>, ClaimError> {
        let size = AWS_SIZES.iter().find_map(|name| message.headers.get(name));
        let Some(size) = size else {
            return Ok(None);
        };
        let bytes = std::str::from_utf8(size)
            .ok()
            .and_then(|size| size.parse().ok());
        let bytes = bytes.ok_or_else(|| invalid("ExtendedPayloadSize is no number of bytes"))?;
        let body = message.payload.as_deref().unwrap_or_default();
        if body.len() > AWS_POINTER_BYTES_MAX {
            return Err(invalid(
                "the pointer of the AWS extended client is too long",
            ));
        }
        let body: Result<(String, AwsBody), _> = serde_json::from_slice(body);
        let (class, body) = body.map_err(|error| {
            ClaimError::Invalid(format!("no pointer of the AWS extended client: {error}"))
        })?;
        if !AWS_CLASSES.contains(&class.as_str()) {
            return Err(invalid(
                "the pointer names a class that is none of the AWS extended client",
            ));
        }
        Ok(Some(Self {
            bucket: body.s3_bucket_name,
            key: body.s3_key,
            bytes,
        }))
    }
}

/// Whether `key` may be fetched on a stranger's word: below `prefix`, and a plain path.
pub(super) fn is_plain_key(key: &str, prefix: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_' | '-');
    let climbs = |part: &str| part.is_empty() || part == "." || part == "..";
    key.len() <= 1024
        && key.starts_with(prefix)
        && key.chars().all(plain)
        && !key.split('/').any(climbs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(headers: &[(&'static str, &str)]) -> Message {
        let with = |message: Message, (name, value): &(&'static str, &str)| {
            message.with_header(*name, (*value).to_owned())
        };
        headers.iter().fold(Message::new(""), with)
    }

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_reference_is_read_as_it_was_written() {
        let reference = Reference {
            store: "payloads".to_owned(),
            digest: Digest::of(b"abc"),
            bytes: 3,
        };
        let mut message = Message::new("");
        reference.write(&mut message);
        reference.write(&mut message);
        assert_eq!(message.headers.len(), 3);
        assert_eq!(Reference::of(&message), Ok(Some(reference)));
        Reference::remove(&mut message);
        assert!(message.headers.is_empty());
    }

    #[test]
    fn a_reference_that_is_not_in_order_is_refused() {
        let good = format!("claim://payloads/{HASH}");
        let other = HASH.replace('b', "c");
        for (uri, hash, size) in [
            ("claim://payloads", HASH, "3"),
            ("claim://payloads/../../etc/passwd", HASH, "3"),
            ("claim://payloads/abc", HASH, "3"),
            (good.as_str(), other.as_str(), "3"),
            (good.as_str(), "", "3"),
            (good.as_str(), HASH, "-1"),
            (good.as_str(), HASH, "99999999999999999999999"),
            (good.as_str(), HASH, ""),
        ] {
            let message = message(&[
                (header::CE_DATAREF, uri),
                (header::CLAIM_SHA256, hash),
                (header::CLAIM_SIZE, size),
            ]);
            let read = Reference::of(&message);
            assert!(
                matches!(read, Err(ClaimError::Invalid(_))),
                "{uri} {hash} {size}: {read:?}"
            );
        }
    }

    #[test]
    fn pointers_of_both_versions_of_the_aws_extended_client_are_read() {
        for (class, attribute) in AWS_CLASSES.into_iter().zip(AWS_SIZES) {
            let body = format!(r#"["{class}",{{"s3BucketName":"b","s3Key":"k/1"}}]"#);
            let message = Message::new(body).with_header(attribute, "300000");
            let pointer = AwsPointer::of(&message)
                .expect("in order")
                .expect("a pointer");
            assert_eq!(
                (pointer.bucket.as_str(), pointer.key.as_str()),
                ("b", "k/1")
            );
            assert_eq!(pointer.bytes, 300_000);
        }
        assert_eq!(AwsPointer::of(&Message::new("[]")), Ok(None));
    }

    #[test]
    fn what_only_looks_like_a_pointer_is_refused() {
        let class = AWS_CLASSES[0];
        for body in [
            String::new(),
            "{}".to_owned(),
            r#"["java.lang.ProcessBuilder",{"s3BucketName":"b","s3Key":"k"}]"#.to_owned(),
            format!(r#"["{class}",{{"s3BucketName":"b"}}]"#),
            format!(r#"["{class}",{{"s3BucketName":"b","s3Key":"k","more":1}}]"#),
            format!(
                r#"["{class}",{{"s3BucketName":"b","s3Key":"{}"}}]"#,
                "k".repeat(20_000)
            ),
        ] {
            let message = Message::new(body).with_header("ExtendedPayloadSize", "5");
            assert!(AwsPointer::of(&message).is_err(), "{message:?}");
        }
    }

    #[test]
    fn a_key_that_climbs_or_leaves_its_prefix_is_not_plain() {
        assert!(is_plain_key("large/1234-abc", "large/"));
        assert!(is_plain_key("1234-abc", ""));
        for key in [
            "other/1",
            "large/../secrets",
            "large//x",
            "large/./x",
            "large/",
            "large/%2e",
            "large/\u{e4}",
        ] {
            assert!(!is_plain_key(key, "large/"), "{key}");
        }
    }

    proptest! {
        #[test]
        fn no_header_or_body_makes_the_readers_panic(
            uri in ".{0,80}", hash in ".{0,70}", size in ".{0,20}", body in any::<Vec<u8>>()
        ) {
            let message = Message::new(body)
                .with_header(header::CE_DATAREF, format!("claim://{uri}"))
                .with_header(header::CLAIM_SHA256, hash)
                .with_header(header::CLAIM_SIZE, size)
                .with_header("ExtendedPayloadSize", "5");
            let _read = Reference::of(&message);
            let _read = AwsPointer::of(&message);
        }
    }
}

//! The claim check: what a worker put into a store of its own goes through a saga as a reference.
//!
//! A record whose payload was checked in (`ce_dataref: claim://store/sha256`, no value) is a JSON
//! object of two fields among the data of its saga, and becomes those headers again when a command's
//! arguments are that object and nothing else. The orchestrator never looks into a store: no reference
//! makes it read anything, and what is not exactly in order is refused or stays plain data.

use bytes::Bytes;
use serde_json::{Value, json};
use wharf_message::header::{CE_DATAREF, CLAIM_SHA256, CLAIM_SIZE};
use wharf_message::ledger::Record;

use super::topic::header;

/// What a reference begins with.
const SCHEME: &str = "claim://";
/// How long the name of a store may be.
const STORE_MAX: usize = 63;

/// The store and the digest of a reference.
fn parts(target: &str) -> Option<(&str, &str)> {
    let (store, digest) = target.strip_prefix(SCHEME)?.split_once('/')?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_store = (1..=STORE_MAX).contains(&store.len())
        && store.bytes().all(|byte| plain(byte) || byte == b'-');
    let is_digest = digest.len() == 64 && digest.bytes().all(hex);
    (is_store && is_digest).then_some((store, digest))
}

/// The reference that a record carries in place of its value, as data.
pub(super) fn taken(record: &Record) -> Result<Option<Value>, String> {
    let target = header(record, CE_DATAREF).filter(|target| target.starts_with(SCHEME));
    let (Some(target), None | Some([])) = (target, record.value.as_deref()) else {
        return Ok(None);
    };
    let (_, digest) = parts(target)
        .ok_or_else(|| format!("`{CE_DATAREF}` is {target:?} and not claim://store/sha256"))?;
    if header(record, CLAIM_SHA256) != Some(digest) {
        return Err(format!("`{CLAIM_SHA256}` is not that of `{CE_DATAREF}`"));
    }
    let size = header(record, CLAIM_SIZE).and_then(|size| size.parse::<u64>().ok());
    let size = size.ok_or_else(|| format!("`{CLAIM_SIZE}` is no number of bytes"))?;
    Ok(Some(json!({ CE_DATAREF: target, CLAIM_SIZE: size })))
}

/// The headers of a command whose arguments are a reference and nothing else.
pub(super) fn headers(arguments: &Value) -> Option<[(&'static str, String); 3]> {
    let fields = arguments.as_object().filter(|fields| fields.len() == 2)?;
    let target = fields.get(CE_DATAREF)?.as_str()?;
    let size = fields.get(CLAIM_SIZE)?.as_u64()?;
    let (_, digest) = parts(target)?;
    Some([
        (CE_DATAREF, target.to_owned()),
        (CLAIM_SHA256, digest.to_owned()),
        (CLAIM_SIZE, size.to_string()),
    ])
}

/// The digest of a reference that is all there is, to this store.
pub(crate) fn digest_in<'a>(arguments: &'a Value, store: &str) -> Option<&'a str> {
    let fields = arguments.as_object().filter(|fields| fields.len() == 2)?;
    fields.get(CLAIM_SIZE)?.as_u64()?;
    let (known, digest) = parts(fields.get(CE_DATAREF)?.as_str()?)?;
    (known == store).then_some(digest)
}

/// The value of a command: none where its headers say where it is.
pub(super) fn value(arguments: &Value, is_claim: bool) -> Bytes {
    match is_claim {
        true => Bytes::new(),
        false => Bytes::from(arguments.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn record(headers: &[(&str, &str)], value: &'static str) -> Record {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let headers = headers.iter();
        Record {
            value: Some(Bytes::from_static(value.as_bytes())),
            headers: headers
                .map(|(name, value)| (bytes(name), Some(bytes(value))))
                .collect(),
            ..Record::default()
        }
    }

    #[test]
    fn a_reference_goes_in_as_headers_and_out_as_the_same() {
        let target = format!("claim://payloads/{DIGEST}");
        let named = [
            (CE_DATAREF, target.as_str()),
            (CLAIM_SHA256, DIGEST),
            (CLAIM_SIZE, "300000"),
        ];
        let data = taken(&record(&named, "")).unwrap().unwrap();
        let out = headers(&data).unwrap();
        let out: Vec<_> = out
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        assert_eq!(out, named);
        // With a value of its own, the value is what was said.
        assert_eq!(taken(&record(&named, "{}")), Ok(None));
        let elsewhere = [(CE_DATAREF, "https://example.com/a")];
        assert_eq!(taken(&record(&elsewhere, "")), Ok(None));
    }

    #[test]
    fn what_is_not_in_order_is_refused_and_among_data_stays_data() {
        let target = format!("claim://payloads/{DIGEST}");
        let up = format!("claim://../{DIGEST}");
        for (target, digest, size) in [
            ("claim://payloads/short", DIGEST, "1"),
            (up.as_str(), DIGEST, "1"),
            (target.as_str(), "other", "1"),
            (target.as_str(), DIGEST, "-1"),
        ] {
            let named = [
                (CE_DATAREF, target),
                (CLAIM_SHA256, digest),
                (CLAIM_SIZE, size),
            ];
            assert!(taken(&record(&named, "")).is_err(), "{named:?}");
        }
        for data in [
            json!({ CE_DATAREF: target, CLAIM_SIZE: 1, "more": 1 }),
            json!({ CE_DATAREF: up, CLAIM_SIZE: 1 }),
            json!({ CE_DATAREF: target, CLAIM_SIZE: "1" }),
            json!([target]),
        ] {
            assert_eq!(headers(&data), None, "{data}");
        }
    }
}

//! What `[saga]` has beside plain values: entries of the resource map, and a key that is never shown.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::settings::Sagas;

/// More partitions than this help nobody.
const PARTITIONS_MAX: u32 = 256;
/// The range of what one payload may have: records beyond it do not fit a commit.
const PAYLOAD_BYTES_MIN: u64 = 1 << 10;
const PAYLOAD_BYTES_MAX: u64 = 1 << 20;
/// The range of what a payload may have: it is held in memory as it comes in and goes out.
const CLAIM_BYTES_MAX: u64 = 32 << 20;
/// What the resources of this house begin with.
const NATIVE: [&str; 5] = [
    "wharf:topic:",
    "wharf:http:",
    "wharf:handler:",
    "wharf:activity:",
    "wharf:saga:",
];

/// An entry `[[saga.resource]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mapping {
    /// The name in definitions; `*` stands for anything without `:`, and `NAME` for the same, which
    /// is remembered.
    pub arn: String,
    /// What does the work; its `NAME` becomes what was remembered.
    pub to: String,
}

/// An entry `[[saga.user]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct User {
    /// Who it is, as signatures name them.
    pub access_key: String,
    /// What they sign with.
    pub secret: Secret,
}

/// A key that is never shown, logged or printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The key itself, for those who sign with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Refuses what could not work; the key, and why.
pub(super) fn check(saga: &Sagas) -> Result<(), (&'static str, String)> {
    if !(1..=PARTITIONS_MAX).contains(&saga.partitions) {
        let reason = format!("{} is outside 1 to {PARTITIONS_MAX}", saga.partitions);
        return Err(("saga.partitions", reason));
    }
    if !(PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(&saga.payload_max.0) {
        let reason = format!("{} is outside 1KiB to 1MiB", saga.payload_max);
        return Err(("saga.payload-max", reason));
    }
    let large = saga.payload_max.0..=CLAIM_BYTES_MAX;
    if saga.claim_max.0 != 0 && !large.contains(&saga.claim_max.0) {
        let reason = format!(
            "{} is neither 0B nor within saga.payload-max to 32MiB",
            saga.claim_max
        );
        return Err(("saga.claim-max", reason));
    }
    if saga.http_timeout.0.is_zero() {
        let reason = "no worker could answer within 0s".to_owned();
        return Err(("saga.http-timeout", reason));
    }
    let is_address = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    if let Some(url) = &saga.public_url
        && !is_address(url)
    {
        let reason = format!("{url:?} does not begin with http:// or https://");
        return Err(("saga.public-url", reason));
    }
    if let Some(url) = &saga.alarm_webhook
        && !is_address(url.expose())
    {
        let reason = "the address does not begin with http:// or https://".to_owned();
        return Err(("saga.alarm-webhook", reason));
    }
    users(&saga.user).map_err(|reason| ("saga.user", reason))?;
    for Mapping { arn, to } in &saga.resource {
        if arn.is_empty() || !NATIVE.iter().any(|native| to.starts_with(native)) {
            let reason = format!(
                "{arn:?} leads to {to:?}, which is none of wharf:topic:, wharf:http:, \
                 wharf:handler:, wharf:activity: and wharf:saga: with a name"
            );
            return Err(("saga.resource", reason));
        }
        if to.contains("NAME") && !arn.contains("NAME") {
            let reason = format!("{to:?} has a NAME that {arn:?} does not give");
            return Err(("saga.resource", reason));
        }
    }
    Ok(())
}

/// Signatures name users by their access keys.
fn users(users: &[User]) -> Result<(), String> {
    for (at, User { access_key, secret }) in users.iter().enumerate() {
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if access_key.is_empty() || !access_key.bytes().all(is_key) {
            return Err(format!(
                "{access_key:?} is no access key: letters, digits, `-`, `_` and `.`"
            ));
        }
        if secret.expose().is_empty() {
            return Err(format!("{access_key} has an empty secret"));
        }
        if users[..at]
            .iter()
            .any(|other| other.access_key == *access_key)
        {
            return Err(format!("{access_key} is there twice"));
        }
    }
    Ok(())
}

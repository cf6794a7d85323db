//! Signatures of requests (Signature Version 4), checked where users are configured.
//!
//! What a signature covers is computed here again from the request as it came, so a request whose
//! body, path, target or date was changed on its way is refused. A signature is good for fifteen
//! minutes in either direction, and for the service it was made for. Secrets are compared in constant
//! time, and no refusal tells what the right signature would have been.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use axum::http::HeaderMap;
use axum::http::request::Parts;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use wharf_message::Timestamp;

use super::fault::Fault;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far a client's clock may be off.
const SKEW_MILLIS: i64 = 15 * 60 * 1_000;
/// What a signature must cover, so that nothing of these can be changed or left out.
const COVERED: [&str; 2] = ["host", "x-amz-target"];

/// Who may sign, by access key.
#[derive(Clone, Default)]
pub(super) struct Users(BTreeMap<String, String>);

impl Users {
    pub(super) fn new(users: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(users.into_iter().collect())
    }

    /// Who sent the request: the access key. Nobody is asked for a signature where nobody has one.
    pub(super) fn sender(
        &self,
        head: &Parts,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Option<String>, Fault> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let Some(authorization) = text("authorization") else {
            let why = "Missing Authentication Token: this node has users; sign the request";
            return Err(Fault::new("MissingAuthenticationTokenException", why));
        };
        let signed = Signed::read(authorization)?;
        let date = text("x-amz-date").ok_or_else(|| incomplete("'x-amz-date' is missing"))?;
        let at = moment(date)
            .ok_or_else(|| incomplete("'x-amz-date' is no date such as 20260131T235959Z"))?;
        if (now.as_millis() - at).abs() > SKEW_MILLIS {
            let why = format!(
                "Signature expired or not yet current: {date} is more than 15 minutes from now; \
                 check the clock"
            );
            return Err(Fault::new("InvalidSignatureException", why));
        }
        if !date.starts_with(signed.date) {
            return Err(incomplete(
                "the date of the credential is not that of 'x-amz-date'",
            ));
        }
        let Some(secret) = self.0.get(signed.key) else {
            let why = "The security token included in the request is invalid: no such access key";
            return Err(Fault::new("UnrecognizedClientException", why));
        };
        let hash = hex(&Sha256::digest(body));
        if let Some(told) = text("x-amz-content-sha256")
            && told != hash
        {
            let why = "'x-amz-content-sha256' is not the hash of the body";
            return Err(Fault::new("InvalidSignatureException", why));
        }
        let request = canonical(head, &signed.headers, &hash)?;
        let text = format!(
            "{ALGORITHM}\n{date}\n{}\n{}",
            signed.scope,
            hex(&Sha256::digest(request.as_bytes()))
        );
        let key = key(secret, &signed);
        mac(&key, text.as_bytes())
            .verify_slice(&signed.signature)
            .map_err(|_wrong| {
                let why = "The request signature we calculated does not match the signature you \
                           provided. Check the secret access key and the signing method";
                Fault::new("InvalidSignatureException", why)
            })?;
        Ok(Some(signed.key.to_owned()))
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// What the header `Authorization` says.
struct Signed<'a> {
    key: &'a str,
    /// Date, region, service and the word at the end.
    scope: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    headers: Vec<&'a str>,
    signature: Vec<u8>,
}

impl<'a> Signed<'a> {
    fn read(text: &'a str) -> Result<Self, Fault> {
        let rest = text.strip_prefix(ALGORITHM);
        let rest = rest.ok_or_else(|| incomplete("'Authorization' is not of AWS4-HMAC-SHA256"))?;
        let mut parts: BTreeMap<&str, &str> = BTreeMap::new();
        for part in rest.split(',') {
            let pair = part.trim().split_once('=');
            let (name, value) =
                pair.ok_or_else(|| incomplete("'Authorization' has a part without '='"))?;
            parts.insert(name, value);
        }
        let part = |name: &str| {
            let part = parts.get(name).copied();
            part.ok_or_else(|| incomplete(&format!("'Authorization' has no '{name}'")))
        };
        let (credential, headers) = (part("Credential")?, part("SignedHeaders")?);
        let signature = unhex(part("Signature")?);
        let signature = signature.ok_or_else(|| incomplete("'Signature' is not hexadecimal"))?;
        let wrong = || incomplete("'Credential' is not KEY/DATE/REGION/states/aws4_request");
        let (key, scope) = credential.split_once('/').ok_or_else(wrong)?;
        let fields: Vec<_> = scope.split('/').collect();
        let [date, region, service, "aws4_request"] = fields[..] else {
            return Err(wrong());
        };
        if service != "states" {
            return Err(incomplete(
                "the credential is for another service than 'states'",
            ));
        }
        let headers: Vec<_> = headers.split(';').collect();
        if let Some(lacking) = COVERED.iter().find(|name| !headers.contains(name)) {
            return Err(incomplete(&format!(
                "the signature does not cover '{lacking}'"
            )));
        }
        Ok(Self {
            key,
            scope,
            date,
            region,
            service,
            headers,
            signature,
        })
    }
}

/// The request in the one form that both sides hash.
fn canonical(head: &Parts, signed: &[&str], body: &str) -> Result<String, Fault> {
    let path = match head.uri.path() {
        "" => "/",
        path => path,
    };
    let mut query: Vec<_> = head.uri.query().unwrap_or_default().split('&').collect();
    query.sort_unstable();
    let (method, query) = (&head.method, query.join("&"));
    let mut text = format!("{method}\n{path}\n{query}\n");
    for name in signed {
        let value = header(&head.headers, name)?;
        writeln!(text, "{name}:{value}").expect("a String takes everything");
    }
    write!(text, "\n{}\n{body}", signed.join(";")).expect("a String takes everything");
    Ok(text)
}

/// The values of a header, spaces made one.
fn header(headers: &HeaderMap, name: &str) -> Result<String, Fault> {
    let lacking = || {
        incomplete(&format!(
            "the signed header '{name}' is missing, or is no text"
        ))
    };
    let mut values = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_wrong| lacking())?;
        values.push(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
    }
    match values.is_empty() {
        true => Err(lacking()),
        false => Ok(values.join(",")),
    }
}

fn mac(key: &[u8], text: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
    mac.update(text);
    mac
}

fn key(secret: &str, signed: &Signed<'_>) -> Vec<u8> {
    let mut key = format!("AWS4{secret}").into_bytes();
    for text in [signed.date, signed.region, signed.service, "aws4_request"] {
        key = mac(&key, text.as_bytes()).finalize().into_bytes().to_vec();
    }
    key
}

fn incomplete(why: &str) -> Fault {
    Fault::new("IncompleteSignatureException", why)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// `20260131T235959Z`, in milliseconds.
fn moment(text: &str) -> Option<i64> {
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if text.len() != 16 || !text.is_ascii() || &text[8..9] != "T" || !text.ends_with('Z') {
        return None;
    }
    let (date, time) = (&text[..8], &text[9..15]);
    if !is_digits(date) || !is_digits(time) {
        return None;
    }
    let written = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &date[..4],
        &date[4..6],
        &date[6..],
        &time[..2],
        &time[2..4],
        &time[4..]
    );
    Timestamp::parse_rfc3339(&written).map(Timestamp::as_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the request of the tests was signed, by botocore.
    const DATE: &str = "20260131T235959Z";
    const BODY: &[u8] = br#"{"maxResults": 5}"#;
    const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=AKIATEST/20260131/eu-west-1/states/aws4_request, \
        SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=d1bd8b0ab68d8f09160ed7111199ba035aaae71997d9505a369925a33a86c2f1";

    fn users() -> Users {
        Users::new([("AKIATEST".to_owned(), "a secret".to_owned())])
    }

    fn signed(change: impl FnOnce(&mut HeaderMap)) -> Parts {
        let request = axum::http::Request::post("/")
            .header("host", "127.0.0.1:8080")
            .header("x-amz-target", "AWSStepFunctions.ListActivities")
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-date", DATE)
            .header("authorization", AUTHORIZATION);
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        change(&mut head.headers);
        head
    }

    fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut HeaderMap) {
        move |headers| {
            headers.insert(name, axum::http::HeaderValue::from_static(value));
        }
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_millis(moment(DATE).unwrap() + minutes * 60_000)
    }

    fn kind(outcome: Result<Option<String>, Fault>) -> &'static str {
        outcome.unwrap_err().kind
    }

    #[test]
    fn a_request_that_botocore_signed_is_its_senders() {
        let sender = users().sender(&signed(|_| {}), BODY, at(14));
        assert_eq!(sender.unwrap().as_deref(), Some("AKIATEST"));
    }

    #[test]
    fn nobody_has_to_sign_where_nobody_has_a_key() {
        let head = signed(|headers| {
            headers.remove("authorization");
        });
        assert_eq!(Users::default().sender(&head, BODY, at(0)).unwrap(), None);
        let refused = users().sender(&head, BODY, at(0));
        assert_eq!(kind(refused), "MissingAuthenticationTokenException");
    }

    #[test]
    fn whatever_was_changed_after_signing_is_refused() {
        let refused =
            |head: Parts, body: &[u8], minutes| kind(users().sender(&head, body, at(minutes)));
        let wrong = "InvalidSignatureException";
        assert_eq!(refused(signed(|_| {}), b"{}", 0), wrong);
        assert_eq!(refused(signed(|_| {}), BODY, 16), wrong);
        assert_eq!(refused(signed(|_| {}), BODY, -16), wrong);
        let target = set("x-amz-target", "AWSStepFunctions.DeleteActivity");
        assert_eq!(refused(signed(target), BODY, 0), wrong);
        assert_eq!(refused(signed(set("host", "other")), BODY, 0), wrong);
        let hash = set("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
        assert_eq!(refused(signed(hash), BODY, 0), wrong);
        let other = Users::new([("AKIAOTHER".to_owned(), "a secret".to_owned())]);
        let refused = other.sender(&signed(|_| {}), BODY, at(0));
        assert_eq!(kind(refused), "UnrecognizedClientException");
    }

    #[test]
    fn half_a_signature_is_refused_and_never_read_beyond_its_end() {
        let incomplete = [
            "",
            "AWS4-HMAC-SHA256",
            "AWS4-HMAC-SHA256 Credential",
            "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host;x-amz-target, Signature=00",
            "AWS4-HMAC-SHA256 Credential=a/20260131/e/states/aws4_request, SignedHeaders=host, Signature=00",
            "AWS4-HMAC-SHA256 Credential=a/20260131/e/s3/aws4_request, SignedHeaders=host;x-amz-target, Signature=00",
            "AWS4-HMAC-SHA256 Credential=a/20260131/e/states/aws4_request, SignedHeaders=host;x-amz-target, Signature=0",
        ];
        for text in incomplete {
            let refused = users().sender(&signed(set("authorization", text)), BODY, at(0));
            assert_eq!(kind(refused), "IncompleteSignatureException", "{text}");
        }
        for date in [
            "",
            "2026",
            "20260131 235959Z",
            "2026013é235959Z",
            "20261331T235959Z",
        ] {
            assert_eq!(moment(date), None, "{date}");
        }
    }
}

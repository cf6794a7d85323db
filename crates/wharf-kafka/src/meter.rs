//! What a request takes of its client's quotas, and how the client is told to wait.
//!
//! Answers are written before anybody knows how long they took, so the time to wait is put into
//! the finished bytes: every answer has it in a place of its own, which this file knows. Nothing
//! waits here; whoever reads the connection does.

use std::time::Duration;

use bytes::BytesMut;
use wharf_broker::{Broker, Context, QuotaKey};

use crate::api;
use crate::frame::{Header, Reply};
use crate::{Response, Service, context, frame};

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
/// The length bytes before every frame.
const LENGTH_BYTES: usize = 4;
/// What the time takes on the wire.
const TIME_BYTES: usize = 4;

/// What one request takes. Made before the request is handled.
#[derive(Debug)]
pub struct Meter {
    broker: Broker,
    cx: Context,
    key: i16,
    reply: Reply,
    request_bytes: usize,
}

impl Service {
    /// The meter of a request that is about to be handled; `None` when nothing is limited, or for
    /// what [`Service::handle`] will refuse.
    pub fn meter(&self, cx: &Context, frame: &[u8]) -> Option<Meter> {
        if !self.broker.has_quotas() {
            return None;
        }
        let (key, version) = frame::key_and_version(frame)?;
        let card = api::find(key)?.card;
        if !card.answered.contains(&version) {
            return None;
        }
        let shape = &card.shape;
        let header = Header::parse(frame, shape.is_flexible(version)).ok()?;
        Some(Meter {
            broker: self.broker.clone(),
            cx: context(cx, header.client_id.as_deref().unwrap_or_default()),
            key,
            reply: Reply::to(&header, shape),
            request_bytes: LENGTH_BYTES + frame.len(),
        })
    }
}

impl Meter {
    /// Charges the request, the time spent on it, and its answer if there is one already. Returns
    /// how long its client has to wait before its next request is read.
    pub fn charge(&self, spent: Duration, answer: Option<&Response>) -> Duration {
        let charge = |key, amount: f64| self.broker.charge(&self.cx, key, amount);
        let time = charge(QuotaKey::RequestPercentage, spent.as_secs_f64() * 1e9);
        let refused = answer.map_or(Duration::ZERO, |answer| answer.throttle);
        let bytes = match (self.key, answer) {
            (PRODUCE, _) => charge(QuotaKey::ProducerByteRate, count(self.request_bytes)),
            (FETCH, Some(answer)) if refused.is_zero() => charge(
                QuotaKey::ConsumerByteRate,
                count(LENGTH_BYTES + answer.bytes()),
            ),
            _ => Duration::ZERO,
        };
        time.max(bytes).max(refused)
    }

    /// Writes into an answer how long its client has to wait, where its version has a place for it.
    pub fn tell(&self, answer: &mut Response, wait: Duration) {
        if wait.is_zero() {
            return;
        }
        let Some(place) = place(self.key, self.reply.version) else {
            return;
        };
        let header = if self.reply.flexible_header { 5 } else { 4 };
        let tags = usize::from(self.is_flexible());
        let at = match place {
            Place::Start => header,
            Place::AfterError => header + 2,
            Place::End => answer.bytes().saturating_sub(TIME_BYTES + tags),
            Place::AfterKeys => header + 2 + self.keys_bytes(),
        };
        let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        overwrite(answer, at, &millis.to_be_bytes());
    }

    fn is_flexible(&self) -> bool {
        api::find(self.key).is_some_and(|api| api.card.shape.is_flexible(self.reply.version))
    }

    /// What the list of keys takes in the answer to ApiVersions.
    fn keys_bytes(&self) -> usize {
        let keys = api::APIS.len();
        if self.is_flexible() {
            // A compact length of one or two bytes; three numbers and no tagged fields each.
            let length = if keys + 1 < 0x80 { 1 } else { 2 };
            length + keys * (3 * 2 + 1)
        } else {
            4 + keys * 3 * 2
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "frames are far below 2^52 bytes"
)]
fn count(bytes: usize) -> f64 {
    bytes as f64
}

/// Where an answer tells how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The first field.
    Start,
    /// Behind the error code.
    AfterError,
    /// The last field before the tagged ones, of which there are none.
    End,
    /// Behind the error code and the keys.
    AfterKeys,
}

/// The place in the answer to `key` in this version.
fn place(key: i16, version: i16) -> Option<Place> {
    let (place, first) = match key {
        PRODUCE => (Place::End, 1),
        18 => (Place::AfterKeys, 1),
        47 => (Place::AfterError, 0),
        // SASL, the quorum and what brokers ask each other: no answer has it.
        17 | 27 | 36 | 55 => return None,
        3 | 8 | 9 => (Place::Start, 3),
        2 | 11 | 19 => (Place::Start, 2),
        FETCH | 10 | 12..=16 | 20 => (Place::Start, 1),
        _ => (Place::Start, 0),
    };
    (version >= first).then_some(place)
}

/// Replaces bytes of an answer; they lie within one part.
fn overwrite(answer: &mut Response, at: usize, bytes: &[u8]) {
    let mut at = at;
    for part in &mut answer.parts {
        if at < part.len() {
            let whole = std::mem::take(part);
            let mut whole = whole
                .try_into_mut()
                .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
            if let Some(place) = whole.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
            *part = whole.freeze();
            return;
        }
        at -= part.len();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wharf_broker::{QuotaEntity, QuotaName};

    use super::*;
    use crate::Outcome;
    use crate::api::{API_VERSIONS_KEY, APIS, Api};
    use crate::made_up::frame;
    use crate::shape::tests::{Style, body_in};
    use crate::support::Node;

    const WAIT: Duration = Duration::from_millis(0x0102_0304);

    fn limited() -> Node {
        let node = Node::new();
        let user = Some(QuotaName::Default);
        let everybody = QuotaEntity {
            user,
            ..QuotaEntity::default()
        };
        let quota = [("producer_byte_rate".to_owned(), Some(1e9))];
        node.run(
            node.broker
                .alter_quotas(&node.cx, &everybody, &quota, false),
        )
        .unwrap();
        node
    }

    #[test]
    fn every_answer_that_has_a_place_for_the_wait_tells_it_there_and_no_other_changes() {
        let node = limited();
        let mut told = 0;
        for api in APIS {
            for version in api.codec_versions() {
                let request = frame(
                    api,
                    version,
                    &body_in(Style::Plausible, &api.card.shape, version, 1),
                );
                let meter = node.service.meter(&node.cx, &request).expect("a meter");
                let (Outcome::Answer(answer) | Outcome::Queued(answer)) =
                    node.service.handle(&node.cx, request).unwrap()
                else {
                    continue;
                };
                let Some(answer) = node.run_for(answer, 60_000) else {
                    continue;
                };
                let mut answer = answer.unwrap();
                let before = read(api, version, &answer);
                meter.tell(&mut answer, WAIT);
                let after = read(api, version, &answer);
                let expected = before.replace(
                    "throttle_time_ms: 0",
                    &format!("throttle_time_ms: {}", WAIT.as_millis()),
                );
                let has_place = place(api.card.key, version).is_some();
                let expected = if has_place { expected } else { before.clone() };
                assert_eq!(after, expected, "{} v{version}", api.card.name);
                assert_eq!(before != after, has_place, "{} v{version}", api.card.name);
                told += usize::from(has_place);
            }
        }
        assert!(told > 50, "{told}");
    }

    /// The answer as the message crate reads and shows it.
    fn read(api: &Api, version: i16, answer: &Response) -> String {
        let mut bytes = Bytes::from(answer.parts.concat());
        let flexible = api.card.shape.is_flexible(version) && api.card.key != API_VERSIONS_KEY;
        let _header = bytes.split_to(if flexible { 5 } else { 4 });
        (api.read)(bytes, version).expect("an answer")
    }

    #[test]
    fn without_quotas_nothing_is_measured() {
        let node = Node::new();
        let api = &APIS[3];
        let request = frame(api, 1, &body_in(Style::Plausible, &api.card.shape, 1, 1));
        assert!(node.service.meter(&node.cx, &request).is_none());
    }
}

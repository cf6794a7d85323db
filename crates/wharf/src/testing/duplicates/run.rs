//! One run: a schedule from the beginning to the effects.

use bytes::{BufMut as _, BytesMut};
use wharf_message::transport::Position;
use wharf_message::{Message, Timestamp, header};

use super::effects::{Ignored, Normal};
use super::plan::twisted;
use super::schedule::{How, Schedule, Step, Twist};
use super::subject::{Given, Subject};

/// Messages that have no time get one, a second apart.
const FIRST_TIME: &str = "2026-01-01T00:00:00Z";
const APART: std::time::Duration = std::time::Duration::from_secs(1);

/// The positions of a topic with one partition, as a run fills them.
struct Log<'a> {
    messages: &'a [Message],
    /// All positions in order.
    given: Vec<Given>,
    /// Where each message's first delivery is.
    first: Vec<Option<usize>>,
}

impl Log<'_> {
    /// The next delivery of a message: from its position, or a copy at the end.
    fn next(&mut self, message: usize, copy: bool) -> Given {
        let known = self.first[message].filter(|_| !copy);
        let at = known.unwrap_or_else(|| {
            let mut content = self.messages[message].clone();
            if copy && let Some(time) = &mut content.timestamp {
                *time = time.after(APART * u32::try_from(self.messages.len()).unwrap_or(u32::MAX));
            }
            let position = Position {
                partition: 0,
                offset: self.given.len() as i64,
            };
            self.given.push(Given {
                number: message,
                position,
                attempt: 0,
                message: content,
            });
            self.given.len() - 1
        });
        self.first[message].get_or_insert(at);
        self.given[at].attempt += 1;
        self.given[at].clone()
    }

    /// The last deliveries again.
    fn last(&mut self, count: usize) -> Vec<Given> {
        let begin = self.given.len().saturating_sub(count);
        let last = &mut self.given[begin..];
        last.iter_mut().for_each(|given| given.attempt += 1);
        last.to_vec()
    }
}

/// Runs a schedule on a consumer that begins anew. The schedule names no message that there is not.
pub(super) async fn run<S: Subject>(
    subject: &mut S,
    messages: &[Message],
    schedule: &Schedule,
    ignored: &Ignored,
) -> Result<Normal, S::Error> {
    let mut ignored = ignored.clone();
    let messages = prepared(messages, schedule.twist, &mut ignored);
    let mut log = Log {
        messages: &messages,
        given: Vec::new(),
        first: vec![None; messages.len()],
    };
    subject.reset().await?;
    for step in &schedule.steps {
        match *step {
            Step::Deliver { message, how } => {
                let given = log.next(message, how == How::Copy);
                subject.deliver(&given, how).await?;
            }
            Step::Restart => subject.restart().await?,
            Step::Rewind(count) => subject.rewind(&log.last(count)).await?,
            Step::Window => subject.pass_window().await?,
        }
    }
    Ok(subject.effects().await?.normalize(&ignored))
}

/// The messages with a time each, and changed by the twist.
fn prepared(messages: &[Message], twist: Option<Twist>, ignored: &mut Ignored) -> Vec<Message> {
    let mut messages = messages.to_vec();
    let mut time = Timestamp::parse_rfc3339(FIRST_TIME);
    for message in &mut messages {
        message.timestamp = message.timestamp.or(time);
        time = time.map(|time| time.after(APART));
    }
    let changes = twist.map(|twist| (twist, twisted(&messages, twist)));
    let (twist, changes) = changes.unzip();
    for (at, number) in changes.unwrap_or_default() {
        let message = &mut messages[at];
        match twist {
            Some(Twist::PayloadsApart) => {
                let payload = message.payload.take().unwrap_or_default();
                let mut longer = BytesMut::from(&payload[..]);
                longer.put_bytes(b' ', number);
                message.payload = Some(longer.freeze());
            }
            Some(Twist::IdsApart) => {
                let id = message
                    .headers
                    .get(header::CE_ID)
                    .cloned()
                    .unwrap_or_default();
                let mark = format!("-apart-{number}");
                message
                    .headers
                    .set(header::CE_ID, [&id, mark.as_bytes()].concat());
                ignored.push_mark(&mark);
            }
            None => {}
        }
    }
    messages
}

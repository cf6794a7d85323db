//! A message: the bytes one service hands to others, with a key and headers.
//!
//! Nothing here interprets a payload. Header names are text and values are bytes, as on the wire:
//! whoever needs text asks for it and gets an error, never a silently changed value.

use std::borrow::Cow;
use std::fmt;
use std::str::Utf8Error;
use std::sync::Arc;

use bytes::Bytes;

use crate::Timestamp;

/// A message as it is published and delivered. Cloning copies neither payload nor headers.
///
/// ```
/// use wharf_message::{Message, Timestamp};
///
/// let mut message = Message::new("hello").with_key("k").with_header("lang", "en");
/// message.timestamp = Some(Timestamp::from_millis(5));
/// assert_eq!(message.size(), "k".len() + "hello".len() + "langen".len());
/// let tombstone = Message { payload: None, ..message };
/// assert_ne!(tombstone, Message::new("").with_key("k").with_header("lang", "en"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Decides the partition, and so what is kept in order with what.
    pub key: Option<Bytes>,
    /// The payload; `None` is Kafka's tombstone, which is not the same as an empty payload.
    pub payload: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
    /// When it was made; the transport fills it in where it is `None` and it keeps times.
    pub timestamp: Option<Timestamp>,
}

impl Message {
    /// A message with a payload and nothing else.
    ///
    /// ```
    /// use wharf_message::Message;
    ///
    /// let message = Message::new("hello").with_key("greetings").with_header("lang", "en");
    /// assert_eq!(message.headers.text("lang"), Ok(Some("en")));
    /// ```
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: Some(payload.into()),
            ..Self::default()
        }
    }

    /// The same with this key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Bytes>,
    ) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Its size as it counts against limits: key, payload and headers, in bytes.
    pub fn size(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(n, v)| n.len() + v.map_or(0, <[u8]>::len))
            .sum();
        self.key.as_ref().map_or(0, Bytes::len)
            + self.payload.as_ref().map_or(0, Bytes::len)
            + headers
    }
}

/// Headers in order; a name may repeat. A value may be absent, which is not the same as empty. Clones
/// share them until one is changed.
///
/// ```
/// use wharf_message::Headers;
///
/// let mut headers = Headers::with_capacity(3);
/// headers.push("hop", "one");
/// headers.push("hop", "two");
/// headers.push_raw("flag", None);
/// assert_eq!(headers.text("hop"), Ok(Some("two")));
/// assert!(headers.contains("flag") && headers.get("flag").is_none());
///
/// headers.set("hop", vec![0xff]);
/// assert_eq!(headers.len(), 2);
/// assert_eq!(headers.text("hop").unwrap_err().name, "hop");
///
/// headers.retain(|name| name == "hop");
/// headers.remove("hop");
/// assert!(headers.is_empty());
/// assert_eq!(headers.iter().count(), 0);
/// ```
#[derive(Clone, Default)]
pub struct Headers(Option<Arc<Vec<Entry>>>);

type Entry = (Cow<'static, str>, Option<Bytes>);

/// A header's value that was expected to be text and is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header {name} is not UTF-8 text: {source}")]
pub struct NotText {
    /// Which header.
    pub name: String,
    /// Where it stops being text.
    pub source: Utf8Error,
}

impl Headers {
    /// None, with room for `capacity`.
    pub fn with_capacity(capacity: usize) -> Self {
        Self::from_entries(Vec::with_capacity(capacity))
    }

    /// Without headers nothing is allocated.
    fn from_entries(entries: Vec<Entry>) -> Self {
        Self((entries.capacity() > 0).then(|| Arc::new(entries)))
    }

    fn entries(&self) -> &[Entry] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// To change them: a copy, if another clone has them too.
    fn entries_mut(&mut self) -> &mut Vec<Entry> {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    /// Adds a header after the others, whether or not the name is there already.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Bytes>) {
        self.push_raw(name, Some(value.into()));
    }

    /// Adds a header that may have no value.
    pub fn push_raw(&mut self, name: impl Into<Cow<'static, str>>, value: Option<Bytes>) {
        self.entries_mut().push((name.into(), value));
    }

    /// Sets a header: replaces the first of that name and removes the others, or adds it.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Bytes>) {
        let (name, value) = (name.into(), Some(value.into()));
        let entries = self.entries_mut();
        match entries.iter().position(|(known, _)| *known == name) {
            Some(first) => {
                entries[first].1 = value;
                let mut at = 0;
                entries.retain(|(known, _)| {
                    at += 1;
                    at - 1 <= first || *known != name
                });
            }
            None => entries.push((name, value)),
        }
    }

    /// Removes every header of that name.
    pub fn remove(&mut self, name: &str) {
        self.retain(|known| known != name);
    }

    /// Keeps the headers for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        if self.0.is_some() {
            self.entries_mut().retain(|(name, _)| keep(name));
        }
    }

    /// The value of the last header of that name (the newest, where hops append).
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        let found = self.entries().iter().rev().find(|(known, _)| known == name);
        found.and_then(|(_, value)| value.as_ref())
    }

    /// The values of the last headers of these names, as [`get`](Self::get) of each, found in one pass.
    ///
    /// ```
    /// use wharf_message::{Headers, header};
    ///
    /// let mut headers = Headers::default();
    /// headers.push(header::CE_TYPE, "shop.order.placed");
    /// let [kind, expires_at] = headers.get_all([header::CE_TYPE, header::EXPIRES_AT]);
    /// assert_eq!((kind.map(|kind| kind.len()), expires_at), (Some(17), None));
    /// ```
    #[inline]
    pub fn get_all<const N: usize>(&self, names: [&str; N]) -> [Option<&Bytes>; N] {
        let mut found = [None; N];
        for (name, value) in self.entries() {
            let name: &str = name;
            if let Some(at) = names.iter().position(|wanted| *wanted == name) {
                found[at] = value.as_ref();
            }
        }
        found
    }

    /// Whether there is a header of that name, with or without a value.
    pub fn contains(&self, name: &str) -> bool {
        self.entries().iter().any(|(known, _)| known == name)
    }

    /// The value of the last header of that name as text.
    ///
    /// # Errors
    /// [`NotText`] when its bytes are not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>, NotText> {
        let text = |value| {
            std::str::from_utf8(value).map_err(|source| NotText {
                name: name.to_owned(),
                source,
            })
        };
        self.get(name).map(|value| text(value)).transpose()
    }

    /// All, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> {
        self.entries()
            .iter()
            .map(|(name, value)| (&**name, value.as_deref()))
    }

    /// All, in order, with what they own.
    pub fn into_entries(self) -> Vec<(Cow<'static, str>, Option<Bytes>)> {
        self.0.map_or_else(Vec::new, Arc::unwrap_or_clone)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }
}

impl FromIterator<(Cow<'static, str>, Option<Bytes>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (Cow<'static, str>, Option<Bytes>)>>(entries: I) -> Self {
        Self::from_entries(entries.into_iter().collect())
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.entries() == other.entries()
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Headers")
            .field(&self.entries())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_header_leaves_one_of_its_name_in_the_place_of_the_first() {
        let mut headers = Headers::default();
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("a", "5")] {
            headers.push(name, value);
        }
        headers.set("a", "6");
        headers.set("d", "7");
        let all: Vec<_> = headers.iter().map(|(name, _)| name).collect();
        assert_eq!(all, ["a", "b", "c", "d"]);
        assert_eq!(headers.text("a"), Ok(Some("6")));
    }

    #[test]
    fn a_clone_keeps_its_headers_when_the_other_is_changed() {
        let mut headers = Headers::default();
        assert_eq!(headers, Headers::with_capacity(3));
        headers.push("a", "1");
        let kept = headers.clone();
        headers.set("a", "2");
        headers.push("b", "3");
        assert_eq!((kept.len(), kept.text("a")), (1, Ok(Some("1"))));
        assert_eq!((headers.len(), headers.text("a")), (2, Ok(Some("2"))));
        headers.retain(|_| false);
        assert_eq!(headers, Headers::default());
    }

    #[test]
    fn the_last_of_a_repeated_header_counts_and_what_is_no_text_is_told() {
        let mut headers = Headers::default();
        headers.push("hop", "one");
        headers.push("hop", vec![0xff, 0xfe]);
        headers.push_raw("none", None);
        assert_eq!(headers.get("hop").map(Bytes::len), Some(2));
        assert!(headers.text("hop").is_err());
        assert!(headers.contains("none"));
        assert_eq!(headers.text("none"), Ok(None));
        let all = headers.get_all(["none", "hop", "other"]);
        assert_eq!(all, ["none", "hop", "other"].map(|name| headers.get(name)));
        headers.push_raw("hop", None);
        assert_eq!(headers.get_all(["hop"]), [headers.get("hop")]);
    }
}

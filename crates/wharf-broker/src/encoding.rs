//! The compact encoding of values in the durable state.
//!
//! A value is a version byte and then fields: big-endian numbers, and byte strings with a `u32`
//! length. Decoding never panics and never allocates more than the input holds; what is wrong is
//! named. A value of an unknown version is refused, never guessed at.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Error, ErrorKind};

/// Writes one value.
#[derive(Debug)]
pub(crate) struct Encoder {
    out: BytesMut,
}

impl Encoder {
    /// A value of `version`.
    pub(crate) fn new(version: u8) -> Self {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(version);
        Self { out }
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.out.put_u8(value);
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.out.put_u32(value);
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.out.put_u64(value);
        self
    }

    pub(crate) fn i32(&mut self, value: i32) -> &mut Self {
        self.out.put_i32(value);
        self
    }

    pub(crate) fn i64(&mut self, value: i64) -> &mut Self {
        self.out.put_i64(value);
        self
    }

    /// Bytes of a length both sides know.
    pub(crate) fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.out.put_slice(value);
        self
    }

    /// A byte string; longer than 4 GiB cannot be in memory limits the callers keep.
    pub(crate) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        let length = u32::try_from(value.len()).expect("values are far below 4 GiB");
        self.out.put_u32(length);
        self.out.put_slice(value);
        self
    }

    pub(crate) fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// A byte string that may be absent.
    pub(crate) fn optional(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            None => self.u8(0),
            Some(value) => self.u8(1).bytes(value),
        }
    }

    pub(crate) fn finish(self) -> Bytes {
        self.out.freeze()
    }
}

/// Reads one value; every failure names `what` was being read.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Decoder<'a> {
    /// Starts reading a value, which must be of `version`.
    pub(crate) fn new(what: &'static str, version: u8, value: &'a [u8]) -> Result<Self, Error> {
        let mut decoder = Self { rest: value, what };
        let found = decoder.u8()?;
        if found == version {
            Ok(decoder)
        } else {
            Err(decoder.invalid(&format!(
                "its version is {found}; this node reads {version}"
            )))
        }
    }

    /// An error about the value being read.
    pub(crate) fn invalid(&self, reason: &str) -> Error {
        Error::new(
            ErrorKind::UnknownServerError,
            format!("the stored {} cannot be decoded: {reason}", self.what),
        )
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.invalid("it ends too early"));
        };
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Error> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Error> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Exactly `N` bytes.
    pub(crate) fn raw<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.array()
    }

    /// The number of items that follow, each at least `bytes_min` long: so that a vector of that
    /// capacity is bounded by the input.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, Error> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count > self.rest.len() / bytes_min.max(1) {
            return Err(self.invalid("a count exceeds its size"));
        }
        Ok(count)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        let Some((head, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.invalid("a length exceeds its size"));
        };
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Error> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_error| self.invalid("a text is not UTF-8"))
    }

    pub(crate) fn optional(&mut self) -> Result<Option<&'a [u8]>, Error> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.bytes().map(Some),
            _ => Err(self.invalid("an optional field is neither absent nor present")),
        }
    }

    /// The value must end here.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.invalid(&format!("{} bytes follow its end", self.rest.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(number: i64, text: &str, optional: Option<&[u8]>) -> Bytes {
        let mut encoder = Encoder::new(1);
        encoder.i64(number).text(text).optional(optional);
        encoder.finish()
    }

    fn decode(value: &[u8]) -> Result<(i64, String, Option<Vec<u8>>), Error> {
        let mut decoder = Decoder::new("test value", 1, value)?;
        let number = decoder.i64()?;
        let text = decoder.text()?.to_owned();
        let optional = decoder.optional()?.map(<[u8]>::to_vec);
        decoder.finish()?;
        Ok((number, text, optional))
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(number: i64, text: String, optional: Option<Vec<u8>>) {
            let value = encode(number, &text, optional.as_deref());
            prop_assert_eq!(decode(&value).unwrap(), (number, text, optional));
        }

        #[test]
        fn hostile_bytes_are_refused_by_name(value: Vec<u8>) {
            if let Err(error) = decode(&value) {
                prop_assert!(error.message.contains("test value"));
            }
        }

        #[test]
        fn every_truncation_is_refused(text in "[a-z]{0,9}", cut: prop::sample::Index) {
            let value = encode(7, &text, Some(b"x"));
            prop_assert!(decode(&value[..cut.index(value.len())]).is_err());
        }
    }

    #[test]
    fn an_unknown_version_and_a_count_beyond_the_input_are_refused() {
        assert!(Decoder::new("thing", 1, &[2]).is_err());
        let mut decoder = Decoder::new("thing", 1, &[1, 255, 255, 255, 255, 0]).unwrap();
        assert!(decoder.count(1).is_err());
    }
}

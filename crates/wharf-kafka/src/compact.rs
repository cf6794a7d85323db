//! The wire types of the few messages whose newest version the message crate does not know.
//!
//! Compact encoding only, since all of those versions are flexible. A body read here has passed
//! its [`Shape`](crate::shape::Shape); still nothing here panics or trusts a length.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::Disconnect;

/// The body ended early, or a value in it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body does not hold what its version says")]
pub(crate) struct Truncated;

impl From<Truncated> for Disconnect {
    fn from(truncated: Truncated) -> Self {
        Self(format!("the request cannot be decoded: {truncated}"))
    }
}

/// A body being read.
pub(crate) struct Input(Bytes);

impl Input {
    pub(crate) fn new(body: Bytes) -> Self {
        Self(body)
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, Truncated> {
        self.0
            .try_get_u8()
            .map(|byte| byte != 0)
            .map_err(|_short| Truncated)
    }

    pub(crate) fn int8(&mut self) -> Result<i8, Truncated> {
        self.0.try_get_i8().map_err(|_short| Truncated)
    }

    pub(crate) fn int16(&mut self) -> Result<i16, Truncated> {
        self.0.try_get_i16().map_err(|_short| Truncated)
    }

    pub(crate) fn int32(&mut self) -> Result<i32, Truncated> {
        self.0.try_get_i32().map_err(|_short| Truncated)
    }

    pub(crate) fn int64(&mut self) -> Result<i64, Truncated> {
        self.0.try_get_i64().map_err(|_short| Truncated)
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, Truncated> {
        self.0
            .try_get_u128()
            .map(Uuid::from_u128)
            .map_err(|_short| Truncated)
    }

    /// A text that may not be null.
    pub(crate) fn text(&mut self) -> Result<StrBytes, Truncated> {
        self.nullable_text()?.ok_or(Truncated)
    }

    pub(crate) fn nullable_text(&mut self) -> Result<Option<StrBytes>, Truncated> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        let bytes = self.take(length)?;
        StrBytes::from_utf8(bytes)
            .map(Some)
            .map_err(|_invalid| Truncated)
    }

    /// An array that may not be null.
    pub(crate) fn array<T>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<T, Truncated>,
    ) -> Result<Vec<T>, Truncated> {
        self.nullable_array(element)?.ok_or(Truncated)
    }

    pub(crate) fn nullable_array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, Truncated>,
    ) -> Result<Option<Vec<T>>, Truncated> {
        let Some(count) = self.length()? else {
            return Ok(None);
        };
        (0..count)
            .map(|_| element(self))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Skips the tagged fields that end a struct; none is known to these versions.
    pub(crate) fn tagged(&mut self) -> Result<(), Truncated> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let size = self.varint()?;
            self.take(usize::try_from(size).map_err(|_large| Truncated)?)?;
        }
        Ok(())
    }

    /// A compact length; `None` for null. No element is shorter than a byte.
    fn length(&mut self) -> Result<Option<usize>, Truncated> {
        let length = self
            .varint()?
            .checked_sub(1)
            .map(usize::try_from)
            .transpose();
        match length.map_err(|_large| Truncated)? {
            Some(length) if length > self.0.remaining() => Err(Truncated),
            length => Ok(length),
        }
    }

    fn take(&mut self, size: usize) -> Result<Bytes, Truncated> {
        if size > self.0.remaining() {
            return Err(Truncated);
        }
        Ok(self.0.split_to(size))
    }

    fn varint(&mut self) -> Result<u32, Truncated> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.0.try_get_u8().map_err(|_short| Truncated)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_large| Truncated);
            }
        }
        Err(Truncated)
    }
}

/// Writes a length or a count plus one, as the compact encoding has it.
pub(crate) fn put_length(out: &mut BytesMut, length: usize) {
    put_varint(out, length as u64 + 1);
}

/// Writes a text.
pub(crate) fn put_text(out: &mut BytesMut, text: &str) {
    put_length(out, text.len());
    out.put_slice(text.as_bytes());
}

/// Ends a struct that has no tagged fields.
pub(crate) fn put_no_tags(out: &mut BytesMut) {
    out.put_u8(0);
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

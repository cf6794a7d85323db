//! One walk over one body. Every read is checked against what is left; the depth is the depth of
//! the shape, never of the input.

use super::{ELEMENTS_MAX, Field, Kind, Malformed, TAGGED_FIELDS_MAX};

/// The longest varint of 32 bits.
const VARINT_BYTES_MAX: usize = 5;

pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    version: i16,
    flexible: bool,
    elements_left: usize,
    tagged_left: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(bytes: &'a [u8], version: i16, flexible: bool) -> Self {
        Self {
            bytes,
            at: 0,
            version,
            flexible,
            elements_left: ELEMENTS_MAX,
            tagged_left: TAGGED_FIELDS_MAX,
        }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Array elements walked over so far.
    pub(super) fn elements(&self) -> usize {
        ELEMENTS_MAX - self.elements_left
    }

    /// The fields of a struct, and its tagged fields.
    pub(super) fn structure(&mut self, fields: &[Field]) -> Result<(), Malformed> {
        let version = self.version;
        for field in fields
            .iter()
            .filter(|field| field.tag.is_none() && field.exists_in(version))
        {
            self.value(field.kind)?;
        }
        if self.flexible {
            self.tagged(fields)
        } else {
            Ok(())
        }
    }

    /// A text with a length of two bytes, whatever the version (the header's client id).
    pub(crate) fn rigid_text(&mut self) -> Result<Option<&'a str>, Malformed> {
        let length = i16::from_be_bytes(self.array()?);
        let Some(length) = self.length(i64::from(length))? else {
            return Ok(None);
        };
        let bytes = self.take(length)?;
        self.utf8(bytes).map(Some)
    }

    /// The tagged fields that end a struct or a header; those in `known` have a shape.
    pub(crate) fn tagged(&mut self, known: &[Field]) -> Result<(), Malformed> {
        let count = self.varint()? as usize;
        self.tagged_left = self
            .tagged_left
            .checked_sub(count)
            .ok_or_else(|| self.fail("there are too many tagged fields"))?;
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            let end = self
                .at
                .checked_add(size)
                .filter(|end| *end <= self.bytes.len());
            let end = end.ok_or_else(|| self.fail("a tagged field is longer than the frame"))?;
            match known.iter().find(|field| field.tag == Some(tag)) {
                Some(field) if field.exists_in(self.version) => {
                    self.value(field.kind)?;
                    if self.at != end {
                        return Err(self.fail("a tagged field has the wrong size"));
                    }
                }
                Some(_) => return Err(self.fail("a tagged field does not exist in this version")),
                None => self.at = end,
            }
        }
        Ok(())
    }

    fn value(&mut self, kind: Kind) -> Result<(), Malformed> {
        match kind {
            Kind::Fixed(size) => self.take(size).map(drop),
            Kind::Text => self.text(),
            Kind::Bytes => {
                let length = if self.flexible {
                    self.compact()?
                } else {
                    self.int32()?
                };
                self.length(length)?
                    .map_or(Ok(()), |length| self.take(length).map(drop))
            }
            Kind::Array(fields) => self.repeat(|walk| walk.structure(fields)),
            Kind::Items(item) => self.repeat(|walk| walk.value(item.kind)),
            Kind::Optional(fields) => match i8::from_be_bytes(self.array()?) {
                1 => self.structure(fields),
                _ => Ok(()),
            },
            Kind::Struct(fields) => self.structure(fields),
        }
    }

    fn text(&mut self) -> Result<(), Malformed> {
        if !self.flexible {
            return self.rigid_text().map(drop);
        }
        let length = self.compact()?;
        let Some(length) = self.length(length)? else {
            return Ok(());
        };
        if length > i16::MAX as usize {
            return Err(self.fail("a text is too long"));
        }
        let bytes = self.take(length)?;
        self.utf8(bytes).map(drop)
    }

    fn repeat(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let count = if self.flexible {
            self.compact()?
        } else {
            self.int32()?
        };
        let Some(count) = self.length(count)? else {
            return Ok(());
        };
        self.elements_left = self
            .elements_left
            .checked_sub(count)
            .ok_or_else(|| self.fail("there are too many array elements"))?;
        (0..count).try_for_each(|_| element(self))
    }

    /// A length as read: `None` for null. No element is shorter than a byte, so no length, of
    /// bytes or of elements, may exceed what is left.
    fn length(&self, length: i64) -> Result<Option<usize>, Malformed> {
        match length {
            -1 => Ok(None),
            _ => match usize::try_from(length) {
                Ok(length) if length <= self.bytes.len() - self.at => Ok(Some(length)),
                Ok(_) => Err(self.fail("a length exceeds the frame")),
                Err(_) => Err(self.fail("a length is negative")),
            },
        }
    }

    fn int32(&mut self) -> Result<i64, Malformed> {
        self.array()
            .map(|bytes| i64::from(i32::from_be_bytes(bytes)))
    }

    /// A compact length: one more than the length, zero for null.
    fn compact(&mut self) -> Result<i64, Malformed> {
        self.varint().map(|value| i64::from(value) - 1)
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u64;
        for index in 0..VARINT_BYTES_MAX {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                let value = u32::try_from(value).ok();
                return value.ok_or_else(|| self.fail("a varint is too large"));
            }
        }
        Err(self.fail("a varint is too long"))
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], Malformed> {
        let end = self
            .at
            .checked_add(size)
            .filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.fail("the frame ends too early"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("take returns exactly N bytes"))
    }

    fn utf8(&self, bytes: &'a [u8]) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(bytes).ok();
        text.ok_or_else(|| self.fail("a text is not UTF-8"))
    }

    fn fail(&self, what: &'static str) -> Malformed {
        Malformed { at: self.at, what }
    }
}

//! Avro's binary encoding, the simple types of it, and what reading may cost.
//!
//! Every length is compared with the bytes that are left before anything is taken or allocated, and
//! everything that is made of a payload is paid for from an allowance that grows with the payload:
//! values that take no bytes (nulls, empty records) cannot be multiplied without end.

use serde_json::Value;

use super::check::Steps;
use super::graph::{Graph, NodeId};
use crate::Unreadable;

/// How deep values may nest in a payload; recursive types reach it, flat ones never.
pub(super) const VALUE_DEPTH_MAX: usize = 512;
/// What any payload may cost, in bytes of memory.
const ALLOWANCE: usize = 16 << 20;
/// What it may cost more for each of its bytes.
const ALLOWANCE_PER_BYTE: usize = 256;
/// What a value costs beside its own bytes.
const VALUE_COST: usize = 32;

/// How much of a place an error shows, from its end.
const SHOWN_MAX: usize = 16;

/// One step to a place in a record; map entries go by their number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'a> {
    Name(&'a str),
    Index(usize),
    /// A branch of the reader's union, which the record does not have.
    Unwritten,
}

/// A payload, read from the front.
#[derive(Debug)]
pub(super) struct Input<'p, 's> {
    rest: &'p [u8],
    allowance: usize,
    /// Where the reading is, for errors.
    pub(super) path: Vec<Piece<'s>>,
}

impl<'p, 's> Input<'p, 's> {
    pub(super) fn new(payload: &'p [u8]) -> Self {
        Self {
            rest: payload,
            allowance: ALLOWANCE + ALLOWANCE_PER_BYTE.saturating_mul(payload.len()),
            path: Vec::new(),
        }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'p [u8] {
        self.rest
    }

    /// Goes back to what [`Self::rest`] gave.
    pub(super) fn rewind(&mut self, rest: &'p [u8]) {
        self.rest = rest;
    }

    /// An error at this place.
    pub(super) fn wrong(&self, what: impl std::fmt::Display) -> Unreadable {
        let mut place = String::new();
        let hidden = self.path.len().saturating_sub(SHOWN_MAX);
        if hidden > 0 {
            place.push('…');
        }
        for piece in &self.path[hidden..] {
            match piece {
                Piece::Name(name) => place.extend(["/", name]),
                Piece::Index(index) => place.extend(["/", &index.to_string()]),
                Piece::Unwritten => {}
            }
        }
        if place.is_empty() {
            place.push('/');
        }
        Unreadable::new(format!("{what}, at {place}"))
    }

    /// Pays for a value and `more` bytes with it.
    pub(super) fn pay(&mut self, more: usize) -> Result<(), Unreadable> {
        match self.allowance.checked_sub(VALUE_COST.saturating_add(more)) {
            Some(left) => {
                self.allowance = left;
                Ok(())
            }
            None => Err(self.wrong("the payload stands for far more than its bytes could hold")),
        }
    }

    /// Whether a default fits a type; each look at a part of it is paid for.
    pub(super) fn fits(
        &mut self,
        graph: &Graph,
        node: NodeId,
        default: &Value,
    ) -> Result<bool, Unreadable> {
        let before = self.allowance / VALUE_COST;
        let mut steps = Steps {
            left: before,
            depth_max: VALUE_DEPTH_MAX,
        };
        let fits = steps.fits(graph, node, default, 0);
        self.allowance -= (before - steps.left) * VALUE_COST;
        fits.map_err(|error| self.wrong(error))
    }

    /// Enters a value within a value.
    pub(super) fn enter(&mut self, piece: Piece<'s>) -> Result<(), Unreadable> {
        self.path.push(piece);
        if self.path.len() > VALUE_DEPTH_MAX {
            return Err(self.wrong(format_args!(
                "values are nested deeper than {VALUE_DEPTH_MAX}"
            )));
        }
        Ok(())
    }

    /// Leaves it again.
    pub(super) fn leave(&mut self) {
        self.path.pop();
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'p [u8], Unreadable> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.wrong(format_args!(
                "{count} bytes are announced and {} are left",
                self.rest.len()
            ))),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(self.wrong("the payload ends too early")),
        }
    }

    pub(super) fn long(&mut self) -> Result<i64, Unreadable> {
        let mut bits = 0u64;
        for index in 0..10u32 {
            let [byte] = self.array()?;
            let low = u64::from(byte & 0x7f);
            if index == 9 && low > 1 {
                break;
            }
            bits |= low << (7 * index);
            if byte < 0x80 {
                return Ok((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed());
            }
        }
        Err(self.wrong("a number is longer than ten bytes"))
    }

    pub(super) fn int(&mut self) -> Result<i32, Unreadable> {
        let long = self.long()?;
        i32::try_from(long).map_err(|_beyond| self.wrong(format_args!("{long} is no int")))
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Unreadable> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.wrong(format_args!("the byte {other} is no boolean"))),
        }
    }

    pub(super) fn float(&mut self) -> Result<f32, Unreadable> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    pub(super) fn double(&mut self) -> Result<f64, Unreadable> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// Bytes behind their length.
    pub(super) fn bytes(&mut self) -> Result<&'p [u8], Unreadable> {
        let count = self.long()?;
        let count = usize::try_from(count)
            .map_err(|_negative| self.wrong(format_args!("a length is {count}")))?;
        self.take(count)
    }

    pub(super) fn string(&mut self) -> Result<&'p str, Unreadable> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes)
            .map_err(|error| self.wrong(format_args!("a string is not UTF-8: {error}")))
    }

    /// A number below `count`: an enum's symbol or a union's branch.
    pub(super) fn choice(&mut self, count: usize, what: &str) -> Result<usize, Unreadable> {
        let long = self.long()?;
        usize::try_from(long)
            .ok()
            .filter(|index| *index < count)
            .ok_or_else(|| self.wrong(format_args!("there is no {what} {long} of {count}")))
    }

    /// How many items the next block has, 0 at the end, and how many bytes where that is said.
    pub(super) fn block(&mut self) -> Result<(u64, Option<usize>), Unreadable> {
        let count = self.long()?;
        if count >= 0 {
            return Ok((count.cast_unsigned(), None));
        }
        let bytes = self.long()?;
        let bytes = usize::try_from(bytes)
            .ok()
            .filter(|bytes| *bytes <= self.rest.len())
            .ok_or_else(|| self.wrong(format_args!("a block of {bytes} bytes is announced")))?;
        Ok((count.unsigned_abs(), Some(bytes)))
    }
}

pub(super) fn put_long(out: &mut Vec<u8>, long: i64) {
    let mut bits = (long << 1 ^ long >> 63).cast_unsigned();
    while bits >= 0x80 {
        let [low, ..] = bits.to_le_bytes();
        out.push(low | 0x80);
        bits >>= 7;
    }
    let [low, ..] = bits.to_le_bytes();
    out.push(low);
}

pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    put_long(out, i64::try_from(length).unwrap_or(i64::MAX));
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_whatever_their_size() {
        for long in [0, -1, 1, 63, 64, -64, -65, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_long(&mut bytes, long);
            assert_eq!(Input::new(&bytes).long(), Ok(long));
        }
        assert!(Input::new(&[0xff; 11]).long().is_err());
        assert!(Input::new(&[0x80]).long().is_err());
    }

    #[test]
    fn a_length_beyond_the_payload_takes_nothing() {
        let mut bytes = Vec::new();
        put_long(&mut bytes, i64::MAX);
        assert!(Input::new(&bytes).bytes().is_err());
        bytes.clear();
        put_long(&mut bytes, -1);
        assert!(Input::new(&bytes).bytes().is_err());
    }
}

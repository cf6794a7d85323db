//! How many values a payload has, before it is decoded: an empty message takes two bytes on the wire
//! and a hundred times that in memory.
//!
//! What is no valid payload is left to the decoder, which says why.

use prost_reflect::prost::bytes::Buf as _;
use prost_reflect::prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{Kind, MessageDescriptor};

use crate::Unreadable;

/// How many values are decoded at most.
const VALUES_MAX: usize = 500_000;

/// Payloads up to this many bytes cannot have too many values.
const BYTES_FREE: usize = 128 << 10;

/// Refuses a payload with too many values.
pub(super) fn check(message: &MessageDescriptor, payload: &[u8]) -> Result<(), Unreadable> {
    if payload.len() <= BYTES_FREE {
        return Ok(());
    }
    let mut left = VALUES_MAX;
    let mut open = vec![(message.clone(), payload)];
    while let Some((message, bytes)) = open.pop() {
        if within(&message, bytes, &mut left, &mut open).is_none() && left == 0 {
            return Err(Unreadable::new(format!(
                "the payload has more than {VALUES_MAX} values"
            )));
        }
    }
    Ok(())
}

/// Counts the values of one message, and puts those inside it on the list. None where there are too
/// many, and where the bytes make no sense.
fn within<'a>(
    message: &MessageDescriptor,
    mut bytes: &'a [u8],
    left: &mut usize,
    open: &mut Vec<(MessageDescriptor, &'a [u8])>,
) -> Option<()> {
    // Groups stand in the bytes of the message around them.
    let mut groups = vec![Some(message.clone())];
    while bytes.has_remaining() {
        spend(left, 1)?;
        let (number, wire) = decode_key(&mut bytes).ok()?;
        let around = groups.last()?.as_ref();
        let kind = around
            .and_then(|message| message.get_field(number))
            .map(|field| field.kind());
        match wire {
            WireType::Varint => {
                decode_varint(&mut bytes).ok()?;
            }
            WireType::ThirtyTwoBit => skip(&mut bytes, 4)?,
            WireType::SixtyFourBit => skip(&mut bytes, 8)?,
            WireType::StartGroup => {
                groups.push(kind.and_then(|kind| kind.as_message().cloned()));
            }
            WireType::EndGroup => {
                groups.pop();
            }
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                let inner = bytes;
                skip(&mut bytes, length)?;
                let inner = &inner[..length];
                match kind {
                    Some(Kind::Message(message)) => open.push((message, inner)),
                    Some(kind) => spend(left, packed(&kind, inner))?,
                    None => {}
                }
            }
        }
    }
    Some(())
}

/// How many values a packed list has, had it been one.
fn packed(kind: &Kind, bytes: &[u8]) -> usize {
    match kind {
        Kind::String | Kind::Bytes | Kind::Message(_) => 0,
        Kind::Fixed32 | Kind::Sfixed32 | Kind::Float => bytes.len() / 4,
        Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => bytes.len() / 8,
        _ => bytes.iter().filter(|byte| **byte < 128).count(),
    }
}

fn spend(left: &mut usize, amount: usize) -> Option<()> {
    let rest = left.checked_sub(amount);
    *left = rest.unwrap_or(0);
    rest.map(|_| ())
}

fn skip(bytes: &mut &[u8], length: usize) -> Option<()> {
    *bytes = bytes.get(length..)?;
    Some(())
}

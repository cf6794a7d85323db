//! Every shape against the message crate's own codec, in every version: bytes made up from the
//! shape decode and encode to the same bytes; damaged ones never panic.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, Message, Request};
use proptest::prelude::*;

use super::{Field, Kind, Shape};
use crate::api::APIS;

/// Decodes a body with the message crate and encodes it again.
pub(crate) type Recode = fn(&Bytes, i16) -> Result<Bytes, String>;

/// Reads a response body with the message crate and shows it; an error when it cannot, or something
/// is left. Versions that the crate does not know are not read.
pub(crate) type Read = fn(Bytes, i16) -> Result<String, String>;

pub(crate) fn read<Q: Request>(mut body: Bytes, version: i16) -> Result<String, String>
where
    Q::Response: std::fmt::Debug,
{
    if version > Q::Response::VERSIONS.max {
        return Ok(String::new());
    }
    let response = Q::Response::decode(&mut body, version).map_err(|error| error.to_string())?;
    match body.len() {
        0 => Ok(format!("{response:?}")),
        left => Err(format!("{left} bytes were left")),
    }
}

pub(crate) fn recode<Q: Decodable + Encodable>(
    body: &Bytes,
    version: i16,
) -> Result<Bytes, String> {
    let mut rest = body.clone();
    let request = Q::decode(&mut rest, version).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err(format!("{} bytes were left", rest.len()));
    }
    let mut out = BytesMut::new();
    request
        .encode(&mut out, version)
        .map_err(|error| error.to_string())?;
    Ok(out.freeze())
}

/// What to fill a shape with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Any numbers.
    Any,
    /// Mostly small numbers, as in true requests.
    Plausible,
    /// The same, and now and then a null, also where none may be.
    WithNulls,
}

/// Makes up bodies of a shape. The numbers come from a small generator so that a seed repeats.
struct Author {
    state: u64,
    version: i16,
    flexible: bool,
    style: Style,
    out: Vec<u8>,
}

impl Author {
    fn next(&mut self) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.state >> 33
    }

    fn structure(&mut self, fields: &[Field]) {
        let version = self.version;
        let (tagged, plain): (Vec<&Field>, Vec<&Field>) = fields
            .iter()
            .filter(|field| field.exists_in(version))
            .partition(|field| field.tag.is_some());
        plain.iter().for_each(|field| self.value(field.kind));
        if !self.flexible {
            return;
        }
        let unknown = self.next() % 2;
        self.varint(tagged.len() as u32 + unknown as u32);
        for field in tagged {
            let outer = std::mem::take(&mut self.out);
            self.value(field.kind);
            let inner = std::mem::replace(&mut self.out, outer);
            self.varint(field.tag.expect("only tagged fields are here"));
            self.varint(inner.len() as u32);
            self.out.extend(inner);
        }
        if unknown == 1 {
            self.varint(4711);
            self.varint(3);
            self.out.extend([1, 2, 3]);
        }
    }

    fn value(&mut self, kind: Kind) {
        match kind {
            Kind::Text | Kind::Bytes | Kind::Array(_) | Kind::Items(_) | Kind::Optional(_)
                if self.style == Style::WithNulls && self.next().is_multiple_of(6) =>
            {
                self.null(kind);
            }
            Kind::Fixed(1) => self.out.push(1),
            Kind::Fixed(size) if self.style != Style::Any && !self.next().is_multiple_of(4) => {
                let number = self.next() as i64 % 4 - 1;
                let number = i128::from(number).to_be_bytes();
                self.out.extend(&number[number.len() - size..]);
            }
            Kind::Fixed(size) => (0..size).for_each(|_| {
                let byte = self.next() as u8;
                self.out.push(byte);
            }),
            Kind::Text => {
                let text: String = (0..=self.next() % 5)
                    .map(|n| char::from(b'a' + n as u8))
                    .collect();
                if self.flexible {
                    self.varint(text.len() as u32 + 1);
                } else {
                    self.out.extend((text.len() as i16).to_be_bytes());
                }
                self.out.extend(text.bytes());
            }
            Kind::Bytes => {
                let size = self.next() as usize % 40;
                self.length(size);
                self.out.extend((0..size).map(|n| n as u8));
            }
            Kind::Array(fields) => self.repeat(|author| author.structure(fields)),
            Kind::Items(item) => self.repeat(|author| author.value(item.kind)),
            Kind::Optional(fields) => {
                self.out.push(1);
                self.structure(fields);
            }
            Kind::Struct(fields) => self.structure(fields),
        }
    }

    fn null(&mut self, kind: Kind) {
        match kind {
            Kind::Optional(_) => self.out.push(0xff),
            _ if self.flexible => self.out.push(0),
            Kind::Text => self.out.extend([0xff; 2]),
            _ => self.out.extend([0xff; 4]),
        }
    }

    fn repeat(&mut self, mut element: impl FnMut(&mut Self)) {
        let count = self.next() as usize % 4;
        self.length(count);
        (0..count).for_each(|_| element(self));
    }

    fn length(&mut self, length: usize) {
        if self.flexible {
            self.varint(length as u32 + 1);
        } else {
            self.out.extend((length as i32).to_be_bytes());
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}

/// A made-up body of `shape` with any numbers.
pub(crate) fn body(shape: &Shape, version: i16, seed: u64) -> Vec<u8> {
    body_in(Style::Any, shape, version, seed)
}

/// A made-up body of `shape`.
pub(crate) fn body_in(style: Style, shape: &Shape, version: i16, seed: u64) -> Vec<u8> {
    let flexible = shape.is_flexible(version);
    let mut author = Author {
        state: seed,
        version,
        flexible,
        style,
        out: Vec::new(),
    };
    author.structure(shape.fields);
    author.out
}

/// Asserts that a codec of our own reads bodies of this version to their last byte, and none that is
/// cut.
pub(crate) fn assert_reads_to_the_last_byte<T, E>(
    shape: &Shape,
    version: i16,
    decode: fn(Bytes) -> Result<T, E>,
) {
    for seed in 0..40 {
        let body = Bytes::from(body(shape, version, seed));
        assert!(decode(body.clone()).is_ok(), "seed {seed}");
        for end in 0..body.len() {
            assert!(
                decode(body.slice(..end)).is_err(),
                "seed {seed} cut at {end}"
            );
        }
    }
}

#[test]
fn every_shape_is_what_the_codec_reads_and_writes_in_every_version() {
    for api in APIS {
        for version in api.codec_versions() {
            for seed in 0..40 {
                let body = body(&api.card.shape, version, seed);
                let at = format!("{} v{version} seed {seed}", api.card.name);
                assert_eq!(api.card.shape.check(&body, version), Ok(body.len()), "{at}");
                let body = Bytes::from(body);
                assert_eq!((api.recode)(&body, version).as_ref(), Ok(&body), "{at}");
            }
        }
    }
}

#[test]
fn a_body_that_ends_early_is_refused_at_every_byte() {
    for api in APIS {
        for version in api.card.answered.clone() {
            let body = body(&api.card.shape, version, 7);
            for end in 0..body.len() {
                let checked = api.card.shape.check(&body[..end], version);
                assert!(
                    checked.is_err(),
                    "{} v{version} cut at {end}: {checked:?}",
                    api.card.name
                );
            }
        }
    }
}

#[test]
fn counts_beyond_the_frame_are_refused_before_anything_is_allocated() {
    const RIGID: Shape = Shape::rigid(&[super::items(&super::INT32)]);
    const FLEXIBLE: Shape = Shape::new(0, &[super::items(&super::INT32)]);
    assert!(RIGID.check(&i32::MAX.to_be_bytes(), 0).is_err());
    assert!(RIGID.check(&(-2_i32).to_be_bytes(), 0).is_err());
    assert!(RIGID.check(&(-1_i32).to_be_bytes(), 0).is_ok());
    assert!(FLEXIBLE.check(&[0xff, 0xff, 0xff, 0xff, 0x0f], 0).is_err());
    assert!(
        FLEXIBLE
            .check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 0)
            .is_err()
    );
    let mut many = Vec::from((super::ELEMENTS_MAX as i32 + 1).to_be_bytes());
    many.resize(5_000_000, 0);
    let refused = RIGID
        .check(&many, 0)
        .expect_err("more elements than allowed");
    assert_eq!(refused.what, "there are too many array elements");
    let mut tagged = vec![0x01, 0x91, 0x4e];
    tagged.resize(100_000, 0);
    let refused = FLEXIBLE
        .check(&tagged, 0)
        .expect_err("more tagged fields than allowed");
    assert_eq!(refused.what, "there are too many tagged fields");
}

proptest! {
    #[test]
    fn what_the_check_accepts_the_codec_takes_or_refuses_but_never_panics_on(
        index in any::<prop::sample::Index>(),
        version in any::<prop::sample::Index>(),
        seed in any::<u64>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let api = &APIS[index.index(APIS.len())];
        let versions: Vec<i16> = api.card.answered.clone().collect();
        let version = versions[version.index(versions.len())];
        let mut body = body(&api.card.shape, version, seed);
        for (at, byte) in damage {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        if api.card.shape.check(&body, version).is_ok() && api.codec_reads(version) {
            let mut rest = Bytes::from(body);
            let _refusal_is_fine = (api.recode)(&rest.split_to(rest.len()), version);
        }
    }
}

//! What compilers leave beside the code they make (`protoc --include_imports --descriptor_set_out`,
//! prost-build, protox): the files of a message, out of a set of compiled ones.
//!
//! A file that nobody needs for the message is left out, as are the well-known ones. The bytes may be
//! anything: lengths are compared with what is left, and nothing recurses.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::prost::Message as _;
use prost_reflect::prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, skip_field,
};
use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto};

use super::{Schema, known};
use crate::{Dependency, Invalid, Limits};

/// How many files a set may have.
const FILES_MAX: usize = 10_000;
/// The number of the field `file` in a `FileDescriptorSet`.
const FILE: u32 = 1;

/// A file of a set, with its bytes: custom options are in no type that we could decode them to.
struct Compiled<'a> {
    bytes: &'a [u8],
    file: FileDescriptorProto,
}

/// The texts of the file of a message and of those that it imports, each after those it imports
/// itself, out of the bytes of a `FileDescriptorSet`.
///
/// # Errors
/// When it is no such set, has no such message, or lacks an import.
pub fn texts_of_set(
    set: &[u8],
    message: &str,
    limits: &Limits,
) -> Result<(String, Vec<Dependency>), Invalid> {
    let files = compiled(set)?;
    let main = files.iter().position(|it| defines(&it.file, message));
    let main =
        main.ok_or_else(|| Invalid::new(format!("no file of the set has the message {message}")))?;
    let needed = needed(&files, main)?;
    let mut texts: Vec<Dependency> = Vec::new();
    for (place, compiled) in files.iter().enumerate().take(main + 1) {
        let name = compiled.file.name();
        if !needed.contains(name) {
            continue;
        }
        let text = text(compiled.bytes, &texts, limits)
            .map_err(|error| Invalid::new(format!("{name}: {}", error.what)))?;
        if place == main {
            return Ok((text, texts));
        }
        texts.push(Dependency {
            name: name.to_owned(),
            text,
        });
    }
    Err(Invalid::new("the set has no such file".to_owned()))
}

/// A file's text, in the one form that does not depend on how it was written: a compiled file has
/// all names in full, spells the entries of maps out, and has every name in JSON.
fn text(bytes: &[u8], imports: &[Dependency], limits: &Limits) -> Result<String, Invalid> {
    let mut schema = Schema::parse(&STANDARD.encode(bytes), imports, limits)?;
    if let Some(plain) = schema.formatted("serialized") {
        schema = Schema::parse(&plain, imports, limits)?;
    }
    Ok(schema.normalized())
}

/// The files of a set.
fn compiled(mut rest: &[u8]) -> Result<Vec<Compiled<'_>>, Invalid> {
    let broken = |error: &dyn std::fmt::Display| {
        Invalid::new(format!("it is no FileDescriptorSet: {error}"))
    };
    let mut files = Vec::new();
    while !rest.is_empty() {
        let (field, wire) = decode_key(&mut rest).map_err(|error| broken(&error))?;
        if field != FILE || wire != WireType::LengthDelimited {
            skip_field(wire, field, &mut rest, DecodeContext::default())
                .map_err(|error| broken(&error))?;
            continue;
        }
        let length = decode_varint(&mut rest).map_err(|error| broken(&error))?;
        let cut = usize::try_from(length).ok();
        let cut = cut.and_then(|length| rest.split_at_checked(length));
        let (bytes, after) = cut.ok_or_else(|| broken(&"a file is longer than the set"))?;
        let file = FileDescriptorProto::decode(bytes).map_err(|error| broken(&error))?;
        files.push(Compiled { bytes, file });
        if files.len() > FILES_MAX {
            return Err(broken(&format_args!("it has more than {FILES_MAX} files")));
        }
        rest = after;
    }
    Ok(files)
}

/// The names of a file and of all that it imports. In a set, each file comes after its imports.
fn needed<'a>(files: &'a [Compiled<'_>], main: usize) -> Result<HashSet<&'a str>, Invalid> {
    let mut needed = HashSet::from([files[main].file.name()]);
    for (place, compiled) in files.iter().enumerate().take(main + 1).rev() {
        if !needed.contains(compiled.file.name()) {
            continue;
        }
        for import in &compiled.file.dependency {
            if known::is_known(import) {
                continue;
            }
            if !files[..place].iter().any(|it| it.file.name() == import) {
                return Err(Invalid::new(format!(
                    "{} imports {import}, which is not before it in the set; compile it with \
                     --include_imports",
                    compiled.file.name()
                )));
            }
            needed.insert(import);
        }
    }
    Ok(needed)
}

/// Whether a file has a message of this full name, at the top or in other messages.
fn defines(file: &FileDescriptorProto, message: &str) -> bool {
    let mut rest = message;
    if !file.package().is_empty() {
        let inner = rest.strip_prefix(file.package());
        let Some(inner) = inner.and_then(|inner| inner.strip_prefix('.')) else {
            return false;
        };
        rest = inner;
    }
    let mut level: &[DescriptorProto] = &file.message_type;
    let mut found = false;
    for name in rest.split('.') {
        let Some(inner) = level.iter().find(|inner| inner.name() == name) else {
            return false;
        };
        (level, found) = (&inner.nested_type, true);
    }
    found
}

#[cfg(test)]
mod tests {
    use protox::prost_reflect::prost_types::FileDescriptorSet;

    use super::*;

    const MONEY: &str = r#"syntax = "proto3"; package shop; message Money { int64 cents = 1; }"#;
    const ORDER: &str = r#"syntax = "proto3"; package shop; import "google/protobuf/timestamp.proto"; import "money.proto";
        message Order {
            message Line { Money price = 1; }
            map<string, Line> lines = 1;
            google.protobuf.Timestamp at = 2;
        }"#;
    const OTHER: &str = r#"syntax = "proto3"; package shop; message Other { string note = 1; }"#;

    fn file(name: &str, text: &str) -> FileDescriptorProto {
        protox::file::File::from_source(name, text).unwrap().into()
    }

    fn set(files: &[(&str, &str)]) -> Vec<u8> {
        let file = files.iter().map(|(name, text)| file(name, text)).collect();
        FileDescriptorSet { file }.encode_to_vec()
    }

    #[test]
    fn a_message_of_a_compiled_set_has_its_file_and_those_it_imports() {
        let whole = set(&[
            ("other.proto", OTHER),
            ("money.proto", MONEY),
            ("order.proto", ORDER),
        ]);
        let limits = Limits::default();
        let (text, imports) = texts_of_set(&whole, "shop.Order.Line", &limits).unwrap();
        let names: Vec<&str> = imports.iter().map(|import| &*import.name).collect();
        assert_eq!(names, ["money.proto"], "{text}");
        let schema = Schema::parse(&text, &imports, &limits).unwrap();
        let written = Schema::parse(ORDER, &imports, &limits).unwrap();
        assert_eq!(schema.normalized(), written.normalized());
        assert_eq!(schema.message_index("shop.Order.Line"), Some(vec![0, 0]));
    }

    #[test]
    fn a_set_that_lacks_something_is_refused_with_what_to_do() {
        let refused = |set: &[u8], message: &str| {
            let error = texts_of_set(set, message, &Limits::default());
            error.unwrap_err().what
        };
        let alone = set(&[("order.proto", ORDER)]);
        assert!(refused(&alone, "shop.Order").contains("--include_imports"));
        assert!(refused(&alone, "shop.Line").contains("shop.Line"));
        assert!(refused(b"no set", "shop.Order").contains("no FileDescriptorSet"));
        let whole = set(&[("money.proto", MONEY)]);
        assert!(refused(&whole[..whole.len() - 1], "shop.Money").contains("longer than"));
    }
}

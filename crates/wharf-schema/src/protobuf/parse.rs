//! From a text, or a descriptor in base64, to descriptors in which every name is resolved.
//!
//! Files are looked for among what the schema refers to, then among the well-known ones, and
//! nowhere else: no path is ever opened. Depth and counts are checked before the parser and the
//! resolver see anything, because both recurse; import chains are followed without recursion.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto};
use prost_reflect::{DescriptorPool, FileDescriptor};

use super::{known, option};
use crate::{Dependency, Invalid, Limits};

/// The file name that a schema itself has among its descriptors.
pub(super) const MAIN: &str = "default";

/// How deep brackets may be nested in a text: the parser recurses. `protoc` allows 32 messages.
const NESTING_MAX: usize = 64;

/// How many types, fields and values a schema may have with all it imports: a resolved one takes
/// [`NODE_BYTES`] in memory.
const NODES_MAX: usize = 50_000;

/// What a type, field or value takes in memory, in bytes, roughly.
pub(super) const NODE_BYTES: usize = 1_024;

/// A file as it was written, options not interpreted yet and entries of maps spelled out where
/// they were.
pub(super) fn raw(name: &str, text: &str, limits: &Limits) -> Result<FileDescriptorProto, Invalid> {
    let mut raw = match serialized(text) {
        Some(raw) => raw,
        None => from_text(name, text, limits)?,
    };
    name.clone_into(raw.name.get_or_insert_default());
    if !matches!(raw.syntax(), "" | "proto2" | "proto3") {
        return Err(Invalid::new(format!(
            "{name}: syntax {:?} is not supported; proto2 and proto3 are",
            raw.syntax()
        )));
    }
    Ok(raw)
}

/// A `FileDescriptorProto` in base64, which some clients send instead of a text.
fn serialized(text: &str) -> Option<FileDescriptorProto> {
    let bytes = sent(text)?;
    let mut raw = FileDescriptorProto::decode(&bytes[..]).ok()?;
    raw.source_code_info = None;
    for message in &mut raw.message_type {
        option::write_map_entry(message);
    }
    Some(raw)
}

/// The bytes of what is written in base64.
pub(super) fn sent(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    if text.is_empty() || !text.bytes().all(is_base64) {
        return None;
    }
    STANDARD.decode(text).ok()
}

fn from_text(name: &str, text: &str, limits: &Limits) -> Result<FileDescriptorProto, Invalid> {
    let nesting = nesting(text);
    let allowed = limits.depth_max.min(NESTING_MAX);
    if nesting > allowed {
        return Err(Invalid::new(format!(
            "{name}: brackets are nested {nesting} deep; at most {allowed} are allowed"
        )));
    }
    match protox::file::File::from_source(name, text) {
        Ok(file) => Ok(file.into()),
        Err(_) if first_word(text) == "edition" => Err(Invalid::new(format!(
            "{name}: editions are not supported; proto2 and proto3 are"
        ))),
        // The long form has line and column.
        Err(error) => Err(Invalid::new(format!("{error:?}"))),
    }
}

/// The text without its comments and the contents of its strings.
fn code(text: &str) -> impl Iterator<Item = char> + '_ {
    let mut letters = text.chars().peekable();
    std::iter::from_fn(move || {
        let letter = letters.next()?;
        match (letter, letters.peek()) {
            ('/', Some('/')) => {
                letters.by_ref().find(|letter| *letter == '\n');
                Some(' ')
            }
            ('/', Some('*')) => {
                letters.next();
                let mut last = ' ';
                letters.by_ref().find(|letter| {
                    let is_end = last == '*' && *letter == '/';
                    last = *letter;
                    is_end
                });
                Some(' ')
            }
            ('"' | '\'', _) => {
                while let Some(inner) = letters.next() {
                    match inner {
                        '\\' => drop(letters.next()),
                        '\n' => break,
                        inner if inner == letter => break,
                        _ => {}
                    }
                }
                Some('"')
            }
            _ => Some(letter),
        }
    })
}

/// How deep brackets are nested.
pub(super) fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for letter in code(text) {
        match letter {
            '{' | '[' | '<' | '(' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            '}' | ']' | '>' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn first_word(text: &str) -> String {
    code(text)
        .skip_while(|letter| letter.is_whitespace())
        .take_while(|letter| letter.is_alphanumeric())
        .take(16)
        .collect()
}

/// Refuses what is larger than allowed, and what would make the resolver compare too much.
fn count(raw: &FileDescriptorProto, limits: &Limits) -> Result<usize, Invalid> {
    let mut nodes = raw.dependency.len() + raw.extension.len();
    nodes += raw
        .service
        .iter()
        .map(|one| 1 + one.method.len())
        .sum::<usize>();
    let mut checks = 0_usize;
    let mut open: Vec<(usize, &DescriptorProto)> =
        raw.message_type.iter().map(|one| (1, one)).collect();
    let mut enums: Vec<_> = raw.enum_type.iter().collect();
    while let Some((depth, message)) = open.pop() {
        if depth > limits.depth_max.min(NESTING_MAX) {
            return Err(Invalid::new(format!(
                "message {} is nested {depth} deep, which is too deep",
                message.name()
            )));
        }
        let ranges = message.reserved_range.len() + message.extension_range.len();
        let fields = message.field.len() + message.extension.len();
        nodes += 1 + fields + ranges + message.reserved_name.len() + message.oneof_decl.len();
        checks = checks.saturating_add(fields.saturating_mul(ranges));
        open.extend(message.nested_type.iter().map(|one| (depth + 1, one)));
        enums.extend(&message.enum_type);
    }
    for one in enums {
        let ranges = one.reserved_range.len();
        nodes += 1 + one.value.len() + ranges + one.reserved_name.len();
        checks = checks.saturating_add(one.value.len().saturating_mul(ranges));
    }
    if checks > limits.comparisons_max {
        return Err(Invalid::new(
            "the schema has too many reserved ranges for its number of fields",
        ));
    }
    Ok(nodes)
}

/// Adds a file to those of a schema, and refuses what becomes larger than allowed.
fn add_count(
    total: &mut usize,
    file: &FileDescriptorProto,
    limits: &Limits,
) -> Result<(), Invalid> {
    *total += count(file, limits)?;
    let allowed = limits.nodes_max.min(NODES_MAX);
    if *total > allowed {
        return Err(Invalid::new(format!(
            "the schema has {total} types, fields and values with what it imports; at most {allowed} are allowed"
        )));
    }
    Ok(())
}

/// The resolved file of a schema, with everything it imports, and how many types, fields and values
/// that is.
pub(super) fn resolve(
    raw: &FileDescriptorProto,
    dependencies: &[Dependency],
    limits: &Limits,
) -> Result<(FileDescriptor, usize), Invalid> {
    let mut nodes = 0;
    add_count(&mut nodes, raw, limits)?;
    let mut texts: HashMap<&str, &str> = HashMap::new();
    for dependency in dependencies {
        texts.insert(&dependency.name, &dependency.text);
    }
    let mut pool = DescriptorPool::new();
    // Files that are being imported, each with its imports that are still to be looked at.
    let mut open = vec![(compiled(raw.clone()), 0_usize)];
    let mut on_the_way = HashSet::from([MAIN.to_owned()]);
    while let Some((file, next)) = open.last_mut() {
        let Some(import) = file.dependency.get(*next) else {
            let (file, _) = open.pop().unwrap_or_default();
            on_the_way.remove(file.name());
            add(&mut pool, file)?;
            continue;
        };
        *next += 1;
        if pool.get_file_by_name(import).is_some() {
            continue;
        }
        if !on_the_way.insert(import.clone()) {
            return Err(Invalid::new(format!("{import} imports itself")));
        }
        let found = match texts.get(import.as_str()) {
            Some(text) => compiled(self::raw(import, text, limits)?),
            None => known::file(import).ok_or_else(|| {
                Invalid::new(format!(
                    "{}: import {import:?} is not among the references and no well-known file",
                    file.name()
                ))
            })?,
        };
        add_count(&mut nodes, &found, limits)?;
        open.push((found, 0));
    }
    pool.get_file_by_name(MAIN)
        .map(|file| (file, nodes))
        .ok_or_else(|| Invalid::new("the schema refers to itself"))
}

/// What the resolver understands: no import twice, entries of maps marked.
fn compiled(mut raw: FileDescriptorProto) -> FileDescriptorProto {
    let mut seen = HashMap::new();
    let mut imports = Vec::new();
    let mut moved = Vec::new();
    for import in std::mem::take(&mut raw.dependency) {
        let new = imports.len();
        let at = *seen.entry(import.clone()).or_insert_with(|| {
            imports.push(import);
            new
        });
        moved.push(i32::try_from(at).unwrap_or(i32::MAX));
    }
    raw.dependency = imports;
    for list in [&mut raw.public_dependency, &mut raw.weak_dependency] {
        for at in list.iter_mut() {
            let to = usize::try_from(*at).ok().and_then(|at| moved.get(at));
            *at = to.copied().unwrap_or(*at);
        }
    }
    for message in &mut raw.message_type {
        option::interpret_map_entry(message);
    }
    raw
}

/// Adds a file without its positions, which only an error needs.
fn add(pool: &mut DescriptorPool, mut file: FileDescriptorProto) -> Result<(), Invalid> {
    let places = file.source_code_info.take();
    let Err(error) = pool.add_file_descriptor_proto(file.clone()) else {
        return Ok(());
    };
    file.source_code_info = places;
    let error = pool.add_file_descriptor_proto(file).err().unwrap_or(error);
    Err(Invalid::new(format!("{error:?}")))
}

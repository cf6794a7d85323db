//! Protobuf: parsing, canonical text, compatibility, payloads.
//!
//! A schema is one `.proto` file with everything it imports. Its canonical text and its verdicts
//! are those of Confluent's registry; the descriptors that payloads are read with come from
//! `protox`, which is stricter than that registry: what `protoc` refuses is refused.

mod aggregate;
mod codec;
mod compare;
mod custom;
mod index;
mod kinds;
mod known;
mod normal;
mod option;
mod parse;
mod print;
mod read;
mod references;
mod risks;
mod serialized;
mod set;
mod shape;
mod source;
mod weight;
mod witness;

use std::collections::BTreeSet;
use std::sync::Arc;

use prost_reflect::{FileDescriptor, MessageDescriptor};
use serde_json::Value;

pub use self::set::texts_of_set;
use crate::compat::{Difference, Policy};
use crate::{Dependency, Invalid, Limits, Unreadable};

/// A schema with everything it refers to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Schema {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    canonical: Box<str>,
    file: FileDescriptor,
    /// The full names of the entries of maps that the text spells out as messages.
    spelled_entries: BTreeSet<Box<str>>,
    /// How many types, fields and values it has with what it imports.
    nodes: usize,
}

impl Schema {
    /// Understands a text, or a `FileDescriptorProto` in base64, which some clients send.
    ///
    /// Imports are looked for among the dependencies by their name, then among the well-known files
    /// (`google/protobuf`, `google/type`, `confluent`).
    pub fn parse(
        text: &str,
        dependencies: &[Dependency],
        limits: &Limits,
    ) -> Result<Self, Invalid> {
        let mut raw = parse::raw(parse::MAIN, text, limits)?;
        let (mut file, mut nodes) = parse::resolve(&raw, dependencies, limits)?;
        if let Some(sent) = parse::sent(text)
            && custom::restore(&mut raw, &sent, &file)
        {
            (file, nodes) = parse::resolve(&raw, dependencies, limits)?;
        }
        let source = read::file(&raw);
        Ok(Self {
            inner: Arc::new(Inner {
                canonical: print::file(&source).into(),
                spelled_entries: index::spelled_entries(&source),
                file,
                nodes,
            }),
        })
    }

    /// The text that two equal schemas share: the file without comments, in the order and with the
    /// spaces that Confluent's registry gives it.
    pub fn canonical(&self) -> String {
        self.inner.canonical.to_string()
    }

    /// The canonical text, with what does not matter in one order and form: numbers and options
    /// sorted, names in full.
    pub fn normalized(&self) -> String {
        self.source(|raw| normal::qualify(raw, self.inner.file.file_descriptor_proto()))
            .map_or_else(
                || self.canonical(),
                |source| print::file(&normal::normalize(source, self.inner.file.parent_pool())),
            )
    }

    /// The text in another format: `serialized`, a `FileDescriptorProto` in base64, or
    /// `ignore_extensions`, without custom options, extensions and their ranges.
    pub fn formatted(&self, format: &str) -> Option<String> {
        match format {
            "serialized" => Some(serialized::base64(&self.inner.file)),
            "ignore_extensions" => {
                let source = self.source(|_| ())?;
                Some(print::file(&normal::without_extensions(source)))
            }
            _ => None,
        }
    }

    /// The full name of the first message; of the first enum where there is no message.
    pub fn name(&self) -> Option<String> {
        let file = &self.inner.file;
        let message = file.messages().next();
        let message = message.map(|message| message.full_name().to_owned());
        message.or_else(|| file.enums().next().map(|one| one.full_name().to_owned()))
    }

    /// The path of a message in the file, as the wire format has it: its position among the
    /// messages of the file, then among those nested in it, and so on. `None` where the file has no
    /// message of this full name.
    pub fn message_index(&self, full_name: &str) -> Option<Vec<i32>> {
        index::of_name(&self.inner.file, &self.inner.spelled_entries, full_name)
    }

    /// The full name of the message at a path; the inverse of [`Self::message_index`]. An empty
    /// path is the first message.
    pub fn message_name(&self, index: &[i32]) -> Option<String> {
        let message = self.message(index)?;
        Some(message.full_name().to_owned())
    }

    /// What the schema takes in memory with what it imports, in bytes, roughly: many times its text.
    pub fn memory_bytes(&self) -> usize {
        self.inner.canonical.len() + self.inner.nodes * parse::NODE_BYTES
    }

    /// The differences to a writer's schema: those that Confluent's registry names, and as
    /// compatible ones those that readers may still be surprised by. A policy changes nothing here.
    pub fn reads(
        &self,
        writer: &Self,
        _policy: Policy,
        limits: &Limits,
    ) -> Result<Vec<Difference>, Invalid> {
        compare::files(&writer.inner.file, &self.inner.file, limits)
    }

    /// Reads a payload of the message at a path.
    pub fn decode(&self, payload: &[u8], index: &[i32]) -> Result<Value, Unreadable> {
        let message = codec::decode(self.message_or_error(index)?, payload)?;
        Ok(codec::to_json(&message))
    }

    /// Writes a payload of the message at a path.
    pub fn encode(&self, record: &Value, index: &[i32]) -> Result<Vec<u8>, Unreadable> {
        codec::encode(self.message_or_error(index)?, record)
    }

    fn message(&self, index: &[i32]) -> Option<MessageDescriptor> {
        index::message(&self.inner.file, &self.inner.spelled_entries, index)
    }

    fn message_or_error(&self, index: &[i32]) -> Result<MessageDescriptor, Unreadable> {
        self.message(index).ok_or_else(|| {
            Unreadable::new(format!("the schema has no message at the path {index:?}"))
        })
    }

    /// The file as it was written, read again from the canonical text: it is needed seldom, and
    /// would take more memory than the text. `None` where the text cannot be read again, which only
    /// a smaller limit than that of its parsing could cause.
    fn source(
        &self,
        change: impl FnOnce(&mut prost_reflect::prost_types::FileDescriptorProto),
    ) -> Option<source::File> {
        let limits = Limits {
            text_bytes_max: usize::MAX,
            depth_max: usize::MAX,
            nodes_max: usize::MAX,
            comparisons_max: usize::MAX,
            ..Limits::default()
        };
        let mut raw = parse::raw(parse::MAIN, &self.inner.canonical, &limits).ok()?;
        change(&mut raw);
        Some(read::file(&raw))
    }
}

#[cfg(test)]
mod tests;

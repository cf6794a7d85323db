//! Messages by their path in the file, as the wire format names them.
//!
//! Positions count the messages that the text spells out. The entry of a `map<…>` is none of them,
//! although descriptors have one; where a descriptor was registered as such, its text spells the
//! entries out and they count. The message of a group is never counted.

use std::collections::BTreeSet;

use prost_reflect::{FileDescriptor, Kind, MessageDescriptor};

use super::source::{File, Message};

/// The full names of the entries that a text spells out.
pub(super) fn spelled_entries(file: &File) -> BTreeSet<Box<str>> {
    let package = file.package.as_deref().unwrap_or_default();
    let mut found = BTreeSet::new();
    let mut open: Vec<(String, &Message)> = Vec::new();
    open.extend(file.messages.iter().map(|one| (package.to_owned(), one)));
    while let Some((scope, message)) = open.pop() {
        let name = if scope.is_empty() {
            message.name.clone()
        } else {
            format!("{scope}.{}", message.name)
        };
        if message.is_map_entry {
            found.insert(name.clone().into());
        }
        open.extend(message.messages.iter().map(|one| (name.clone(), one)));
    }
    found
}

/// The message at a path; the first one at an empty path.
pub(super) fn message(
    file: &FileDescriptor,
    spelled_entries: &BTreeSet<Box<str>>,
    index: &[i32],
) -> Option<MessageDescriptor> {
    let (first, rest) = index.split_first().unwrap_or((&0, &[]));
    let at = usize::try_from(*first).ok()?;
    let mut message = top_level(file).nth(at)?;
    for at in rest {
        let at = usize::try_from(*at).ok()?;
        let child = nested(&message, spelled_entries).nth(at)?;
        message = child;
    }
    Some(message)
}

/// The path of the message of a full name.
pub(super) fn of_name(
    file: &FileDescriptor,
    spelled_entries: &BTreeSet<Box<str>>,
    full_name: &str,
) -> Option<Vec<i32>> {
    let mut path = Vec::new();
    let mut scope: Vec<MessageDescriptor> = top_level(file).collect();
    loop {
        let at = scope.iter().position(|message| {
            let rest = full_name.strip_prefix(message.full_name());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })?;
        path.push(i32::try_from(at).ok()?);
        if scope[at].full_name() == full_name {
            return Some(path);
        }
        scope = nested(&scope[at], spelled_entries).collect();
    }
}

fn top_level(file: &FileDescriptor) -> impl Iterator<Item = MessageDescriptor> + '_ {
    let groups: Vec<String> = file
        .extensions()
        .filter(prost_reflect::ExtensionDescriptor::is_group)
        .filter_map(|field| group_name(&field.kind()))
        .collect();
    file.messages()
        .filter(move |message| !groups.iter().any(|group| group == message.full_name()))
}

fn nested<'a>(
    message: &'a MessageDescriptor,
    spelled_entries: &'a BTreeSet<Box<str>>,
) -> impl Iterator<Item = MessageDescriptor> + 'a {
    message.child_messages().filter(move |child| {
        let is_counted = !child.is_map_entry() || spelled_entries.contains(child.full_name());
        is_counted && !is_group_of(message, child)
    })
}

/// Whether a nested message is the body of a group among the fields beside it.
pub(super) fn is_group_of(message: &MessageDescriptor, child: &MessageDescriptor) -> bool {
    // A group's field has its message's name in lower case.
    let name = child.name().to_ascii_lowercase();
    let field = message.get_field_by_name(&name);
    if field.is_some_and(|field| field.is_group() && field.kind().as_message() == Some(child)) {
        return true;
    }
    let mut extensions = message.child_extensions();
    extensions.any(|field| field.is_group() && field.kind().as_message() == Some(child))
}

fn group_name(kind: &Kind) -> Option<String> {
    kind.as_message()
        .map(|message| message.full_name().to_owned())
}

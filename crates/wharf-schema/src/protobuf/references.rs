//! Types that other files define: compared once for each pair of types, wherever they are used, and
//! what breaks is carried back to every field that is of them, however far away.
//!
//! References may be circular and as long as anybody likes; they are a work list, never recursion.

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor};

use super::compare::Comparison;
use super::kinds::DifferenceKind as Kind;
use super::shape::local_name;
use super::{known, witness};
use crate::Invalid;

/// A type that another file defines, as the older and the newer schema have it.
pub(super) struct Pair {
    pub(super) old: MessageDescriptor,
    pub(super) new: MessageDescriptor,
    pub(super) is_broken: bool,
    /// A message of the old type that the new one fails on, where one is known.
    pub(super) record: Option<DynamicMessage>,
    users: Vec<User>,
}

/// A field that is of a type of another file.
struct User {
    owner: Option<usize>,
    place: String,
    path: String,
    old: FieldDescriptor,
    new: MessageDescriptor,
}

impl Comparison<'_> {
    /// Two types of one name; what stands in the file itself is compared there.
    pub(super) fn named(
        &mut self,
        old: MessageDescriptor,
        new: MessageDescriptor,
        is_group: bool,
        path: &str,
    ) {
        if local_name(&old) != local_name(&new) {
            let detail = format!("{} and {}", old.full_name(), new.full_name());
            self.field_breaks(Kind::FIELD_NAMED_TYPE_CHANGED, path, &detail);
            return;
        }
        let files = (old.parent_file(), new.parent_file());
        let is_local = files.0 == self.main.0 && files.1 == self.main.1;
        let is_same = files.0.name() == files.1.name() && known::is_known(files.0.name());
        if is_local && !is_group || is_same {
            return;
        }
        let key = (old.full_name().to_owned(), new.full_name().to_owned());
        let pairs = &mut self.pairs;
        let at = *self.known_pairs.entry(key).or_insert_with(|| {
            pairs.push(Pair {
                old,
                new,
                is_broken: false,
                record: None,
                users: Vec::new(),
            });
            pairs.len() - 1
        });
        let place = self.place();
        let Some((user, new)) = self.inside.last() else {
            return;
        };
        if let Some(field) = self.number().and_then(|number| user.get_field(number)) {
            self.pairs[at].users.push(User {
                owner: self.owner,
                place,
                path: path.to_owned(),
                old: field,
                new: new.clone(),
            });
        }
    }

    /// Compares the types of other files, and carries what breaks back to the fields that use them.
    pub(super) fn references(&mut self) -> Result<(), Invalid> {
        let mut next = 0;
        while let Some(pair) = self.pairs.get(next) {
            let (old, new) = (pair.old.clone(), pair.new.clone());
            self.owner = Some(next);
            self.place = local_name(&new).split('.').map(str::to_owned).collect();
            self.messages(&old, &new)?;
            next += 1;
        }
        self.owner = None;
        let each = self.pairs.iter().enumerate();
        let mut broken: Vec<usize> = each
            .filter(|(_, pair)| pair.is_broken)
            .map(|(at, _)| at)
            .collect();
        while let Some(at) = broken.pop() {
            let inner = self.pairs[at].record.clone();
            for user in std::mem::take(&mut self.pairs[at].users) {
                let record = self.user_breaks(&user, inner.as_ref());
                let Some(owner) = user.owner.and_then(|at| self.pairs.get_mut(at)) else {
                    continue;
                };
                if owner.record.is_none() && *user.old.parent_message() == owner.old {
                    owner.record = record;
                }
                if !std::mem::replace(&mut owner.is_broken, true) {
                    broken.extend(user.owner);
                }
            }
        }
        Ok(())
    }

    /// Reports a field whose type breaks; the message with it that shows so, if there is one.
    fn user_breaks(
        &mut self,
        user: &User,
        inner: Option<&DynamicMessage>,
    ) -> Option<DynamicMessage> {
        let kind = Kind::FIELD_NAMED_TYPE_CHANGED;
        let mut difference = kind.at(&user.place, user.path.clone(), "");
        let inner = inner.filter(|_| self.may_try(&[user.old.parent_message(), &user.new]));
        let witnessed = inner.and_then(|inner| witness::of_user(&user.old, &user.new, inner));
        let (record, witness) = witnessed.unzip();
        difference.witness = witness;
        self.found.push(difference);
        record
    }
}

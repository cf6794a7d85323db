//! Names of types: a last part and a namespace, and the rules for both.
//!
//! A name is never changed once made; whether it is well formed is asked separately, since schemas
//! that a registry accepted long ago need not be.

/// The words that stand for a type and cannot be redefined.
const PRIMITIVES: [&str; 8] = [
    "null", "boolean", "int", "long", "float", "double", "bytes", "string",
];
/// The words that would be read as a type, not as a name.
const WORDS: [&str; 6] = ["record", "enum", "array", "map", "union", "fixed"];

/// The name of a record, enum or fixed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    full: String,
    /// Where in `full` the last part begins; 0 without a namespace.
    last: usize,
}

impl Name {
    /// A name as a schema has it: with dots it is a full name, without it is in `space`.
    pub(super) fn new(name: &str, space: Option<&str>) -> Self {
        let (space, last) = match name.rsplit_once('.') {
            Some((space, last)) => (Some(space), last),
            None => (space, name),
        };
        match space.filter(|space| !space.is_empty()) {
            Some(space) => Self {
                full: format!("{space}.{last}"),
                last: space.len() + 1,
            },
            None => Self {
                full: last.to_owned(),
                last: 0,
            },
        }
    }

    /// With the namespace.
    pub(super) fn full(&self) -> &str {
        &self.full
    }

    /// Without the namespace.
    pub(super) fn last(&self) -> &str {
        &self.full[self.last..]
    }

    /// The namespace, never empty.
    pub(super) fn space(&self) -> Option<&str> {
        self.last.checked_sub(1).map(|end| &self.full[..end])
    }

    /// How the name is written where `space` is the namespace: without it where it is the same,
    /// unless what remains would be taken for a type.
    pub(super) fn within(&self, space: Option<&str>) -> &str {
        let same = self.space().is_some() && self.space() == space;
        let word = PRIMITIVES.contains(&self.last()) || WORDS.contains(&self.last());
        if same && !word {
            self.last()
        } else {
            &self.full
        }
    }

    /// Whether it is the name of a simple type.
    pub(super) fn is_primitive(&self) -> bool {
        PRIMITIVES.contains(&self.full.as_str())
    }

    /// The first part that is no name.
    pub(super) fn fault(&self) -> Option<String> {
        self.full.split('.').find_map(fault)
    }
}

/// What is wrong with a simple name (a field's, a symbol's), if anything: it must begin with a letter
/// or `_` and go on with letters, digits and `_`, all of ASCII.
pub(super) fn fault(name: &str) -> Option<String> {
    let mut characters = name.chars();
    let Some(first) = characters.next() else {
        return Some("a name is empty".to_owned());
    };
    if !(first.is_ascii_alphabetic() || first == '_') {
        return Some(format!(
            "the name {name:?} begins with {first:?}; it must begin with a letter or _"
        ));
    }
    characters
        .find(|character| !(character.is_ascii_alphanumeric() || *character == '_'))
        .map(|character| {
            format!("the name {name:?} has {character:?} in it; letters, digits and _ are allowed")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotted_name_has_its_own_namespace_and_a_plain_one_that_of_its_place() {
        let dotted = Name::new("a.b.C", Some("other"));
        assert_eq!(
            (dotted.full(), dotted.space(), dotted.last()),
            ("a.b.C", Some("a.b"), "C")
        );
        let plain = Name::new("C", Some("other"));
        assert_eq!((plain.full(), plain.space()), ("other.C", Some("other")));
        let none = Name::new(".C", Some("other"));
        assert_eq!((none.full(), none.space()), ("C", None));
    }

    #[test]
    fn a_name_is_shortened_only_where_it_is_read_back_as_the_same() {
        assert_eq!(Name::new("a.C", None).within(Some("a")), "C");
        assert_eq!(Name::new("a.C", None).within(Some("b")), "a.C");
        assert_eq!(Name::new("a.string", None).within(Some("a")), "a.string");
        assert_eq!(Name::new("C", None).within(None), "C");
    }

    #[test]
    fn names_are_letters_digits_and_underscores() {
        assert_eq!(fault("_a1"), None);
        for wrong in ["", "1a", "a-b", "é", "a b"] {
            assert!(fault(wrong).is_some(), "{wrong}");
        }
        assert!(Name::new("a..C", None).fault().is_some());
    }
}

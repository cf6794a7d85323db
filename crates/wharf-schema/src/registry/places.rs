//! Sets of versions in which nearly always stands one: kept small for that, and quick for many.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::types::Registered;

/// A version: its qualified subject and number. Also a context with an id.
pub(super) type Place = (Arc<str>, i32);

/// A set of places that is never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Places {
    One(Place),
    Many(Arc<BTreeSet<Place>>),
}

impl Places {
    pub(super) fn insert(&mut self, place: Place) {
        match self {
            Self::One(there) if *there == place => {}
            Self::One(there) => {
                *self = Self::Many(Arc::new(BTreeSet::from([there.clone(), place])));
            }
            Self::Many(places) => {
                Arc::make_mut(places).insert(place);
            }
        }
    }

    /// Takes one out; whether none is left, so that the set itself is to go.
    pub(super) fn remove(&mut self, place: &Place) -> bool {
        match self {
            Self::One(there) => there == place,
            Self::Many(places) => {
                Arc::make_mut(places).remove(place);
                if let (1, Some(last)) = (places.len(), places.first()) {
                    *self = Self::One(last.clone());
                }
                false
            }
        }
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Place> + use<'_> {
        let (one, many) = match self {
            Self::One(place) => (Some(place), None),
            Self::Many(places) => (None, Some(places.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

/// A subject's versions, ordered by number. Never empty in the view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Versions(Vec<Registered>);

impl Versions {
    fn find(&self, number: i32) -> Result<usize, usize> {
        self.0
            .binary_search_by_key(&number, |version| version.version)
    }

    pub(super) fn get(&self, number: i32) -> Option<&Registered> {
        self.0.get(self.find(number).ok()?)
    }

    pub(super) fn put(&mut self, version: Registered) {
        match self.find(version.version) {
            Ok(index) => self.0[index] = version,
            Err(index) => {
                // One more at a time: most subjects have few versions, and there are many subjects.
                if self.0.len() < 8 {
                    self.0.reserve_exact(1);
                }
                self.0.insert(index, version);
            }
        }
    }

    pub(super) fn remove(&mut self, number: i32) -> Option<Registered> {
        let index = self.find(number).ok()?;
        Some(self.0.remove(index))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Registered> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Registered> {
        self.0.iter_mut()
    }
}

impl<'a> IntoIterator for &'a Versions {
    type Item = &'a Registered;
    type IntoIter = std::slice::Iter<'a, Registered>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_a_set_of_one_or_many() {
        let place = |number| -> Place { ("s".into(), number) };
        let mut places = Places::One(place(2));
        places.insert(place(2));
        assert_eq!(places, Places::One(place(2)));
        places.insert(place(1));
        places.insert(place(3));
        assert_eq!(places.iter().map(|it| it.1).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(!places.remove(&place(1)));
        assert!(!places.remove(&place(3)));
        assert_eq!(places, Places::One(place(2)));
        assert!(!places.remove(&place(9)), "what is not in it");
        assert!(places.remove(&place(2)));
    }
}

//! What a request names more than once. A question is answered once however often it is asked:
//! a small request must never make a large answer out of repetition.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// What is in `all` more than once.
pub(super) fn repeated<T: Eq + Hash + Clone>(all: impl Iterator<Item = T>) -> HashSet<T> {
    let mut seen = HashSet::new();
    all.filter(|one| !seen.insert(one.clone())).collect()
}

/// Each of `all` once by its name, with whether that stands there again.
pub(super) fn named<T, N: Eq + Hash + Clone>(
    all: Vec<T>,
    name: fn(&T) -> N,
) -> impl Iterator<Item = (T, bool)> {
    let repeated = repeated(all.iter().map(name));
    let mut told = HashSet::new();
    all.into_iter().filter_map(move |one| {
        let name = name(&one);
        let is_repeated = repeated.contains(&name);
        (!is_repeated || told.insert(name)).then_some((one, is_repeated))
    })
}

/// Each partition of each topic once, in the order asked.
pub(super) fn once<T: Eq + Hash + Clone>(topics: Vec<(T, Vec<i32>)>) -> Vec<(T, Vec<i32>)> {
    let mut seen: HashMap<T, HashSet<i32>> = HashMap::new();
    let mut topics = topics;
    for (topic, indexes) in &mut topics {
        let seen = seen.entry(topic.clone()).or_default();
        indexes.retain(|index| seen.insert(*index));
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_there_again_is_repeated() {
        assert_eq!(
            repeated([1, 2, 1, 3, 1, 2].into_iter()),
            HashSet::from([1, 2])
        );
        assert_eq!(repeated([1, 2].into_iter()), HashSet::new());
    }

    #[test]
    fn what_is_named_again_is_told_once() {
        let found: Vec<_> = named(vec![1, 2, 1, 3, 1], |one| *one).collect();
        assert_eq!(found, [(1, true), (2, false), (3, false)]);
    }

    #[test]
    fn a_partition_asked_for_again_is_left_out_of_the_second_question() {
        let asked = vec![("a", vec![1, 0, 1]), ("b", vec![1]), ("a", vec![0, 2])];
        let expected = vec![("a", vec![1, 0]), ("b", vec![1]), ("a", vec![2])];
        assert_eq!(once(asked), expected);
    }
}

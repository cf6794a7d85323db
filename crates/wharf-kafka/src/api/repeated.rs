//! What a request names more than once.

use std::collections::HashSet;
use std::hash::Hash;

/// What is in `all` more than once.
pub(super) fn repeated<T: Eq + Hash + Clone>(all: impl Iterator<Item = T>) -> HashSet<T> {
    let mut seen = HashSet::new();
    all.filter(|one| !seen.insert(one.clone())).collect()
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
}

//! The features this node speaks, each at the level clients should use (KIP-584).
//!
//! This is the only list: ApiVersions tells it, UpdateFeatures checks against it. One node runs one
//! version of Wharf, so a level is part of the program and never changes while it runs; what is
//! not in the list does not exist.

/// A feature and its levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Feature {
    /// Kafka's name.
    pub(crate) name: &'static str,
    /// The lowest level there is.
    pub(crate) min: i16,
    /// The highest level there is.
    pub(crate) max: i16,
    /// The level in use.
    pub(crate) level: i16,
}

/// Every feature.
pub(crate) const FEATURES: &[Feature] = &[
    Feature {
        // Transactions whose epoch rises at every end (KIP-890).
        name: "transaction.version",
        min: 0,
        max: 2,
        level: 2,
    },
    Feature {
        // The consumer protocol (KIP-848).
        name: "group.version",
        min: 0,
        max: 1,
        level: 1,
    },
];

/// The epoch of the levels: they are set once.
pub(crate) const EPOCH: i64 = if FEATURES.is_empty() { -1 } else { 0 };

/// The feature of this name.
pub(crate) fn find(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_named_once_and_used_at_a_level_it_has() {
        for (at, feature) in FEATURES.iter().enumerate() {
            assert!(
                (feature.min..=feature.max).contains(&feature.level),
                "{feature:?}"
            );
            assert!(
                FEATURES[..at].iter().all(|one| one.name != feature.name),
                "{feature:?}"
            );
        }
    }
}

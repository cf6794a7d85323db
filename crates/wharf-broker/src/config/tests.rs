//! The table of settings holds together, and the node's defaults are checked.

use super::definitions::{DEFINITIONS, find};
use super::{Defaults, TopicConfig, topic_settings_table};
use crate::ErrorKind;

fn pairs(name: &str, value: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.to_owned())]
}

#[test]
fn the_table_is_sorted_and_every_default_passes_its_own_check() {
    assert!(DEFINITIONS.is_sorted_by(|a, b| a.name < b.name));
    for definition in DEFINITIONS
        .iter()
        .filter(|definition| !definition.default.is_empty())
    {
        let overrides = [(definition.name.to_owned(), definition.default.to_owned())];
        TopicConfig::new(&Defaults::default(), &overrides.into()).unwrap();
        assert!(find(definition.name).is_some());
    }
}

#[test]
fn defaults_of_the_node_are_known_by_both_names_and_checked() {
    for name in ["log.retention.ms", "retention.ms"] {
        let defaults = Defaults::new(&pairs(name, "5")).unwrap();
        assert_eq!(defaults.get("retention.ms"), Some("5"));
    }
    for (name, value) in [("retention.ms", "soon"), ("retention.msx", "5")] {
        let error = Defaults::new(&pairs(name, value)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidConfig);
    }
}

#[test]
fn the_page_about_topic_settings_is_up_to_date() {
    let page = include_str!("../../../../docs/how-to/topic-settings.md");
    assert!(
        page.contains(&topic_settings_table()),
        "expected:\n{}",
        topic_settings_table()
    );
}

//! Topics come, go and grow; patterns follow.

use super::*;

fn by_pattern(member: &str, pattern: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        topics: None,
        pattern: Some(pattern.to_owned()),
        ..join(member, &[])
    }
}

#[test]
fn partitions_that_are_added_are_read_without_anybody_asking() {
    let mut diary = Diary::new(1);
    diary.ok(&join("a", &["t"]));
    diary.topics.put("t", 3);
    let answer = diary.ok(&beat("a", 1));
    assert_eq!((answer.epoch, indexes(&answer)), (2, vec![0, 1, 2]));
}

#[test]
fn a_member_joins_before_it_knows_of_any_topic_and_names_one_later() {
    // The Java client does when its pattern matches nothing yet.
    let mut diary = Diary::new(2);
    let answer = diary.ok(&join("a", &[]));
    assert_eq!((answer.epoch > 0, indexes(&answer)), (true, vec![]));
    let named = ConsumerHeartbeat {
        topics: Some(vec!["t".to_owned()]),
        ..beat("a", answer.epoch)
    };
    assert_eq!(indexes(&diary.ok(&named)), [0, 1]);
}

#[test]
fn a_topic_that_is_created_later_is_read_and_one_that_is_deleted_is_given_up() {
    let mut diary = Diary::new(1);
    diary.ok(&join("a", &["t", "later"]));
    diary.topics.put("later", 2);
    assert_eq!(diary.ok(&beat("a", 1)).assignment.unwrap().len(), 2);
    diary.topics.delete("t");
    let answer = diary.ok(&beat("a", 2));
    assert_eq!(
        answer.assignment.unwrap(),
        [(diary.topics.id("later"), vec![0, 1])]
    );
}

#[test]
fn a_topic_created_anew_is_another_topic() {
    let mut diary = Diary::new(1);
    diary.ok(&join("a", &["t"]));
    let old = diary.topics.id("t");
    diary.topics.delete("t");
    diary.topics.put("t", 1);
    diary.ok(&beat("a", 1));
    let owned = ConsumerHeartbeat {
        owned: Some(Vec::new()),
        ..beat("a", 1)
    };
    let answer = diary.ok(&owned);
    let id = diary.topics.id("t");
    assert_ne!(id, old);
    assert_eq!(answer.assignment.unwrap(), [(id, vec![0])]);
}

#[test]
fn other_topics_disturb_nobody() {
    let mut diary = Diary::new(1);
    diary.ok(&join("a", &["t"]));
    diary.topics.put("other", 3);
    let stores = diary.stores;
    assert_eq!(diary.ok(&beat("a", 1)).assignment, None);
    assert_eq!(diary.stores, stores);
}

#[test]
fn a_pattern_follows_the_topics_also_over_a_restart() {
    let mut diary = Diary::new(1);
    diary.topics.put("orders-1", 1);
    diary.topics.put("not-orders", 1);
    let answer = diary.ok(&by_pattern("a", "orders-.*"));
    assert_eq!(
        answer.assignment.unwrap(),
        [(diary.topics.id("orders-1"), vec![0])]
    );
    diary.restart();
    diary.topics.put("orders-2", 1);
    assert_eq!(diary.ok(&beat("a", 1)).assignment.unwrap().len(), 2);
    assert!(diary.group.is_subscribed("orders-2"));
    assert!(!diary.group.is_subscribed("not-orders"));
}

#[test]
fn a_pattern_and_names_add_up_and_an_empty_pattern_is_none() {
    let mut diary = Diary::new(1);
    diary.topics.put("u", 1);
    let both = ConsumerHeartbeat {
        pattern: Some("u".to_owned()),
        ..join("a", &["t"])
    };
    assert_eq!(diary.ok(&both).assignment.unwrap().len(), 2);
    let without = ConsumerHeartbeat {
        pattern: Some(String::new()),
        ..beat("a", 1)
    };
    assert_eq!(
        diary.ok(&without).assignment.unwrap(),
        [(diary.topics.id("t"), vec![0])]
    );
    assert!(!diary.group.is_subscribed("u"));
}

#[test]
fn what_is_no_pattern_is_refused_and_changes_nothing() {
    let mut diary = Diary::new(1);
    diary.ok(&join("a", &["t"]));
    let stores = diary.stores;
    let wrong = by_pattern("b", "(");
    assert_eq!(diary.refused(&wrong), ErrorKind::InvalidRegularExpression);
    assert_eq!((diary.stores, diary.group.members.len()), (stores, 1));
}

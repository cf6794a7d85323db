//! Members with an instance id (KIP-345).

use super::*;

fn of_instance(heartbeat: ConsumerHeartbeat) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        instance: Some("i".to_owned()),
        ..heartbeat
    }
}

#[test]
fn who_says_it_will_be_back_keeps_its_partitions_under_another_id() {
    let mut diary = Diary::new(4);
    diary.ok(&of_instance(join("a", &["t"])));
    diary.ok(&join("b", &["t"]));
    diary.ok(&of_instance(beat("a", 1)));
    let reads = of_instance(diary.owning("a", 1, &[0, 1]));
    diary.ok(&reads);
    diary.ok(&beat("b", 2));
    assert_eq!(diary.ok(&of_instance(beat("a", -2))).epoch, -2);
    diary.pass(SECOND * 20);
    assert_eq!(
        diary.ok(&beat("b", 2)).assignment,
        None,
        "nothing moves meanwhile"
    );
    let back = diary.ok(&of_instance(join("a2", &["t"])));
    assert_eq!((back.epoch, indexes(&back)), (2, vec![0, 1]));
    assert_eq!(diary.group.epoch, 2, "nobody else is disturbed");
    assert_eq!(
        diary.refused(&of_instance(beat("a", 2))),
        ErrorKind::FencedInstanceId
    );
}

#[test]
fn who_says_it_will_be_back_and_is_not_is_removed() {
    let mut diary = Diary::new(2);
    diary.ok(&of_instance(join("a", &["t"])));
    diary.ok(&of_instance(beat("a", -2)));
    diary.restart();
    diary.pass(SESSION);
    assert_eq!(diary.group.state(), "Empty");
    assert!(diary.group.instances.is_empty());
}

#[test]
fn an_instance_that_was_not_released_is_not_given_to_another() {
    let mut diary = Diary::new(2);
    diary.ok(&of_instance(join("a", &["t"])));
    let thief = of_instance(join("b", &["t"]));
    assert_eq!(diary.refused(&thief), ErrorKind::UnreleasedInstanceId);
    diary.ok(&of_instance(beat("a", 1)));
    diary.ok(&of_instance(beat("a", -1)));
    diary.ok(&thief);
}

#[test]
fn an_instance_nobody_has_is_an_unknown_member() {
    let mut diary = Diary::new(2);
    diary.ok(&join("a", &["t"]));
    assert_eq!(
        diary.refused(&of_instance(beat("a", 1))),
        ErrorKind::UnknownMemberId
    );
    assert_eq!(
        diary.refused(&of_instance(beat("a", -2))),
        ErrorKind::UnknownMemberId
    );
}

#[test]
fn the_same_process_may_be_back_under_its_own_id() {
    let mut diary = Diary::new(2);
    diary.ok(&of_instance(join("a", &["t"])));
    diary.ok(&of_instance(beat("a", -2)));
    let back = diary.ok(&of_instance(join("a", &["t"])));
    assert_eq!((back.epoch, indexes(&back)), (1, vec![0, 1]));
}

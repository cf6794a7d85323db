//! Joining, epochs, giving up and taking over, leaving, time.

use super::*;

#[test]
fn the_first_member_gets_everything_and_learns_when_to_call() {
    let mut diary = Diary::new(3);
    let answer = diary.ok(&join("a", &["t"]));
    assert_eq!((answer.epoch, indexes(&answer)), (1, vec![0, 1, 2]));
    assert_eq!(answer.interval, SECOND * 5);
    assert_eq!(diary.group.state(), "Stable");
}

#[test]
fn a_heartbeat_that_changes_nothing_writes_nothing_and_tells_nothing() {
    let mut diary = Diary::new(3);
    diary.ok(&join("a", &["t"]));
    let stores = diary.stores;
    let answer = diary.ok(&beat("a", 1));
    assert_eq!((answer.assignment, diary.stores), (None, stores));
    let answer = diary.own("a", 1, &[0, 1, 2]);
    assert_eq!((answer.assignment, diary.stores), (None, stores));
}

#[test]
fn a_full_heartbeat_is_told_everything() {
    let mut diary = Diary::new(3);
    diary.ok(&join("a", &["t"]));
    let stores = diary.stores;
    let full = ConsumerHeartbeat {
        owned: Some(vec![(diary.topics.id("t"), vec![0, 1, 2])]),
        epoch: 1,
        ..join("a", &["t"])
    };
    assert_eq!(indexes(&diary.ok(&full)), [0, 1, 2]);
    assert_eq!(diary.stores, stores);
}

#[test]
fn a_partition_goes_to_another_only_after_its_holder_gave_it_up() {
    let mut diary = Diary::new(4);
    diary.ok(&join("a", &["t"]));
    let b = diary.ok(&join("b", &["t"]));
    assert_eq!((b.epoch, indexes(&b)), (2, vec![]));
    assert_eq!(diary.group.state(), "Reconciling");

    let a = diary.ok(&beat("a", 1));
    assert_eq!(
        (a.epoch, indexes(&a)),
        (1, vec![0, 1]),
        "told to give up two"
    );
    assert_eq!(diary.ok(&beat("a", 1)).assignment, None, "asked already");
    assert_eq!(
        diary.own("a", 1, &[0, 1, 2, 3]).epoch,
        1,
        "it still reads them"
    );
    assert_eq!(diary.ok(&beat("b", 2)).assignment, None);

    assert_eq!(diary.own("a", 1, &[0, 1]).epoch, 2);
    assert_eq!(indexes(&diary.ok(&beat("b", 2))), [2, 3]);
    assert_eq!(diary.group.state(), "Stable");
}

#[test]
fn what_moves_on_while_a_member_gives_up_is_given_up_as_well() {
    let mut diary = Diary::new(6);
    diary.ok(&join("a", &["t"]));
    diary.ok(&join("b", &["t"]));
    assert_eq!(indexes(&diary.ok(&beat("a", 1))), [0, 1, 2]);
    diary.ok(&join("c", &["t"]));
    let a = diary.own("a", 1, &[0, 1, 2]);
    assert_eq!((a.epoch, indexes(&a)), (1, vec![0, 1]));
    assert_eq!(diary.own("a", 1, &[0, 1]).epoch, 3);
    diary.ok(&beat("b", 2));
    diary.ok(&beat("c", 3));
    assert_eq!(diary.group.state(), "Stable");
}

#[test]
fn a_lost_answer_is_told_again_to_the_epoch_before() {
    let mut diary = Diary::new(4);
    diary.ok(&join("a", &["t"]));
    diary.ok(&join("b", &["t"]));
    diary.ok(&beat("a", 1));
    diary.own("a", 1, &[0, 1]); // the answer with epoch 2 is lost
    let again = diary.own("a", 1, &[0, 1]);
    assert_eq!((again.epoch, indexes(&again)), (2, vec![0, 1]));
    let greedy = diary.owning("a", 1, &[0, 1, 2]);
    assert_eq!(
        diary.refused(&greedy),
        ErrorKind::FencedMemberEpoch,
        "it owns what it has not"
    );
    assert_eq!(
        diary.refused(&beat("a", 1)),
        ErrorKind::FencedMemberEpoch,
        "it does not say"
    );
}

#[test]
fn a_lost_answer_to_a_join_is_told_again() {
    let mut diary = Diary::new(2);
    diary.ok(&join("a", &["t"]));
    let (epoch, stores) = (diary.group.epoch, diary.stores);
    let again = diary.ok(&join("a", &["t"]));
    assert_eq!((again.epoch, indexes(&again)), (1, vec![0, 1]));
    assert_eq!((diary.group.epoch, diary.stores), (epoch, stores));
}

#[test]
fn a_wrong_epoch_fences_and_a_fenced_member_joins_again() {
    let mut diary = Diary::new(2);
    diary.ok(&join("a", &["t"]));
    diary.ok(&join("b", &["t"]));
    assert_eq!(diary.refused(&beat("a", 7)), ErrorKind::FencedMemberEpoch);
    assert_eq!(diary.refused(&beat("x", 1)), ErrorKind::UnknownMemberId);
    let a = diary.ok(&join("a", &["t"]));
    assert_eq!(
        (a.epoch, indexes(&a)),
        (2, vec![0]),
        "it reads nothing, so nothing is awaited"
    );
    assert_eq!(indexes(&diary.ok(&beat("b", 2))), [1]);
}

#[test]
fn who_leaves_frees_everything_at_once() {
    let mut diary = Diary::new(2);
    diary.ok(&join("a", &["t"]));
    diary.ok(&join("b", &["t"]));
    let left = diary.ok(&beat("a", -1));
    assert_eq!((left.epoch, left.assignment), (-1, None));
    let b = diary.ok(&beat("b", 2));
    assert_eq!((b.epoch, indexes(&b)), (3, vec![0, 1]));
    diary.ok(&beat("b", -1));
    assert_eq!(diary.group.state(), "Empty");
    assert_eq!(diary.refused(&beat("b", 3)), ErrorKind::UnknownMemberId);
}

#[test]
fn who_is_not_heard_of_is_removed() {
    let mut diary = Diary::new(2);
    diary.ok(&join("a", &["t"]));
    diary.pass(SECOND * 30);
    diary.ok(&join("b", &["t"]));
    diary.pass(SECOND * 20);
    assert_eq!(diary.group.members.len(), 1);
    assert_eq!(indexes(&diary.ok(&beat("b", 2))), [0, 1]);
}

#[test]
fn who_does_not_give_up_in_time_is_removed_although_it_is_heard_of() {
    let mut diary = Diary::new(2);
    diary.ok(&join("a", &["t"]));
    diary.ok(&join("b", &["t"]));
    for _ in 0..60 {
        diary.ok(&beat("a", 1));
        diary.ok(&beat("b", 2));
        diary.pass(SECOND);
    }
    assert_eq!(diary.refused(&beat("a", 1)), ErrorKind::UnknownMemberId);
    assert_eq!(indexes(&diary.ok(&beat("b", 2))), [0, 1]);
}

#[test]
fn a_restart_neither_fences_members_nor_gives_a_partition_twice() {
    let mut diary = Diary::new(4);
    diary.ok(&join("a", &["t"]));
    diary.ok(&join("b", &["t"]));
    diary.ok(&beat("a", 1));
    diary.restart();
    assert_eq!(
        diary.ok(&beat("b", 2)).assignment,
        None,
        "still held by the other"
    );
    assert_eq!(diary.own("a", 1, &[0, 1]).epoch, 2);
    diary.restart();
    assert_eq!(indexes(&diary.ok(&beat("b", 2))), [2, 3]);
    diary.restart();
    let stores = diary.stores;
    diary.ok(&beat("a", 2));
    diary.ok(&beat("b", 2));
    assert_eq!((diary.group.state(), diary.stores), ("Stable", stores));
    diary.pass(SESSION);
    assert_eq!(
        diary.group.state(),
        "Empty",
        "the dead are removed after a restart as well"
    );
}

#[test]
fn group_max_size_bounds_the_members() {
    let mut diary = Diary::new(1);
    for number in 0..MEMBERS_MAX {
        diary.ok(&join(&format!("m{number}"), &["t"]));
    }
    assert_eq!(
        diary.refused(&join("one more", &["t"])),
        ErrorKind::GroupMaxSizeReached
    );
    diary.ok(&join("m1", &["t"]));
}

#[test]
fn the_assignor_most_members_ask_for_assigns() {
    let mut diary = Diary::new(2);
    let vote = |member: &str, assignor: &str| ConsumerHeartbeat {
        assignor: Some(assignor.to_owned()),
        ..join(member, &["t"])
    };
    diary.ok(&vote("a", "range"));
    assert_eq!(diary.group.assignor(), "range");
    diary.ok(&vote("b", "uniform"));
    assert_eq!(diary.group.assignor(), "uniform");
    assert_eq!(
        diary.refused(&vote("c", "sticky")),
        ErrorKind::UnsupportedAssignor
    );
}

#[test]
fn a_request_without_what_it_needs_is_refused() {
    let mut diary = Diary::new(1);
    let whole = join("a", &["t"]);
    let broken: [fn(&mut ConsumerHeartbeat); 10] = [
        |h| h.group.clear(),
        |h| h.member.clear(),
        |h| h.instance = Some(String::new()),
        |h| h.rack = Some(" ".to_owned()),
        |h| h.rebalance_timeout = None,
        |h| h.owned = None,
        |h| h.owned = Some(vec![(Uuid::nil(), vec![0])]),
        |h| h.topics = None,
        |h| h.epoch = -3,
        |h| h.epoch = -2,
    ];
    for (number, damage) in broken.iter().enumerate() {
        let mut heartbeat = whole.clone();
        damage(&mut heartbeat);
        assert_eq!(
            diary.refused(&heartbeat),
            ErrorKind::InvalidRequest,
            "{number}"
        );
    }
    assert_eq!(diary.stores, 0);
}

#[test]
fn a_member_of_version_0_is_given_an_id() {
    let mut diary = Diary::new(1);
    let heartbeat = ConsumerHeartbeat {
        brings_id: false,
        ..join("", &["t"])
    };
    assert_eq!(diary.ok(&heartbeat).member, "given");
    diary.ok(&beat("given", 1));
}

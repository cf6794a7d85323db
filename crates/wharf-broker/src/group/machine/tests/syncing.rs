//! Syncing, heartbeats, commits: a generation from its assignment to its end.

use super::*;
use crate::group::machine::Expiry;

#[test]
fn followers_wait_for_the_leaders_assignment() {
    let mut diary = Diary::new();
    diary.join(new_member());
    diary.join(new_member());
    diary.form();
    let follower = diary.sync(&diary.sync_of("c-2"));
    assert!(diary.is_waiting(follower));
    let leader = diary.sync(&diary.sync_of("c-1"));
    assert_eq!(diary.assignment(leader), b"for c-1");
    assert_eq!(diary.assignment(follower), b"for c-2");
    assert_eq!(diary.group.state(), State::Stable);
    let late = diary.sync(&diary.sync_of("c-2"));
    assert_eq!(
        diary.assignment(late),
        b"for c-2",
        "a lost answer is given again"
    );
}

#[test]
fn nobody_learns_an_assignment_before_it_is_stored() {
    let mut diary = Diary::new();
    diary.stores_at_once = false;
    diary.join(new_member());
    diary.form();
    let sync = diary.sync(&diary.sync_of("c-1"));
    assert!(diary.is_waiting(sync));
    assert_eq!(diary.group.state(), State::CompletingRebalance);
    let again = diary.sync(&diary.sync_of("c-1"));
    assert_eq!(diary.sync_refused(sync), ErrorKind::RebalanceInProgress);
    assert_eq!(diary.stores.len(), 1, "it is stored once");
    diary.stored(Ok(()));
    assert_eq!(diary.assignment(again), b"for c-1");
    assert_eq!(
        diary.record.as_ref().map(|record| record.members.len()),
        Some(1)
    );
}

#[test]
fn an_assignment_that_cannot_be_stored_makes_everybody_join_again() {
    let mut diary = Diary::new();
    diary.stores_at_once = false;
    diary.join(new_member());
    diary.form();
    let sync = diary.sync(&diary.sync_of("c-1"));
    diary.stored(Err(Error::new(
        ErrorKind::KafkaStorageError,
        "the disk is full",
    )));
    assert_eq!(diary.sync_refused(sync), ErrorKind::NotCoordinator);
    assert_eq!(diary.group.state(), State::PreparingRebalance);
}

#[test]
fn an_assignment_stored_too_late_is_not_given_out() {
    let mut diary = Diary::new();
    diary.stores_at_once = false;
    diary.join(new_member());
    diary.form();
    let sync = diary.sync(&diary.sync_of("c-1"));
    diary.join(new_member());
    assert_eq!(diary.sync_refused(sync), ErrorKind::RebalanceInProgress);
    diary.stored(Ok(()));
    assert_eq!(diary.group.state(), State::PreparingRebalance);
}

#[test]
fn a_member_the_leader_forgot_gets_an_empty_assignment() {
    let mut diary = Diary::new();
    diary.join(new_member());
    diary.join(new_member());
    diary.form();
    let mut sync = diary.sync_of("c-1");
    sync.assignments.retain(|(id, _)| id == "c-1");
    sync.assignments
        .push(("stranger".to_owned(), Bytes::from_static(b"x")));
    diary.sync(&sync);
    let follower = diary.sync(&diary.sync_of("c-2"));
    assert_eq!(diary.assignment(follower), b"");
}

#[test]
fn a_sync_must_name_the_member_the_generation_and_the_protocol() {
    type Spoil = fn(&mut Sync);
    let cases: [(Spoil, ErrorKind); 6] = [
        (
            |sync| sync.member = "other".to_owned(),
            ErrorKind::UnknownMemberId,
        ),
        (
            |sync| sync.instance = Some("i".to_owned()),
            ErrorKind::UnknownMemberId,
        ),
        (|sync| sync.generation = 0, ErrorKind::IllegalGeneration),
        (|sync| sync.generation = 2, ErrorKind::IllegalGeneration),
        (
            |sync| sync.protocol_type = Some("connect".to_owned()),
            ErrorKind::InconsistentGroupProtocol,
        ),
        (
            |sync| sync.protocol = Some("sticky".to_owned()),
            ErrorKind::InconsistentGroupProtocol,
        ),
    ];
    for (spoil, kind) in cases {
        for mut diary in [Diary::stable(1), {
            let mut completing = Diary::new();
            completing.join(new_member());
            completing.form();
            completing
        }] {
            let mut sync = diary.sync_of("c-1");
            spoil(&mut sync);
            let ticket = diary.sync(&sync);
            assert_eq!(diary.sync_refused(ticket), kind);
        }
    }
    let mut named = Diary::stable(1);
    let sync = Sync {
        protocol_type: Some("consumer".to_owned()),
        protocol: Some("range".to_owned()),
        ..named.sync_of("c-1")
    };
    let ticket = named.sync(&sync);
    assert_eq!(named.assignment(ticket), b"for c-1");
}

#[test]
fn a_sync_during_a_rebalance_sends_the_member_back_to_join() {
    let mut diary = Diary::stable(2);
    diary.join(member("c-1"));
    let sync = diary.sync(&diary.sync_of("c-2"));
    assert_eq!(diary.sync_refused(sync), ErrorKind::RebalanceInProgress);
}

#[test]
fn members_that_do_not_sync_in_time_are_removed() {
    for missing in ["c-1", "c-2"] {
        let mut diary = Diary::new();
        diary.join(new_member());
        diary.join(new_member());
        diary.pass(INITIAL_DELAY * 2);
        let (synced, other) = if missing == "c-1" {
            ("c-2", "c-1")
        } else {
            ("c-1", "c-2")
        };
        let sync = diary.sync(&diary.sync_of(synced));
        diary.pass_alive(REBALANCE, &[synced, other]);
        assert_eq!(
            diary.ids(),
            [synced],
            "{missing} sends heartbeats but never syncs"
        );
        assert_eq!(diary.group.state(), State::PreparingRebalance);
        if missing == "c-1" {
            assert_eq!(diary.sync_refused(sync), ErrorKind::RebalanceInProgress);
        }
    }
}

#[test]
fn a_heartbeat_is_answered_by_the_state_of_the_group() {
    let mut diary = Diary::new();
    assert_eq!(diary.heartbeat("c-1"), Some(ErrorKind::UnknownMemberId));
    diary.join(new_member());
    assert_eq!(diary.heartbeat("c-1"), Some(ErrorKind::RebalanceInProgress));
    diary.form();
    assert_eq!(diary.heartbeat("c-1"), None, "while the leader assigns");
    diary.sync_all();
    assert_eq!(diary.heartbeat("c-1"), None);
    let stale = Member {
        generation: 0,
        ..diary.caller("c-1")
    };
    assert_eq!(
        kind(diary.group.heartbeat(&stale, diary.now)),
        Some(ErrorKind::IllegalGeneration)
    );
    let stranger = Member {
        generation: 0,
        ..diary.caller("c-9")
    };
    assert_eq!(
        kind(diary.group.heartbeat(&stranger, diary.now)),
        Some(ErrorKind::UnknownMemberId)
    );
}

#[test]
fn a_member_that_falls_silent_is_removed_after_its_session() {
    let mut diary = Diary::stable(2);
    diary.pass_alive(SESSION - SECOND, &["c-1"]);
    assert_eq!(diary.ids(), ["c-1", "c-2"]);
    diary.pass_alive(SECOND, &["c-1"]);
    assert_eq!(diary.ids(), ["c-1"]);
    assert_eq!(diary.group.state(), State::PreparingRebalance);
    let join = diary.join(member("c-1"));
    assert_eq!(diary.joined(join).generation, 2);
}

#[test]
fn a_member_that_waits_is_not_silent() {
    let mut diary = Diary::stable(2);
    let join = diary.join(member("c-1"));
    diary.pass_alive(REBALANCE - SECOND, &["c-2"]);
    assert!(
        diary.is_waiting(join),
        "its session would have ended long ago"
    );
    diary.join(member("c-2"));
    let sync = diary.sync(&diary.sync_of("c-2"));
    diary.pass_alive(REBALANCE - SECOND, &["c-1"]);
    assert!(diary.is_waiting(sync));
    diary.sync(&diary.sync_of("c-1"));
    assert_eq!(diary.assignment(sync), b"for c-2");
}

#[test]
fn the_last_member_leaves_an_empty_generation_that_is_stored() {
    let mut diary = Diary::stable(1);
    diary.pass(SESSION);
    assert_eq!(diary.group.state(), State::Empty);
    let record = diary.record.clone().expect("stored");
    assert_eq!(
        (record.generation, record.members.len(), record.protocol),
        (2, 0, None)
    );
    let again = diary.join(new_member());
    diary.form();
    assert_eq!(
        diary.joined(again).generation,
        3,
        "a generation is never used twice"
    );
}

#[test]
fn a_commit_is_checked_against_the_member_and_the_state() {
    let check = |diary: &mut Diary, caller: &Member| {
        kind(diary.group.check_commit(caller, CommitCall::New, diary.now))
    };
    let simple = Member {
        generation: -1,
        ..Diary::new().caller("")
    };

    let mut empty = Diary::new();
    assert_eq!(
        check(&mut empty, &simple),
        None,
        "no group protocol, or an administrator"
    );
    let named = Member {
        member: "x".to_owned(),
        ..simple.clone()
    };
    assert_eq!(check(&mut empty, &named), None);
    let caller = Member {
        generation: 0,
        ..empty.caller("c-1")
    };
    assert_eq!(check(&mut empty, &caller), Some(ErrorKind::UnknownMemberId));

    let mut stable = Diary::stable(1);
    let caller = stable.caller("c-1");
    let fenced = Member {
        instance: Some("i".to_owned()),
        ..caller.clone()
    };
    assert_eq!(check(&mut stable, &caller), None);
    assert_eq!(
        check(&mut stable, &simple),
        Some(ErrorKind::UnknownMemberId)
    );
    assert_eq!(
        check(&mut stable, &fenced),
        Some(ErrorKind::UnknownMemberId)
    );
    let stale = Member {
        generation: 0,
        ..caller.clone()
    };
    assert_eq!(
        check(&mut stable, &stale),
        Some(ErrorKind::IllegalGeneration)
    );
    let unversioned = Member {
        generation: -1,
        ..caller.clone()
    };
    assert_eq!(
        check(&mut stable, &unversioned),
        Some(ErrorKind::IllegalGeneration)
    );

    stable.join(new_member());
    assert_eq!(
        check(&mut stable, &caller),
        None,
        "the last chance before the rebalance"
    );
    stable.join(member("c-1"));
    let next = stable.caller("c-1");
    assert_eq!(
        check(&mut stable, &caller),
        Some(ErrorKind::IllegalGeneration)
    );
    assert_eq!(
        check(&mut stable, &next),
        Some(ErrorKind::RebalanceInProgress)
    );
}

#[test]
fn a_commit_keeps_the_session_alive() {
    let mut diary = Diary::stable(1);
    for _ in 0..3 {
        diary.pass(SESSION - SECOND);
        let caller = diary.caller("c-1");
        assert_eq!(
            kind(
                diary
                    .group
                    .check_commit(&caller, CommitCall::New, diary.now)
            ),
            None
        );
    }
    assert_eq!(diary.ids(), ["c-1"]);
}

#[test]
fn a_group_knows_the_topics_of_its_consumers() {
    let mut diary = Diary::new();
    assert!(!diary.group.is_subscribed("t"), "no consumers yet");
    diary.join(new_member());
    assert!(
        diary.group.is_subscribed("anything"),
        "not known before the first generation"
    );
    diary.form();
    assert!(diary.group.is_subscribed("t") && !diary.group.is_subscribed("u"));
    assert_eq!(kind(diary.group.check_delete_offsets()), None);
    diary.leave(&[leaving("c-1")]);
    assert!(!diary.group.is_subscribed("t"));

    let mut unreadable = Diary::new();
    unreadable.join(protocols(new_member(), &["range"]));
    unreadable.form();
    assert!(unreadable.group.is_subscribed("anything"));

    let mut connect = Diary::new();
    let join = Join {
        protocol_type: "connect".to_owned(),
        ..new_member()
    };
    connect.join(join);
    connect.form();
    assert!(!connect.group.is_subscribed("t"));
    assert_eq!(
        kind(connect.group.check_delete_offsets()),
        Some(ErrorKind::NonEmptyGroup)
    );
}

#[test]
fn offsets_expire_by_the_state_of_the_group() {
    let mut diary = Diary::new();
    assert_eq!(
        diary.group.expiry(),
        Expiry::SinceCommit,
        "no group protocol"
    );
    diary.join(new_member());
    assert_eq!(diary.group.expiry(), Expiry::Never);
    diary.pass(INITIAL_DELAY);
    assert_eq!(diary.group.expiry(), Expiry::Never);
    diary.sync_all();
    assert_eq!(
        diary.group.expiry(),
        Expiry::SinceCommit,
        "except for subscribed topics"
    );
    diary.leave(&[leaving("c-1")]);
    assert_eq!(diary.group.expiry(), Expiry::Since(diary.now));
}

#[test]
fn a_recovered_group_goes_on_where_it_was_stored() {
    let mut before = Diary::stable(2);
    let record = before.record.clone().expect("stored");
    before.pass(SECOND);
    let now = before.now;
    let limits = Limits {
        initial_delay: INITIAL_DELAY,
        members_max: 10,
    };
    let mut diary = Diary::of(Machine::recover(limits, record.clone(), now), now);
    assert_eq!(diary.group.state(), State::Stable);
    assert_eq!(diary.group.members().leader(), Some("c-1"));
    assert_eq!(diary.heartbeat("c-1"), None);
    let caller = diary.caller("c-2");
    assert_eq!(
        kind(diary.group.check_commit(&caller, CommitCall::New, now)),
        None
    );
    assert!(diary.group.is_subscribed("t"));
    let follower = diary.join(member("c-2"));
    assert_eq!(diary.joined(follower).generation, 1);
    let sync = diary.sync(&diary.sync_of("c-2"));
    assert_eq!(diary.assignment(sync), b"for c-2");
    assert_eq!(diary.group.record(None), record);
    diary.pass(SESSION);
    assert_eq!(
        diary.ids(),
        Vec::<String>::new(),
        "silent members are removed as ever"
    );
}

#[test]
fn a_recovered_group_that_is_too_large_now_sheds_its_last_members() {
    let record = Diary::stable(3).record.expect("stored");
    let limits = Limits {
        initial_delay: INITIAL_DELAY,
        members_max: 2,
    };
    let now = Timestamp::from_millis(9_000_000);
    let mut diary = Diary::of(Machine::recover(limits, record, now), now);
    assert_eq!(diary.group.state(), State::PreparingRebalance);
    diary.join(member("c-1"));
    diary.join(member("c-2"));
    let third = diary.join(member("c-3"));
    assert_eq!(diary.refused(third), (ErrorKind::GroupMaxSizeReached, ""));
    assert_eq!(diary.ids(), ["c-1", "c-2"]);
    assert_eq!(diary.group.state(), State::CompletingRebalance);
}

#[test]
fn only_an_empty_group_can_be_deleted_and_answers_nobody_meanwhile() {
    let mut diary = Diary::stable(1);
    assert_eq!(
        kind(diary.group.start_deletion()),
        Some(ErrorKind::NonEmptyGroup)
    );
    diary.leave(&[leaving("c-1")]);
    assert_eq!(kind(diary.group.start_deletion()), None);
    assert_eq!(
        kind(diary.group.start_deletion()),
        Some(ErrorKind::GroupIdNotFound)
    );
    let join = diary.join(new_member());
    assert_eq!(
        diary.refused(join),
        (ErrorKind::CoordinatorNotAvailable, "")
    );
    let sync = diary.sync(&diary.sync_of("c-1"));
    assert_eq!(diary.sync_refused(sync), ErrorKind::CoordinatorNotAvailable);
    assert_eq!(
        diary.heartbeat("c-1"),
        Some(ErrorKind::CoordinatorNotAvailable)
    );
    assert_eq!(
        kind(diary.group.leave(&[], diary.now)),
        Some(ErrorKind::CoordinatorNotAvailable)
    );
    assert_eq!(
        kind(diary.group.check_delete_offsets()),
        Some(ErrorKind::GroupIdNotFound)
    );
    diary.group.deletion_failed();
    assert_eq!(diary.group.state(), State::Empty);
}

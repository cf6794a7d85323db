//! Static members (KIP-345) and the skipped assignment (KIP-814).

use super::*;

/// A stable group of one static member `i`, known as `i-1`.
fn one_static() -> Diary {
    let mut diary = Diary::new();
    diary.join(instance("i"));
    diary.form();
    diary.sync_all();
    assert_eq!(diary.ids(), ["i-1"]);
    diary
}

#[test]
fn a_static_member_needs_no_second_join_to_get_its_id() {
    let mut diary = Diary::new();
    let join = diary.join(Join {
        member_id_required: true,
        ..instance("i")
    });
    diary.pass(INITIAL_DELAY);
    assert_eq!(diary.joined(join).member, "i-1");
    assert_eq!(diary.joined(join).members[0].1.as_deref(), Some("i"));
}

#[test]
fn a_static_member_that_comes_back_takes_its_place_without_a_rebalance() {
    let mut diary = one_static();
    let back = diary.join(instance("i"));
    let joined = diary.joined(back).clone();
    assert_eq!((joined.generation, joined.member.as_str()), (1, "i-3"));
    assert_eq!(
        joined.leader, "i-1",
        "an old client must not assign: it is told the old leader"
    );
    assert!(joined.members.is_empty() && !joined.skip_assignment);
    assert_eq!(diary.group.state(), State::Stable);
    let sync = diary.sync(&diary.sync_of("i-3"));
    assert_eq!(
        diary.assignment(sync),
        b"for i-1",
        "the place keeps its assignment"
    );
    let record = diary.record.expect("stored");
    assert_eq!(record.members[0].member, "i-3");
}

#[test]
fn a_static_leader_that_comes_back_may_be_told_to_skip_the_assignment() {
    let mut diary = one_static();
    let back = diary.join(Join {
        skip_assignment_supported: true,
        ..instance("i")
    });
    let joined = diary.joined(back);
    assert!(joined.skip_assignment);
    assert_eq!((joined.leader.as_str(), joined.members.len()), ("i-3", 1));
}

#[test]
fn a_static_follower_that_comes_back_assigns_nothing() {
    let mut diary = Diary::new();
    diary.join(instance("i"));
    diary.join(instance("j"));
    diary.form();
    diary.sync_all();
    let back = diary.join(Join {
        skip_assignment_supported: true,
        ..instance("j")
    });
    let joined = diary.joined(back);
    assert!(!joined.skip_assignment && joined.members.is_empty());
    assert_eq!(joined.leader, "i-1");
}

#[test]
fn the_old_id_of_a_static_member_is_fenced_everywhere() {
    let mut diary = one_static();
    diary.join(instance("i"));
    let old = Member {
        instance: Some("i".to_owned()),
        ..diary.caller("i-1")
    };
    let fenced = Some(ErrorKind::FencedInstanceId);
    assert_eq!(kind(diary.group.heartbeat(&old, diary.now)), fenced);
    assert_eq!(
        kind(diary.group.check_commit(&old, CommitCall::New, diary.now)),
        fenced
    );
    let join = diary.join(Join {
        member: "i-1".to_owned(),
        ..instance("i")
    });
    assert_eq!(diary.refused(join), (ErrorKind::FencedInstanceId, "i-1"));
    let sync = Sync {
        instance: Some("i".to_owned()),
        ..diary.sync_of("i-1")
    };
    let sync = diary.sync(&sync);
    assert_eq!(diary.sync_refused(sync), ErrorKind::FencedInstanceId);
    let leave = Leaving {
        instance: Some("i".to_owned()),
        ..leaving("i-1")
    };
    assert_eq!(diary.leave(&[leave]), [fenced]);
    assert_eq!(
        diary.heartbeat("i-1"),
        Some(ErrorKind::UnknownMemberId),
        "without its instance"
    );
}

#[test]
fn a_waiting_static_member_is_fenced_by_the_one_that_takes_its_place() {
    let mut diary = Diary::new();
    let first = diary.join(instance("i"));
    let second = diary.join(instance("i"));
    assert_eq!(diary.refused(first), (ErrorKind::FencedInstanceId, "i-1"));
    diary.pass(INITIAL_DELAY);
    assert_eq!(diary.joined(second).member, "i-2");

    let mut diary = Diary::new();
    diary.join(instance("i"));
    diary.join(instance("j"));
    diary.form();
    let sync = diary.sync(&diary.sync_of("j-2"));
    diary.join(instance("j"));
    assert_eq!(diary.sync_refused(sync), ErrorKind::FencedInstanceId);
}

#[test]
fn a_static_member_that_comes_back_while_the_leader_assigns_makes_everybody_join_again() {
    let mut diary = Diary::new();
    diary.join(instance("i"));
    diary.join(instance("j"));
    diary.form();
    let back = diary.join(instance("j"));
    assert_eq!(diary.group.state(), State::PreparingRebalance);
    diary.join(Join {
        member: "i-1".to_owned(),
        ..instance("i")
    });
    assert_eq!(diary.joined(back).generation, 2);
}

#[test]
fn a_static_member_that_would_change_the_protocol_makes_everybody_join_again() {
    let mut diary = Diary::new();
    diary.join(protocols(instance("i"), &["a", "b"]));
    diary.join(protocols(instance("j"), &["a", "b"]));
    diary.form();
    diary.sync_all();
    diary.join(protocols(instance("j"), &["b"]));
    assert_eq!(diary.group.state(), State::PreparingRebalance);
}

#[test]
fn a_replacement_that_cannot_be_stored_is_undone() {
    let mut diary = one_static();
    diary.stores_at_once = false;
    let back = diary.join(Join {
        session_timeout: SESSION * 2,
        ..instance("i")
    });
    assert!(diary.is_waiting(back));
    diary.stored(Err(Error::new(
        ErrorKind::KafkaStorageError,
        "the disk is full",
    )));
    assert_eq!(diary.refused(back), (ErrorKind::NotCoordinator, ""));
    assert_eq!(diary.ids(), ["i-1"]);
    assert_eq!(
        diary
            .group
            .members()
            .get("i-1")
            .expect("a member")
            .terms
            .session_timeout,
        SESSION
    );
    assert_eq!(diary.heartbeat("i-1"), None);
}

#[test]
fn a_rebalance_that_overtakes_a_replacement_answers_it() {
    let mut diary = one_static();
    diary.stores_at_once = false;
    let back = diary.join(instance("i"));
    let new = diary.join(new_member());
    assert_eq!(diary.joined(back).generation, 2);
    assert_eq!(diary.joined(new).generation, 2);
    diary.stored(Ok(()));
    assert_eq!(diary.group.state(), State::CompletingRebalance);
}

#[test]
fn a_static_member_that_does_not_join_again_keeps_its_place_until_its_session_ends() {
    let mut diary = Diary::new();
    let long = Join {
        session_timeout: REBALANCE * 3,
        ..instance("i")
    };
    diary.join(long);
    diary.join(new_member());
    diary.form();
    diary.sync_all();
    let join = diary.join(new_member());
    diary.join(member("c-2"));
    diary.pass(REBALANCE);
    assert_eq!(diary.joined(join).generation, 2);
    assert!(diary.ids().contains(&"i-1".to_owned()), "it may come back");
    assert_eq!(
        diary.group.members().leader(),
        Some("c-2"),
        "but it does not lead"
    );
}

#[test]
fn a_rebalance_that_no_static_member_joins_waits_until_their_sessions_end() {
    let mut diary = Diary::new();
    let long = |name| Join {
        session_timeout: REBALANCE * 3,
        ..instance(name)
    };
    diary.join(long("i"));
    diary.join(long("j"));
    diary.pass(INITIAL_DELAY * 2);
    diary.sync_all();
    let left = Leaving {
        member: String::new(),
        instance: Some("i".to_owned()),
        reason: String::new(),
    };
    assert_eq!(diary.leave(&[left]), [None]);
    diary.pass(REBALANCE * 2);
    assert_eq!(diary.group.state(), State::PreparingRebalance);
    assert_eq!(diary.ids(), ["j-2"]);
    diary.pass(REBALANCE);
    assert_eq!(diary.group.state(), State::Empty);
}

#[test]
fn an_instance_nobody_knows_is_refused_to_members_with_an_id() {
    let mut diary = Diary::stable(1);
    let join = diary.join(Join {
        member: "c-1".to_owned(),
        ..instance("i")
    });
    assert_eq!(diary.refused(join), (ErrorKind::UnknownMemberId, "c-1"));
}

//! Joining: the initial delay, ids given out, protocols, sizes, rebalances.

use super::*;

#[test]
fn the_first_generation_waits_for_the_initial_delay() {
    let mut diary = Diary::new();
    let join = diary.join(new_member());
    assert_eq!(diary.group.state(), State::PreparingRebalance);
    diary.pass(INITIAL_DELAY - SECOND);
    assert!(diary.is_waiting(join));
    diary.pass(SECOND);
    let joined = diary.joined(join);
    assert_eq!(
        (
            joined.generation,
            joined.leader.as_str(),
            joined.protocol.as_str()
        ),
        (1, "c-1", "range")
    );
    assert_eq!(joined.members.len(), 1);
    assert_eq!(diary.group.state(), State::CompletingRebalance);
}

#[test]
fn every_member_that_comes_extends_the_initial_delay() {
    let mut diary = Diary::new();
    let first = diary.join(new_member());
    diary.pass(INITIAL_DELAY - SECOND);
    let second = diary.join(new_member());
    diary.pass(SECOND * 2);
    assert!(diary.is_waiting(first) && diary.is_waiting(second));
    diary.pass(SECOND * 2);
    assert_eq!(
        diary.joined(first).members.len(),
        2,
        "the leader learns all members"
    );
    assert_eq!(
        diary.joined(second).members.len(),
        0,
        "a follower learns none"
    );
    assert_eq!(diary.joined(second).leader, "c-1");
}

#[test]
fn the_initial_delay_ends_with_the_rebalance_time_out_however_many_come() {
    let mut diary = Diary::new();
    let first = diary.join(new_member());
    for _ in 0..REBALANCE.as_secs() {
        assert!(diary.is_waiting(first));
        diary.pass(SECOND);
        diary.join(new_member());
    }
    diary.pass(INITIAL_DELAY);
    assert!(!diary.is_waiting(first));
}

#[test]
fn a_new_member_is_told_to_come_back_with_the_id_it_is_given() {
    let mut diary = Diary::new();
    let first = diary.join(Join {
        member_id_required: true,
        ..new_member()
    });
    assert_eq!(diary.refused(first), (ErrorKind::MemberIdRequired, "c-1"));
    assert_eq!(diary.group.state(), State::Empty);
    let second = diary.join(member("c-1"));
    diary.pass(INITIAL_DELAY);
    assert_eq!(diary.joined(second).member, "c-1");
}

#[test]
fn an_id_that_is_not_used_within_the_session_lapses() {
    let mut diary = Diary::new();
    diary.join(Join {
        member_id_required: true,
        ..new_member()
    });
    assert!(!diary.group.is_idle());
    diary.pass(SESSION);
    assert!(diary.group.is_idle());
    let late = diary.join(member("c-1"));
    assert_eq!(diary.refused(late), (ErrorKind::UnknownMemberId, "c-1"));
}

#[test]
fn a_rebalance_waits_for_ids_given_out() {
    let mut diary = Diary::stable(1);
    diary.join(Join {
        member_id_required: true,
        ..new_member()
    });
    let leader = diary.join(member("c-1"));
    assert!(diary.is_waiting(leader), "c-3 may join any moment");
    let new = diary.join(member("c-3"));
    assert_eq!(diary.joined(leader).members.len(), 2);
    assert_eq!(diary.joined(new).generation, 2);
}

#[test]
fn an_unknown_id_is_refused() {
    let mut diary = Diary::stable(1);
    let join = diary.join(member("other"));
    assert_eq!(diary.refused(join), (ErrorKind::UnknownMemberId, "other"));
}

#[test]
fn a_join_must_offer_what_the_group_can_use() {
    let others = |join: Join| Join {
        protocol_type: "connect".to_owned(),
        ..join
    };
    let untyped = |join: Join| Join {
        protocol_type: String::new(),
        ..join
    };
    let mut empty = Diary::new();
    for join in [untyped(new_member()), protocols(new_member(), &[])] {
        let ticket = empty.join(join);
        assert_eq!(
            empty.refused(ticket),
            (ErrorKind::InconsistentGroupProtocol, "")
        );
    }
    let mut stable = Diary::stable(1);
    for join in [
        others(new_member()),
        untyped(new_member()),
        protocols(new_member(), &[]),
        protocols(new_member(), &["sticky"]),
    ] {
        let ticket = stable.join(join);
        assert_eq!(
            stable.refused(ticket),
            (ErrorKind::InconsistentGroupProtocol, "")
        );
    }
    let ticket = stable.join(others(member("c-1")));
    assert_eq!(
        stable.refused(ticket),
        (ErrorKind::InconsistentGroupProtocol, "c-1")
    );
}

#[test]
fn the_protocol_most_members_prefer_among_those_all_support_wins() {
    let cases: [(&[&[&str]], &str); 4] = [
        (&[&["a", "b"], &["b", "a"], &["b", "a"]], "b"),
        (&[&["a", "b"], &["b"]], "b"),
        (&[&["c", "a", "b"], &["c", "b", "a"], &["b", "a"]], "b"),
        (&[&["b", "a"], &["a", "b"]], "a"), // a tie goes to the first by name
    ];
    for (members, winner) in cases {
        let mut diary = Diary::new();
        let tickets: Vec<_> = members
            .iter()
            .map(|names| diary.join(protocols(new_member(), names)))
            .collect();
        diary.form();
        for ticket in tickets {
            assert_eq!(diary.joined(ticket).protocol, winner, "{members:?}");
        }
    }
}

#[test]
fn a_protocol_offered_twice_counts_once() {
    let mut diary = Diary::new();
    let first = diary.join(protocols(new_member(), &["a", "a"]));
    diary.join(protocols(new_member(), &["b", "a"]));
    diary.form();
    assert_eq!(diary.joined(first).protocol, "a");
}

#[test]
fn a_new_member_makes_everybody_join_again() {
    let mut diary = Diary::stable(2);
    let new = diary.join(new_member());
    assert_eq!(diary.group.state(), State::PreparingRebalance);
    for id in ["c-1", "c-2"] {
        assert_eq!(diary.heartbeat(id), Some(ErrorKind::RebalanceInProgress));
    }
    diary.join(member("c-1"));
    assert!(diary.is_waiting(new));
    diary.join(member("c-2"));
    assert_eq!(diary.joined(new).generation, 2);
}

#[test]
fn a_member_that_does_not_join_again_in_time_is_removed() {
    let mut diary = Diary::stable(2);
    let new = diary.join(new_member());
    diary.join(member("c-1"));
    diary.pass_alive(REBALANCE, &["c-2"]);
    assert_eq!(diary.joined(new).generation, 2);
    assert_eq!(diary.ids(), ["c-1", "c-5"]);
    let late = diary.join(member("c-2"));
    assert_eq!(diary.refused(late), (ErrorKind::UnknownMemberId, "c-2"));
}

#[test]
fn a_leader_that_does_not_join_again_is_succeeded() {
    let mut diary = Diary::stable(2);
    let join = diary.join(Join {
        protocols: vec![("range".to_owned(), Bytes::new())],
        ..member("c-2")
    });
    diary.pass_alive(REBALANCE, &["c-1"]);
    assert_eq!(diary.joined(join).leader, "c-2");
    assert_eq!(diary.joined(join).members.len(), 1);
}

#[test]
fn in_a_stable_group_only_the_leader_and_changes_make_it_rebalance() {
    let mut diary = Diary::stable(2);
    let same = diary.join(member("c-2"));
    assert_eq!(
        diary.joined(same).generation,
        1,
        "a follower that changed nothing"
    );
    assert!(diary.joined(same).members.is_empty());
    assert_eq!(diary.group.state(), State::Stable);
    let changed = Join {
        protocols: vec![("range".to_owned(), subscription::write(&["t", "u"]))],
        ..member("c-2")
    };
    diary.join(changed);
    assert_eq!(diary.group.state(), State::PreparingRebalance);

    let mut diary = Diary::stable(2);
    diary.join(member("c-1"));
    assert_eq!(
        diary.group.state(),
        State::PreparingRebalance,
        "topics may have changed"
    );
}

#[test]
fn a_join_repeated_while_the_leader_assigns_gets_the_same_answer() {
    let mut diary = Diary::new();
    diary.join(new_member());
    diary.join(new_member());
    diary.form();
    let leader = diary.join(member("c-1"));
    let follower = diary.join(member("c-2"));
    assert_eq!(diary.joined(leader).members.len(), 2);
    assert_eq!(
        (
            diary.joined(follower).generation,
            diary.joined(follower).members.len()
        ),
        (1, 0)
    );
    let changed = protocols(member("c-2"), &["range"]);
    diary.join(changed);
    assert_eq!(diary.group.state(), State::PreparingRebalance);
}

#[test]
fn a_join_repeated_on_a_new_connection_ends_the_first_one() {
    let mut diary = Diary::stable(2);
    let lost = diary.join(member("c-1"));
    let again = diary.join(member("c-1"));
    assert_eq!(diary.refused(lost), (ErrorKind::RebalanceInProgress, "c-1"));
    diary.join(member("c-2"));
    assert_eq!(diary.joined(again).generation, 2);
}

#[test]
fn a_full_group_refuses_new_members_but_not_its_own() {
    let mut diary = Diary::with_members_max(2);
    let members: Vec<_> = (0..2).map(|_| diary.join(new_member())).collect();
    let third = diary.join(new_member());
    assert_eq!(diary.refused(third), (ErrorKind::GroupMaxSizeReached, ""));
    diary.form();
    assert_eq!(diary.joined(members[0]).members.len(), 2);
    diary.sync_all();
    let fourth = diary.join(new_member());
    assert_eq!(diary.refused(fourth), (ErrorKind::GroupMaxSizeReached, ""));
    let own = diary.join(member("c-1"));
    diary.join(member("c-2"));
    assert_eq!(diary.joined(own).generation, 2);
}

#[test]
fn ids_given_out_are_bounded_by_the_size_of_a_group() {
    let mut diary = Diary::with_members_max(2);
    let asked = |_| Join {
        member_id_required: true,
        ..new_member()
    };
    let tickets: Vec<_> = (0..3).map(asked).map(|join| diary.join(join)).collect();
    assert_eq!(diary.refused(tickets[1]).0, ErrorKind::MemberIdRequired);
    assert_eq!(
        diary.refused(tickets[2]),
        (ErrorKind::GroupMaxSizeReached, "")
    );
}

#[test]
fn members_that_bring_too_much_are_refused() {
    let mut diary = Diary::new();
    let huge = Bytes::from(vec![0; 5 << 20]);
    let join = || Join {
        protocols: vec![("range".to_owned(), huge.clone())],
        ..new_member()
    };
    let first = diary.join(join());
    let second = diary.join(join());
    assert_eq!(diary.refused(second).0, ErrorKind::GroupMaxSizeReached);
    let names: Vec<_> = (0..101).map(|number| number.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let third = diary.join(protocols(new_member(), &names));
    assert_eq!(diary.refused(third).0, ErrorKind::GroupMaxSizeReached);
    diary.form();
    assert_eq!(diary.joined(first).members.len(), 1);
}

#[test]
fn a_new_member_whose_connection_was_lost_does_not_hold_up_a_long_rebalance_forever() {
    let mut diary = Diary::stable(1);
    let slow = Join {
        rebalance_timeout: SECOND * 3600,
        ..new_member()
    };
    let lost = diary.join(slow);
    diary.pass_alive(SECOND * 300, &["c-1"]);
    assert_eq!(diary.refused(lost), (ErrorKind::UnknownMemberId, ""));
    assert_eq!(diary.ids(), ["c-1"]);
}

#[test]
fn cooperative_members_keep_what_they_own_and_join_once_more() {
    // KIP-429: the assignor takes partitions away in one generation and gives them in the next;
    // the group's part is that the leader's second join rebalances at once.
    let mut diary = Diary::stable(1);
    diary.join(new_member());
    diary.join(member("c-1"));
    diary.sync_all();
    assert_eq!(diary.group.generation, 2);
    let revoked = diary.join(member("c-1"));
    diary.join(member("c-3"));
    assert_eq!(diary.joined(revoked).generation, 3);
    assert_eq!(diary.joined(revoked).members.len(), 2);
}

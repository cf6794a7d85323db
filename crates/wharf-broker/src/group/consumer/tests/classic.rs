//! Members of the classic protocol in a group of the consumer protocol, and the ways between the
//! protocols.

use super::*;
use crate::group::consumer::ClassicJoin;
use crate::group::embedded::{Subscription, read_assignment, write_subscription};
use crate::group::{CommitCall, Join, JoinRefused, Joined, Leaving, Sync};

/// A join of a classic consumer of topic `t`; `owned` of one that gives up step by step.
fn classic(member: &str, owned: Option<(&[i32], i32)>) -> Join {
    let version = if owned.is_some() { 2 } else { 0 };
    let subscription = Subscription {
        version,
        topics: vec!["t".to_owned()],
        owned: match owned {
            Some((indexes, _)) if !indexes.is_empty() => vec![("t".to_owned(), indexes.to_vec())],
            _ => Vec::new(),
        },
        generation: owned
            .map(|(_, generation)| generation)
            .filter(|one| *one >= 0),
    };
    Join {
        group: "g".to_owned(),
        member: member.to_owned(),
        instance: None,
        session_timeout: SECOND * 10,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), write_subscription(&subscription))],
        member_id_required: true,
        skip_assignment_supported: false,
        reason: String::new(),
    }
}

impl Diary {
    fn join(&mut self, join: Join) -> Result<Joined, JoinRefused> {
        let request = ClassicJoin {
            join,
            new_member: "new".to_owned(),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
        };
        self.step(|group, around| group.join(&request, around))
    }

    /// Joins and syncs: the generation and the partitions of `t`.
    fn enter(&mut self, join: Join) -> (i32, Vec<i32>) {
        let member = join.member.clone();
        let joined = self.join(join).expect("joined");
        assert_eq!(joined.leader, "", "nobody leads");
        let sync = Sync {
            group: "g".to_owned(),
            generation: joined.generation,
            member,
            instance: None,
            protocol_type: Some("consumer".to_owned()),
            protocol: Some(joined.protocol),
            assignments: Vec::new(),
        };
        let synced = self
            .step(|group, around| group.sync(&sync, around))
            .expect("synced");
        let topics = read_assignment(&synced.assignment).expect("an assignment");
        let indexes = topics.into_iter().flat_map(|(_, indexes)| indexes);
        (joined.generation, indexes.collect())
    }

    fn classic_beat(&mut self, member: &str, generation: i32) -> Option<ErrorKind> {
        let caller = crate::group::Member {
            group: "g".to_owned(),
            generation,
            member: member.to_owned(),
            instance: None,
        };
        let result = self.step(|group, around| group.classic_heartbeat(&caller, around));
        result.err().map(|error| error.kind)
    }
}

const REJOIN: Option<ErrorKind> = Some(ErrorKind::RebalanceInProgress);

#[test]
fn a_classic_member_is_told_its_id_first_and_then_what_to_read() {
    let mut diary = Diary::new(4);
    diary.ok(&join("a", &["t"]));
    let refused = diary.join(classic("", None)).unwrap_err();
    assert_eq!(
        (refused.error.kind, refused.member.as_str()),
        (ErrorKind::MemberIdRequired, "new")
    );
    assert_eq!(
        diary.enter(classic("new", None)),
        (2, vec![]),
        "the other still reads everything"
    );
    diary.ok(&beat("a", 1));
    diary.own("a", 1, &[0, 1]);
    assert_eq!(
        diary.classic_beat("new", 2),
        REJOIN,
        "its partitions are free"
    );
    assert_eq!(diary.enter(classic("new", None)), (2, vec![2, 3]));
    assert_eq!(diary.classic_beat("new", 2), None);
    assert_eq!(diary.group.state(), "Stable");
}

#[test]
fn a_classic_member_that_gives_up_step_by_step_keeps_what_it_may() {
    let mut diary = Diary::new(4);
    assert_eq!(
        diary.enter(classic("old", Some((&[], -1)))),
        (1, vec![0, 1, 2, 3])
    );
    diary.ok(&join("a", &["t"]));
    assert_eq!(diary.classic_beat("old", 1), REJOIN);
    let owning = classic("old", Some((&[0, 1, 2, 3], 1)));
    assert_eq!(diary.enter(owning), (1, vec![0, 1]), "told to give up two");
    assert_eq!(diary.ok(&beat("a", 2)).assignment, None);
    assert_eq!(
        diary.classic_beat("old", 1),
        REJOIN,
        "to say that it gave them up"
    );
    assert_eq!(
        diary.enter(classic("old", Some((&[0, 1], 1)))),
        (2, vec![0, 1])
    );
    assert_eq!(indexes(&diary.ok(&beat("a", 2))), [2, 3]);
}

#[test]
fn a_classic_member_that_does_not_join_again_in_time_is_removed() {
    let mut diary = Diary::new(2);
    diary.enter(classic("old", None));
    diary.ok(&join("a", &["t"]));
    for _ in 0..60 {
        assert_eq!(diary.classic_beat("old", 1), REJOIN);
        diary.ok(&beat("a", 2));
        diary.pass(SECOND);
    }
    assert_eq!(
        diary.classic_beat("old", 1),
        Some(ErrorKind::UnknownMemberId)
    );
    assert_eq!(indexes(&diary.ok(&beat("a", 2))), [0, 1]);
}

#[test]
fn a_classic_member_that_does_not_sync_or_is_silent_is_removed() {
    let mut diary = Diary::new(2);
    diary.join(classic("old", None)).unwrap();
    for _ in 0..60 {
        diary.classic_beat("old", 1);
        diary.pass(SECOND);
    }
    assert_eq!(diary.group.state(), "Empty");
    diary.enter(classic("old", None));
    diary.pass(SECOND * 10);
    assert_eq!(diary.group.state(), "Empty");
}

#[test]
fn other_protocols_than_those_of_consumers_do_not_mix() {
    let mut diary = Diary::new(2);
    diary.enter(classic("old", None));
    let connect = Join {
        protocol_type: "connect".to_owned(),
        ..classic("x", None)
    };
    let mut unread = classic("x", None);
    unread.protocols[0].1 = Bytes::from_static(b"?");
    let mut other = classic("x", None);
    other.protocols[0].0 = "roundrobin".to_owned();
    for join in [connect, unread, other] {
        let refused = diary.join(join).unwrap_err();
        assert_eq!(refused.error.kind, ErrorKind::InconsistentGroupProtocol);
    }
}

#[test]
fn commits_are_checked_by_the_protocol_their_member_speaks() {
    use CommitCall::{New, Old, Transactional};
    let mut diary = Diary::new(2);
    diary.ok(&join("a", &["t"]));
    diary.enter(classic("old", None));
    let check = |member: &str, generation, call| {
        let caller = crate::group::Member {
            group: "g".to_owned(),
            generation,
            member: member.to_owned(),
            instance: None,
        };
        diary
            .group
            .check_commit(&caller, call)
            .err()
            .map(|error| error.kind)
    };
    assert_eq!(check("a", 1, New), None);
    assert_eq!(check("a", 1, Old), Some(ErrorKind::UnsupportedVersion));
    assert_eq!(check("a", 0, New), Some(ErrorKind::StaleMemberEpoch));
    assert_eq!(
        check("a", 0, Transactional),
        Some(ErrorKind::IllegalGeneration)
    );
    assert_eq!(check("old", 2, Old), None);
    assert_eq!(check("old", 1, New), Some(ErrorKind::IllegalGeneration));
    assert_eq!(check("x", 1, New), Some(ErrorKind::UnknownMemberId));
    assert_eq!(
        check("", -1, New),
        Some(ErrorKind::UnknownMemberId),
        "members are at work"
    );
    assert_eq!(check("", -1, Transactional), None);
}

#[test]
fn an_administrator_removes_members_of_either_protocol() {
    let mut diary = Diary::new(2);
    let fixed = ConsumerHeartbeat {
        instance: Some("i".to_owned()),
        ..join("a", &["t"])
    };
    diary.ok(&fixed);
    diary.enter(classic("old", None));
    let leaving = |member: &str, instance: Option<&str>| Leaving {
        member: member.to_owned(),
        instance: instance.map(str::to_owned),
        reason: String::new(),
    };
    let all = [
        leaving("", Some("i")),
        leaving("old", None),
        leaving("old", None),
    ];
    let results = diary
        .step(|group, around| group.leave_all(&all, around))
        .unwrap();
    assert!(results[0].is_ok() && results[1].is_ok() && results[2].is_err());
    assert_eq!(diary.group.state(), "Empty");
}

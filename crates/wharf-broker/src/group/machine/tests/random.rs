//! Random lives of groups: whatever comes, the invariants hold and everybody is answered.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Join {
        who: usize,
        static_member: bool,
        id_required: bool,
        protocols: usize,
        skip: bool,
    },
    Sync {
        who: usize,
        generation: i32,
    },
    Heartbeat {
        who: usize,
        generation: i32,
    },
    Leave {
        who: Vec<usize>,
        by_instance: bool,
    },
    Commit {
        who: usize,
        generation: i32,
    },
    Pass {
        seconds: u64,
    },
    Stored {
        ok: bool,
    },
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    // Generations are relative to the group's: mostly right, sometimes not.
    let generation = prop_oneof![8 => Just(0), 1 => -2..3];
    let who = 0_usize..8;
    prop_oneof![
        6 => (who.clone(), any::<bool>(), any::<bool>(), 0_usize..5, any::<bool>()).prop_map(
            |(who, static_member, id_required, protocols, skip)| Event::Join {
                who, static_member, id_required, protocols, skip
            }
        ),
        6 => (who.clone(), generation.clone()).prop_map(|(who, generation)| Event::Sync { who, generation }),
        3 => (who.clone(), generation.clone()).prop_map(|(who, generation)| Event::Heartbeat { who, generation }),
        1 => (prop::collection::vec(who.clone(), 0..3), any::<bool>())
            .prop_map(|(who, by_instance)| Event::Leave { who, by_instance }),
        1 => (who, generation).prop_map(|(who, generation)| Event::Commit { who, generation }),
        4 => (0_u64..90).prop_map(|seconds| Event::Pass { seconds }),
        4 => prop::bool::weighted(0.9).prop_map(|ok| Event::Stored { ok }),
        1 => Just(Event::Restart),
    ]
}

const OFFERS: [&[&str]; 5] = [&["a", "b"], &["b", "a"], &["a"], &["b", "b"], &[]];

/// The diary with what the clients remember.
struct Life {
    diary: Diary,
    /// The id each client holds, or none.
    ids: [String; 8],
    /// Whose join or sync a ticket is.
    waiting: BTreeMap<Ticket, usize>,
    generation: i32,
    /// Who was asked to assign, by generation.
    leaders: BTreeMap<i32, String>,
    stored: Option<GroupRecord>,
}

impl Life {
    fn new() -> Self {
        let mut diary = Diary::with_members_max(5);
        diary.stores_at_once = false;
        let (ids, waiting) = (Default::default(), BTreeMap::new());
        Self {
            diary,
            ids,
            waiting,
            generation: 0,
            leaders: BTreeMap::new(),
            stored: None,
        }
    }

    fn caller(&self, who: usize, generation: i32) -> Member {
        let caller = self.diary.caller(&self.ids[who]);
        Member {
            generation: caller.generation + generation,
            ..caller
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Join {
                who,
                static_member,
                id_required,
                protocols: offer,
                skip,
            } => {
                let join = Join {
                    member: self.ids[who].clone(),
                    instance: static_member.then(|| format!("i{}", who % 3)),
                    member_id_required: id_required,
                    skip_assignment_supported: skip,
                    rebalance_timeout: Duration::from_secs(30 * (who as u64 % 3)),
                    ..protocols(new_member(), OFFERS[offer])
                };
                let ticket = self.diary.join(join);
                self.waiting.insert(ticket, who);
            }
            Event::Sync { who, generation } => {
                let sync = self.diary.sync_of(&self.ids[who]);
                let generation = sync.generation + generation;
                let ticket = self.diary.sync(&Sync { generation, ..sync });
                self.waiting.insert(ticket, who);
            }
            Event::Heartbeat { who, generation } => {
                let caller = self.caller(who, generation);
                self.diary.group.heartbeat(&caller, self.diary.now).ok();
            }
            Event::Commit { who, generation } => {
                let caller = self.caller(who, generation);
                self.diary
                    .group
                    .check_commit(&caller, CommitCall::New, self.diary.now)
                    .ok();
            }
            Event::Leave { who, by_instance } => {
                let leaving = |who: usize| Leaving {
                    member: if by_instance {
                        String::new()
                    } else {
                        self.ids[who].clone()
                    },
                    instance: by_instance.then(|| format!("i{}", who % 3)),
                    reason: String::new(),
                };
                let leaving: Vec<_> = who.into_iter().map(leaving).collect();
                let answers = self.diary.leave(&leaving);
                assert_eq!(answers.len(), leaving.len());
            }
            Event::Pass { seconds } => self.diary.pass(Duration::from_secs(seconds)),
            Event::Stored { ok } => self.end_store(ok),
            Event::Restart => self.restart(),
        }
        self.check();
    }

    fn end_store(&mut self, ok: bool) {
        if self.diary.stores.is_empty() {
            return;
        }
        let failed = Err(Error::new(ErrorKind::KafkaStorageError, "no"));
        self.diary.stored(if ok { Ok(()) } else { failed });
        if ok {
            self.stored = self.diary.record.clone();
        }
    }

    /// The node restarts with what was stored; connections, and so waiting requests, are gone.
    fn restart(&mut self) {
        let limits = self.diary.group.limits;
        let (now, tickets) = (self.diary.now, self.diary.tickets);
        let group = match self.stored.clone() {
            Some(record) => Machine::recover(limits, record, now),
            None => Machine::new(limits, now),
        };
        self.diary = Diary::of(group, now);
        self.diary.tickets = tickets;
        self.diary.stores_at_once = false;
        self.diary.collect();
        self.waiting.clear();
        self.leaders.clear();
        self.generation = self.diary.group.generation;
    }

    fn check(&mut self) {
        self.learn();
        let group = &self.diary.group;
        assert!(group.generation >= self.generation, "generations only grow");
        self.generation = group.generation;
        let members = group.members();
        assert_eq!(members.leader().is_some(), !members.is_empty());
        assert!(
            members
                .leader()
                .is_none_or(|leader| members.contains(leader))
        );
        match group.state {
            State::Empty | State::Dead => assert!(members.is_empty()),
            State::CompletingRebalance | State::Stable => assert!(!members.is_empty()),
            State::PreparingRebalance => {} // ids given out may be waited for
        }
        let joining = members
            .iter()
            .filter(|(_, member)| member.is_joining())
            .count();
        assert_eq!(joining, members.joining());
        for (id, member) in members.iter() {
            let vouched = member.is_joining() || member.sync.is_some();
            assert!(
                vouched || member.deadline.is_some(),
                "{id} would stay forever"
            );
            if let Some(instance) = &member.instance {
                assert_eq!(members.member_of_instance(instance), Some(id.as_str()));
            }
        }
        if matches!(group.state, State::Stable | State::CompletingRebalance) {
            assert!(
                group.protocol.is_some(),
                "all members of a generation share a protocol"
            );
        }
        assert!(group.wake().is_none_or(|wake| wake > self.diary.now) || self.is_due());
    }

    /// Something may be due at this very moment, after a step at the time of a deadline.
    fn is_due(&self) -> bool {
        let mut later = self.diary.group.clone();
        later.tick(self.diary.now);
        later.wake().is_none_or(|wake| wake > self.diary.now)
    }

    /// Clients take in what they were answered.
    fn learn(&mut self) {
        for (ticket, result) in std::mem::take(&mut self.diary.joins) {
            let who = self.waiting.remove(&ticket).expect("a ticket of this life");
            match result {
                Ok(joined) => {
                    assert!(joined.generation <= self.diary.group.generation);
                    let leads = joined.leader == joined.member;
                    assert!(
                        leads || joined.members.is_empty(),
                        "only a leader learns the members"
                    );
                    self.ids[who] = joined.member;
                }
                Err(refused) if refused.error.kind == ErrorKind::MemberIdRequired => {
                    self.ids[who] = refused.member;
                }
                Err(refused) if refused.error.kind == ErrorKind::RebalanceInProgress => {}
                Err(_) => self.ids[who].clear(),
            }
        }
        for (ticket, _) in std::mem::take(&mut self.diary.syncs) {
            self.waiting.remove(&ticket).expect("a ticket of this life");
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_invariants_hold_and_everybody_is_answered(
        events in prop::collection::vec(event(), 0..120)
    ) {
        let mut life = Life::new();
        for event in events {
            life.happen(event);
        }
        for _ in 0..60 {
            while !life.diary.stores.is_empty() {
                life.end_store(true);
                life.check();
            }
            life.diary.pass(Duration::from_secs(60));
            life.check();
        }
        prop_assert!(life.waiting.is_empty(), "never answered: {:?}", life.waiting);
        prop_assert_eq!(life.diary.group.state(), State::Empty);
        prop_assert_eq!(life.diary.group.wake(), None);
    }
}

//! Diaries of groups: each test says what happens to whom and what the group answers.

mod joining;
mod leaving;
mod random;
mod statics;
mod syncing;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use wharf_message::Timestamp;

use super::{Effect, JoinRequest, Limits, Machine, State, Ticket, Token};
use crate::group::record::GroupRecord;
use crate::group::{
    CommitCall, Join, JoinRefused, Joined, Leaving, Member, Sync, Synced, subscription,
};
use crate::{Error, ErrorKind};

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);
const INITIAL_DELAY: Duration = Duration::from_secs(3);
const SECOND: Duration = Duration::from_secs(1);

/// A group, its clock, and the answers it gave.
struct Diary {
    group: Machine,
    now: Timestamp,
    tickets: u64,
    joins: BTreeMap<Ticket, Result<Joined, JoinRefused>>,
    syncs: BTreeMap<Ticket, Result<Synced, Error>>,
    stores: VecDeque<(Token, GroupRecord)>,
    /// The last record stored.
    record: Option<GroupRecord>,
    /// Stores end at once.
    stores_at_once: bool,
}

/// A join of a consumer that subscribes to topic `t` and knows no id.
fn new_member() -> Join {
    Join {
        group: "g".to_owned(),
        member: String::new(),
        instance: None,
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), subscription::write(&["t"]))],
        member_id_required: false,
        skip_assignment_supported: false,
        reason: String::new(),
    }
}

fn member(id: &str) -> Join {
    Join {
        member: id.to_owned(),
        ..new_member()
    }
}

fn instance(name: &str) -> Join {
    Join {
        instance: Some(name.to_owned()),
        ..new_member()
    }
}

fn protocols(join: Join, names: &[&str]) -> Join {
    let protocols = names
        .iter()
        .map(|name| ((*name).to_owned(), Bytes::from_static(b"m")));
    Join {
        protocols: protocols.collect(),
        ..join
    }
}

fn leaving(member: &str) -> Leaving {
    Leaving {
        member: member.to_owned(),
        instance: None,
        reason: String::new(),
    }
}

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind)
}

impl Diary {
    fn new() -> Self {
        Self::with_members_max(usize::MAX)
    }

    fn with_members_max(members_max: usize) -> Self {
        let now = Timestamp::from_millis(1_000_000);
        let limits = Limits {
            initial_delay: INITIAL_DELAY,
            members_max,
        };
        Self::of(Machine::new(limits, now), now)
    }

    fn of(group: Machine, now: Timestamp) -> Self {
        Self {
            group,
            now,
            tickets: 0,
            joins: BTreeMap::new(),
            syncs: BTreeMap::new(),
            stores: VecDeque::new(),
            record: None,
            stores_at_once: true,
        }
    }

    /// A stable group of these many dynamic members, `c-1` leading, in generation 1.
    fn stable(members: u64) -> Self {
        let mut diary = Self::new();
        for _ in 0..members {
            diary.join(new_member());
        }
        diary.form();
        diary.sync_all();
        assert_eq!(diary.group.state(), State::Stable);
        diary
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Joins; a new member gets the id `c-N` where N is the ticket's number.
    fn join(&mut self, join: Join) -> Ticket {
        let ticket = self.ticket();
        let request = JoinRequest {
            ticket,
            new_member: format!("{}-{}", join.instance.as_deref().unwrap_or("c"), ticket.0),
            join,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
        };
        self.group.join(&request, self.now);
        self.collect();
        ticket
    }

    fn sync(&mut self, sync: &Sync) -> Ticket {
        let ticket = self.ticket();
        self.group.sync(ticket, sync, self.now);
        self.collect();
        ticket
    }

    /// A sync of the current generation, with assignments if the member leads.
    fn sync_of(&self, id: &str) -> Sync {
        let ids = self.group.members().iter().map(|(id, _)| id.clone());
        let assignments = ids.map(|id| (id.clone(), Bytes::from(format!("for {id}"))));
        Sync {
            group: "g".to_owned(),
            generation: self.group.generation,
            member: id.to_owned(),
            instance: None,
            protocol_type: None,
            protocol: None,
            assignments: match self.group.members.is_leader(id) {
                true => assignments.collect(),
                false => Vec::new(),
            },
        }
    }

    /// Everybody syncs.
    fn sync_all(&mut self) {
        for id in self.group.members.ids() {
            self.sync(&self.sync_of(&id));
        }
    }

    fn caller(&self, id: &str) -> Member {
        Member {
            group: "g".to_owned(),
            generation: self.group.generation,
            member: id.to_owned(),
            instance: None,
        }
    }

    fn heartbeat(&mut self, id: &str) -> Option<ErrorKind> {
        let caller = self.caller(id);
        kind(self.group.heartbeat(&caller, self.now))
    }

    fn leave(&mut self, leaving: &[Leaving]) -> Vec<Option<ErrorKind>> {
        let results = self.group.leave(leaving, self.now).unwrap();
        self.collect();
        results.into_iter().map(kind).collect()
    }

    /// Ends the oldest store.
    fn stored(&mut self, result: Result<(), Error>) {
        let (token, record) = self.stores.pop_front().expect("a store is under way");
        self.record = result.is_ok().then_some(record);
        self.group.stored(token, result, self.now);
        self.collect();
    }

    /// Time passes; what is due happens when it is due.
    fn pass(&mut self, duration: Duration) {
        let until = self.now.after(duration);
        while let Some(wake) = self.group.wake().filter(|wake| *wake <= until) {
            self.now = self.now.max(wake);
            self.group.tick(self.now);
            self.collect();
        }
        self.now = until;
    }

    /// The initial delay ends for members that all came at once, before any session does.
    fn form(&mut self) {
        self.pass(INITIAL_DELAY * 2);
    }

    /// Time passes while these members send heartbeats.
    fn pass_alive(&mut self, duration: Duration, ids: &[&str]) {
        for _ in 0..duration.as_secs() {
            self.pass(SECOND);
            for id in ids {
                self.heartbeat(id);
            }
        }
    }

    fn collect(&mut self) {
        for effect in self.group.take_effects() {
            match effect {
                Effect::Joined(ticket, result) => {
                    assert!(
                        self.joins.insert(ticket, result).is_none(),
                        "answered twice"
                    );
                }
                Effect::Synced(ticket, result) => {
                    assert!(
                        self.syncs.insert(ticket, result).is_none(),
                        "answered twice"
                    );
                }
                Effect::Store(token, record) => self.stores.push_back((token, record)),
            }
        }
        if self.stores_at_once && !self.stores.is_empty() {
            self.stored(Ok(()));
        }
    }

    fn is_waiting(&self, ticket: Ticket) -> bool {
        !self.joins.contains_key(&ticket) && !self.syncs.contains_key(&ticket)
    }

    #[track_caller]
    fn joined(&self, ticket: Ticket) -> &Joined {
        self.joins
            .get(&ticket)
            .expect("answered")
            .as_ref()
            .expect("joined")
    }

    #[track_caller]
    fn refused(&self, ticket: Ticket) -> (ErrorKind, &str) {
        let refused = self
            .joins
            .get(&ticket)
            .expect("answered")
            .as_ref()
            .expect_err("refused");
        (refused.error.kind, &refused.member)
    }

    #[track_caller]
    fn assignment(&self, ticket: Ticket) -> &[u8] {
        &self
            .syncs
            .get(&ticket)
            .expect("answered")
            .as_ref()
            .expect("synced")
            .assignment
    }

    #[track_caller]
    fn sync_refused(&self, ticket: Ticket) -> ErrorKind {
        self.syncs
            .get(&ticket)
            .expect("answered")
            .as_ref()
            .expect_err("refused")
            .kind
    }

    fn ids(&self) -> Vec<String> {
        self.group.members.ids()
    }
}

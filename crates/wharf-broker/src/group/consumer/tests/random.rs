//! Random lives of groups: members come, go, die and lose answers, topics change, the node
//! restarts. Whatever happens, no partition is read by two members at once; and once everybody is
//! heard of again, everybody reads what it shall and every partition is read.

use proptest::prelude::*;

use super::*;
use crate::group::consumer::Partitions;

const NAMES: [&str; 3] = ["t", "u", "v"];

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    RequestLost,
    AnswerLost,
    /// Arrives twice; the first answer counts, as nobody waits for the second.
    Repeated,
}

#[derive(Clone, Debug)]
enum Event {
    /// A new client, static or not, that subscribes to some topics, or to all by pattern.
    Come {
        topics: u8,
        pattern: bool,
        instance: Option<u8>,
        assignor: Option<u8>,
    },
    Beat {
        client: prop::sample::Index,
        fate: Fate,
        tells: bool,
    },
    /// The client has stopped reading what it was told to and reads the rest.
    Finish(prop::sample::Index),
    Resubscribe {
        client: prop::sample::Index,
        topics: u8,
    },
    Leave(prop::sample::Index, Fate),
    Die(prop::sample::Index),
    Grow(u8, i32),
    Recreate(u8),
    Restart,
    Pass(u64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Answered),
        1 => Just(Fate::RequestLost),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::Repeated),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let client = any::<prop::sample::Index>;
    let instance = prop::option::weighted(0.4, 0..2_u8);
    let assignor = prop::option::weighted(0.3, 0..2_u8);
    prop_oneof![
        3 => (1..8_u8, any::<bool>(), instance, assignor).prop_map(
            |(topics, pattern, instance, assignor)| Event::Come { topics, pattern, instance, assignor }
        ),
        20 => (client(), fate(), any::<bool>())
            .prop_map(|(client, fate, tells)| Event::Beat { client, fate, tells }),
        12 => client().prop_map(Event::Finish),
        2 => (client(), 1..8_u8).prop_map(|(client, topics)| Event::Resubscribe { client, topics }),
        2 => (client(), fate()).prop_map(|(client, fate)| Event::Leave(client, fate)),
        1 => client().prop_map(Event::Die),
        1 => (0..3_u8, 1..5_i32).prop_map(|(topic, more)| Event::Grow(topic, more)),
        1 => (0..3_u8).prop_map(Event::Recreate),
        2 => Just(Event::Restart),
        3 => (1..20_u64).prop_map(Event::Pass),
    ]
}

/// A client that keeps the rules.
#[derive(Clone, Debug)]
struct Client {
    id: String,
    instance: Option<String>,
    topics: Vec<String>,
    pattern: Option<String>,
    assignor: Option<String>,
    epoch: i32,
    reads: Partitions,
    /// What it was told to read, until it does.
    told: Option<Partitions>,
    /// What it said last that it reads.
    said: Partitions,
    /// It does not know what the group knows of it: it says everything.
    says_all: bool,
    is_alive: bool,
}

struct World {
    diary: Diary,
    clients: Vec<Client>,
    next: usize,
}

fn chosen(topics: u8) -> Vec<String> {
    let chosen = (0..).zip(NAMES).filter(|(bit, _)| topics >> bit & 1 == 1);
    chosen.map(|(_, name)| name.to_owned()).collect()
}

impl World {
    fn new() -> Self {
        let diary = Diary::new(4);
        diary.topics.put("u", 3);
        Self {
            diary,
            clients: Vec::new(),
            next: 0,
        }
    }

    fn alive(&self) -> Vec<usize> {
        let all = self.clients.iter().enumerate();
        all.filter(|(_, client)| client.is_alive)
            .map(|(at, _)| at)
            .collect()
    }

    fn pick(&self, index: &prop::sample::Index) -> Option<usize> {
        let alive = self.alive();
        (!alive.is_empty()).then(|| alive[index.index(alive.len())])
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Come {
                topics,
                pattern,
                instance,
                assignor,
            } => {
                self.come(*topics, *pattern, *instance, *assignor);
            }
            Event::Beat {
                client,
                fate,
                tells,
            } => {
                if let Some(client) = self.pick(client) {
                    self.beat(client, *fate, *tells);
                }
            }
            Event::Finish(client) => {
                if let Some(client) = self.pick(client) {
                    self.finish(client);
                }
            }
            Event::Resubscribe { client, topics } => {
                if let Some(client) = self.pick(client) {
                    let client = &mut self.clients[client];
                    client.topics = chosen(*topics);
                    client.says_all = true;
                }
            }
            Event::Leave(client, fate) => {
                if let Some(client) = self.pick(client) {
                    self.leave(client, *fate);
                }
            }
            Event::Die(client) => {
                if let Some(client) = self.pick(client) {
                    self.clients[client].is_alive = false;
                }
            }
            Event::Grow(topic, more) => {
                let name = NAMES[usize::from(*topic)];
                let size = self
                    .diary
                    .topics
                    .by_name(name)
                    .map_or(0, |topic| topic.partitions);
                self.diary.topics.put(name, size + more);
            }
            Event::Recreate(topic) => {
                let name = NAMES[usize::from(*topic)];
                self.diary.topics.delete(name);
                self.diary.topics.put(name, 2);
            }
            Event::Restart if self.diary.stores > 0 => self.diary.restart(),
            Event::Restart => {}
            Event::Pass(seconds) => self.pass(SECOND * u32::try_from(*seconds).unwrap()),
        }
        self.check();
    }

    fn come(&mut self, topics: u8, pattern: bool, instance: Option<u8>, assignor: Option<u8>) {
        self.next += 1;
        let instance = instance.map(|number| format!("i{number}"));
        let rival = |client: &Client| client.is_alive && client.instance == instance;
        if self.alive().len() >= 6 || instance.is_some() && self.clients.iter().any(rival) {
            return;
        }
        self.clients.push(Client {
            id: format!("m{}", self.next),
            instance,
            topics: chosen(topics),
            pattern: pattern.then(|| "[tuv]".to_owned()),
            assignor: assignor
                .map(|number| crate::group::ASSIGNORS[usize::from(number)].to_owned()),
            epoch: 0,
            reads: Partitions::default(),
            told: None,
            said: Partitions::default(),
            says_all: true,
            is_alive: true,
        });
    }

    /// Whoever says what it reads has taken what it was given before: what it leaves out it has
    /// given up.
    fn beat(&mut self, at: usize, fate: Fate, tells: bool) {
        if self.clients[at].says_all {
            self.finish(at);
        }
        let client = &mut self.clients[at];
        let all = client.says_all || client.epoch == 0;
        let tells = all || client.told.is_none() && (tells || client.reads != client.said);
        let owned = ConsumerGroup::listed(&client.reads);
        let heartbeat = ConsumerHeartbeat {
            group: "g".to_owned(),
            member: client.id.clone(),
            brings_id: true,
            epoch: client.epoch,
            instance: client.instance.clone(),
            rack: None,
            rebalance_timeout: all.then_some(REBALANCE),
            topics: all.then(|| client.topics.clone()),
            pattern: client.pattern.clone().filter(|_| all),
            assignor: client.assignor.clone().filter(|_| all),
            owned: tells.then_some(owned),
        };
        if tells {
            client.said = client.reads.clone();
        }
        let Some(answer) = self.send(&heartbeat, fate) else {
            self.clients[at].says_all = true;
            return;
        };
        let client = &mut self.clients[at];
        match answer {
            Ok(answer) => {
                client.epoch = answer.epoch;
                client.says_all = false;
                if let Some(assignment) = answer.assignment {
                    let topics = assignment.into_iter();
                    let told = topics.flat_map(|(id, indexes)| {
                        indexes.into_iter().map(move |index| (id, index))
                    });
                    client.told = Some(told.collect());
                }
            }
            Err(ErrorKind::UnreleasedInstanceId | ErrorKind::GroupMaxSizeReached) => {}
            Err(ErrorKind::FencedMemberEpoch | ErrorKind::UnknownMemberId) => client.lose(),
            Err(ErrorKind::FencedInstanceId) => {
                client.lose();
                client.is_alive = false;
            }
            Err(other) => panic!("{other:?} in answer to {heartbeat:?}"),
        }
    }

    /// Sends a request; `None` when no answer arrives.
    fn send(
        &mut self,
        heartbeat: &ConsumerHeartbeat,
        fate: Fate,
    ) -> Option<Result<ConsumerHeartbeatAnswer, ErrorKind>> {
        let mut send = || self.diary.beat(heartbeat).map_err(|error| error.kind);
        match fate {
            Fate::Answered => Some(send()),
            Fate::RequestLost => None,
            Fate::AnswerLost => {
                drop(send());
                None
            }
            Fate::Repeated => {
                let answer = send();
                drop(send());
                Some(answer)
            }
        }
    }

    fn finish(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if let Some(told) = client.told.take() {
            client.reads = told;
        }
    }

    /// Stops reading, then says so; a static client leaves its place open.
    fn leave(&mut self, at: usize, fate: Fate) {
        let client = &mut self.clients[at];
        let epoch = if client.instance.is_some() { -2 } else { -1 };
        let heartbeat = ConsumerHeartbeat {
            instance: client.instance.clone(),
            ..beat(&client.id, epoch)
        };
        client.reads = Partitions::default();
        client.is_alive = false;
        drop(self.send(&heartbeat, fate));
    }

    fn pass(&mut self, duration: Duration) {
        self.diary.pass(duration);
        // Whoever was removed for its silence is not counted any more: it notices by itself.
        for client in &mut self.clients {
            if !self.diary.group.members.contains_key(&client.id) {
                client.reads = Partitions::default();
                client.told = None;
            }
        }
    }

    /// No two read the same.
    fn check(&self) {
        let mut readers = BTreeMap::new();
        for client in &self.clients {
            for partition in client.reads.iter() {
                let other = readers.insert(partition, &client.id);
                assert_eq!(
                    other, None,
                    "{partition:?} is read by {} as well",
                    client.id
                );
            }
        }
    }

    /// The dead are removed, everybody else is heard of until nothing changes any more.
    fn settle(&mut self) {
        for _ in 0..30 {
            self.pass(SECOND * 5);
            for at in self.alive() {
                self.beat(at, Fate::Answered, true);
                self.check();
                self.finish(at);
                self.check();
            }
        }
        let mut read = Partitions::default();
        for client in self.clients.iter().filter(|client| client.is_alive) {
            let member = &self.diary.group.members[&client.id];
            assert_eq!(client.reads, member.target, "{} is not there", client.id);
            read.extend(client.reads.iter());
        }
        let alive = self.clients.iter().filter(|client| client.is_alive);
        let mut wanted = Partitions::default();
        for name in alive.flat_map(|client| match client.pattern {
            Some(_) => NAMES.map(str::to_owned).to_vec(),
            None => client.topics.clone(),
        }) {
            if let Some(topic) = self.diary.topics.by_name(&name) {
                wanted.extend((0..topic.partitions).map(|index| (topic.id, index)));
            }
        }
        assert_eq!(read, wanted, "somebody reads everything");
        let stores = self.diary.stores;
        for at in self.alive() {
            self.beat(at, Fate::Answered, false);
        }
        assert_eq!(self.diary.stores, stores, "a settled group writes nothing");
    }
}

impl Client {
    /// It is told that it has lost everything, and joins again.
    fn lose(&mut self) {
        self.epoch = 0;
        self.reads = Partitions::default();
        self.told = None;
        self.says_all = true;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_partition_is_read_by_two_and_every_group_settles(
        events in prop::collection::vec(event(), 1..120)
    ) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        world.settle();
    }
}

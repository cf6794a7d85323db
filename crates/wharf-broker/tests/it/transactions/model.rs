//! Transactions against a model, with power loss in between and in the middle: whatever was
//! acknowledged holds, and nothing is ever half done.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What of an interrupted transaction is there after a start: records in two partitions and an
/// offset.
fn whole(world: &World) -> [bool; 3] {
    let offset = committed(world, "g").0;
    [
        !visible(world, 0).is_empty(),
        !visible(world, 1).is_empty(),
        offset == 7,
    ]
}

/// A world with an open transaction over two partitions and a group.
fn interrupted(protocol: Protocol) -> (World, Client) {
    let world = world();
    let mut one = Client::start(&world, "one", protocol);
    one.write(&world, 0, "a").unwrap();
    one.write(&world, 1, "b").unwrap();
    if protocol == EXPLICIT {
        one.add_group(&world, "g").unwrap();
    }
    one.commit_offset(&world, "g", 7).unwrap();
    (world, one)
}

#[test]
fn an_end_that_power_loss_interrupts_happened_whole_or_not_at_all() {
    for protocol in [EXPLICIT, IMPLICIT] {
        // Power fails at every single operation of the disk during one end.
        for operation in 1..60 {
            let (world, one) = interrupted(protocol);
            let at = world.disk.counters().operations + operation;
            world.disk.power_off_at(at);
            let answer = end(&world, &one.caller(), true, protocol);
            let survived_power = !world.disk.is_off();
            let world = world.lose_power();
            let found = whole(&world);
            assert!(
                found == [true; 3] || found == [false; 3],
                "operation {operation}: {found:?}"
            );
            let is_there = found[0];
            assert!(
                is_there || answer.is_err(),
                "operation {operation}: acknowledged and lost"
            );
            let expected = match is_there {
                true => TransactionState::CompleteCommit,
                false => TransactionState::Ongoing,
            };
            assert_eq!(state(&world, "one"), expected, "operation {operation}");
            // The client, not knowing, asks again: now it is committed, once.
            end(&world, &one.caller(), true, protocol).unwrap();
            assert_eq!(whole(&world), [true; 3], "operation {operation}");
            assert_eq!(visible(&world, 0), ["a"]);
            if survived_power {
                break;
            }
            assert!(
                operation < 59,
                "an end takes fewer operations than tried here"
            );
        }
    }
}

#[test]
fn a_takeover_that_power_loss_interrupts_fenced_and_aborted_or_did_neither() {
    for operation in 1..60 {
        let (world, mut one) = interrupted(IMPLICIT);
        let at = world.disk.counters().operations + operation;
        world.disk.power_off_at(at);
        let answer = init(&world, "one", None);
        let survived_power = !world.disk.is_off();
        let world = world.lose_power();
        assert_eq!(whole(&world), [false; 3]);
        match state(&world, "one") {
            TransactionState::Ongoing => {
                assert!(
                    answer.is_err(),
                    "operation {operation}: acknowledged and lost"
                );
                one.end(&world, true).unwrap();
                assert_eq!(whole(&world), [true; 3], "operation {operation}");
            }
            other => {
                assert_eq!(other, TransactionState::Empty);
                assert_eq!(kind(one.end(&world, true)), ErrorKind::ProducerFenced);
                let after = read(&world, 1, true);
                assert_eq!(after.last_stable, after.high_watermark, "nothing hangs");
            }
        }
        if survived_power {
            return;
        }
    }
    panic!("a takeover takes fewer operations than tried here");
}

/// What happens to two transactional ids, each with a present instance and its predecessor.
#[derive(Clone, Copy, Debug)]
enum Step {
    TakeOver {
        id: usize,
    },
    Write {
        id: usize,
        partition: i32,
    },
    Offset {
        id: usize,
        at: i64,
    },
    Ordinary {
        at: i64,
    },
    End {
        id: usize,
        commit: bool,
    },
    /// The predecessor writes, commits offsets and ends as if nothing had happened.
    Zombie {
        id: usize,
    },
    TimePasses,
    Maintain,
    Restart,
    LosePower,
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..2_usize;
    prop_oneof![
        1 => id.clone().prop_map(|id| Step::TakeOver { id }),
        8 => (id.clone(), 0..3_i32).prop_map(|(id, partition)| Step::Write { id, partition }),
        3 => (id.clone(), 0..100_i64).prop_map(|(id, at)| Step::Offset { id, at }),
        1 => (0..100_i64).prop_map(|at| Step::Ordinary { at }),
        5 => (id.clone(), any::<bool>()).prop_map(|(id, commit)| Step::End { id, commit }),
        2 => id.prop_map(|id| Step::Zombie { id }),
        1 => Just(Step::TimePasses),
        1 => Just(Step::Maintain),
        1 => Just(Step::Restart),
        2 => Just(Step::LosePower),
    ]
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open(usize),
    Committed,
    Aborted,
}

#[derive(Default)]
struct Model {
    /// The writes of each partition in order.
    partitions: BTreeMap<i32, Vec<(String, Fate)>>,
    offset: Option<i64>,
    /// The offset each id's open transaction is going to commit.
    pending: [Option<Asked>; 2],
    counter: u32,
}

/// An offset that a transaction asked for.
#[derive(Clone, Copy)]
struct Asked {
    at: i64,
    /// When, counted.
    when: u32,
    /// Nobody who asked later has committed.
    counts: bool,
}

impl Model {
    fn end(&mut self, id: usize, commit: bool) {
        let fate = if commit {
            Fate::Committed
        } else {
            Fate::Aborted
        };
        for (_, write) in self.partitions.values_mut().flatten() {
            if *write == Fate::Open(id) {
                *write = fate;
            }
        }
        if let Some(asked) = self.pending[id].take()
            && asked.counts
            && commit
        {
            self.offset = Some(asked.at);
            for other in self.pending.iter_mut().flatten() {
                other.counts &= other.when > asked.when;
            }
        }
    }

    fn is_open(&self, id: usize) -> bool {
        let mut writes = self.partitions.values().flatten();
        self.pending[id].is_some() || writes.any(|(_, write)| *write == Fate::Open(id))
    }

    /// What readers of committed records see: up to the earliest open transaction.
    fn visible(&self, partition: i32) -> Vec<String> {
        let writes = self.partitions.get(&partition).into_iter().flatten();
        writes
            .take_while(|(_, fate)| !matches!(fate, Fate::Open(_)))
            .filter(|(_, fate)| *fate == Fate::Committed)
            .map(|(value, _)| value.clone())
            .collect()
    }

    fn check(&self, world: &World) {
        for partition in 0..3 {
            assert_eq!(visible(world, partition), self.visible(partition));
        }
        let is_pending = self.pending.iter().any(Option::is_some);
        let (offset, is_unstable) = committed(world, "g");
        assert_eq!(offset, self.offset.unwrap_or(-1));
        // What an ordinary commit took the place of is not pending any more after a restart.
        assert!(is_pending || !is_unstable);
        for (at, id) in IDS.into_iter().enumerate() {
            let is_ongoing = state(world, id) == TransactionState::Ongoing;
            assert_eq!(is_ongoing, self.is_open(at), "{id}");
        }
    }
}

const IDS: [&str; 2] = ["one", "two"];

/// Carries out a step in both.
fn apply(world: &World, model: &mut Model, clients: &mut [[Client; 2]; 2], step: Step) {
    match step {
        Step::TakeOver { id } => {
            let next = Client::start(world, IDS[id], clients[id][0].protocol);
            model.end(id, false);
            clients[id].swap(0, 1);
            clients[id][0] = next;
        }
        Step::Write { id, partition } => {
            model.counter += 1;
            let value = model.counter.to_string();
            clients[id][0].write(world, partition, &value).unwrap();
            let writes = model.partitions.entry(partition).or_default();
            writes.push((value, Fate::Open(id)));
        }
        Step::Offset { id, at } => {
            if clients[id][0].protocol == EXPLICIT {
                clients[id][0].add_group(world, "g").unwrap();
            }
            // A restart tells by the time who asked first.
            world.advance(Duration::from_millis(1));
            clients[id][0].commit_offset(world, "g", at).unwrap();
            model.counter += 1;
            model.pending[id] = Some(Asked {
                at,
                when: model.counter,
                counts: true,
            });
        }
        Step::Ordinary { at } => {
            commit_offset(world, "g", at).unwrap();
            model.offset = Some(at);
            for asked in model.pending.iter_mut().flatten() {
                asked.counts = false;
            }
        }
        Step::End { id, commit } => {
            if model.is_open(id) {
                clients[id][0].end(world, commit).unwrap();
                model.end(id, commit);
            }
        }
        Step::Zombie { id } => {
            let zombie = &mut clients[id][1];
            assert!(zombie.send(world, 0, "zombie").is_err());
            assert!(zombie.commit_offset(world, "g", 999).is_err());
            assert!(zombie.end(world, true).is_err());
            assert!(zombie.end(world, false).is_err());
        }
        Step::TimePasses => time_passes(world, model, clients),
        Step::Maintain => world.maintain(),
        Step::Restart | Step::LosePower => unreachable!("done by the caller"),
    }
}

/// What is open lives too long: it is aborted, and its producers have to start anew.
fn time_passes(world: &World, model: &mut Model, clients: &mut [[Client; 2]; 2]) {
    world.advance(TIMEOUT + Duration::from_secs(2));
    for id in 0..2 {
        if model.is_open(id) {
            assert!(clients[id][0].send(world, 0, "late").is_err());
            apply(world, model, clients, Step::TakeOver { id });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn transactions_of_clients_behave_like_their_model(
        steps in prop::collection::vec(step(), 1..40),
        is_explicit: [bool; 2],
    ) {
        let mut world = world();
        let mut model = Model::default();
        let protocol = |at: usize| if is_explicit[at] { EXPLICIT } else { IMPLICIT };
        let start = |at: usize| {
            let old = Client::start(&world, IDS[at], protocol(at));
            [Client::start(&world, IDS[at], protocol(at)), old]
        };
        let mut clients = [start(0), start(1)];
        for step in steps {
            match step {
                Step::Restart => world = world.restart(),
                Step::LosePower => world = world.lose_power(),
                step => apply(&world, &mut model, &mut clients, step),
            }
            model.check(&world);
        }
    }
}

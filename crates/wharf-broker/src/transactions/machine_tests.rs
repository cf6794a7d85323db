//! The machine alone: who may act, what a retry is told, and any interleaving of two producers.

use proptest::prelude::*;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(60);
const EXPIRY: Duration = Duration::from_secs(3600);
const COMMIT: TransactionOutcome = TransactionOutcome::Commit;
const ABORT: TransactionOutcome = TransactionOutcome::Abort;

fn at(seconds: u64) -> Timestamp {
    Timestamp::ZERO.after(Duration::from_secs(seconds))
}

fn who(id: i64, epoch: i16) -> ProducerIdentity {
    ProducerIdentity { id, epoch }
}

fn kind<T: std::fmt::Debug>(result: Result<T, Refusal>) -> ErrorKind {
    match result.unwrap_err() {
        Refusal::Error(error) => error.kind,
        Refusal::NeedsProducerId => panic!("a producer id was asked for"),
    }
}

/// Makes what a step decided durable; who the producer is then.
fn store(machine: &mut Machine, step: Result<Step, Refusal>) -> ProducerIdentity {
    match step.unwrap() {
        Step::Done(producer) => producer,
        Step::Change(change) => {
            machine.changed(true, at(0));
            change.next.producer
        }
    }
}

fn initialised() -> (Machine, ProducerIdentity) {
    let mut machine = Machine::new(at(0));
    let step = machine.init(None, TIMEOUT, Some(7), at(0));
    let producer = store(&mut machine, step);
    assert_eq!(producer, who(7, 0));
    (machine, producer)
}

fn begin(machine: &mut Machine, producer: ProducerIdentity, now: Timestamp) {
    let leave = machine.admit(producer, Protocol::Implicit, now).unwrap();
    machine.began(&leave.record, true);
}

#[test]
fn a_new_id_needs_a_producer_id_that_was_never_used() {
    let mut machine = Machine::new(at(0));
    let step = machine.init(None, TIMEOUT, None, at(0));
    assert_eq!(step, Err(Refusal::NeedsProducerId));
    assert!(machine.is_unknown());
}

#[test]
fn a_new_instance_fences_the_earlier_one_and_aborts_what_it_left_open() {
    let (mut machine, first) = initialised();
    begin(&mut machine, first, at(1));
    let Ok(Step::Change(change)) = machine.init(None, TIMEOUT, None, at(2)) else {
        panic!("nothing changed");
    };
    let end = change.end.unwrap();
    assert_eq!((end.producer, end.epoch, end.outcome), (7, 1, ABORT));
    assert_eq!(
        kind(machine.admit(first, Protocol::Implicit, at(2))),
        ErrorKind::ConcurrentTransactions
    );
    machine.changed(true, at(2));
    let second = change.next.producer;
    assert_eq!(second, who(7, 1));
    let fenced = machine.end(first, COMMIT, Protocol::Implicit, None, at(3));
    assert_eq!(kind(fenced), ErrorKind::ProducerFenced);
    let fenced = machine.admit(first, Protocol::Implicit, at(3));
    assert_eq!(kind(fenced), ErrorKind::ProducerFenced);
    begin(&mut machine, second, at(3));
}

#[test]
fn a_producer_that_goes_on_after_an_error_learns_the_answer_it_missed() {
    let (mut machine, first) = initialised();
    let step = machine.init(Some(first), TIMEOUT, None, at(1));
    assert_eq!(store(&mut machine, step), who(7, 1));
    // The answer was lost: the same request again.
    let step = machine.init(Some(first), TIMEOUT, None, at(2));
    assert_eq!(step, Ok(Step::Done(who(7, 1))));
    // Once the producer has gone on, whoever asks as its past is somebody else.
    begin(&mut machine, who(7, 1), at(3));
    let step = machine.init(Some(first), TIMEOUT, None, at(4));
    assert_eq!(kind(step), ErrorKind::ProducerFenced);
}

#[test]
fn a_stranger_that_claims_an_identity_is_refused() {
    let (mut machine, _) = initialised();
    let step = machine.init(Some(who(7, 4)), TIMEOUT, None, at(1));
    assert_eq!(kind(step), ErrorKind::ProducerFenced);
    let step = machine.init(Some(who(8, 0)), TIMEOUT, None, at(1));
    assert_eq!(kind(step), ErrorKind::ProducerFenced);
    let refused = machine.admit(who(8, 0), Protocol::Implicit, at(1));
    assert_eq!(kind(refused), ErrorKind::InvalidProducerIdMapping);
}

#[test]
fn before_kip_890_partitions_are_added_first_and_the_epoch_stays() {
    let (mut machine, producer) = initialised();
    let explicit = Protocol::Explicit;
    let refused = machine.admit(producer, explicit, at(1));
    assert_eq!(kind(refused), ErrorKind::InvalidTxnState);
    let step = machine.add(producer, &[PartitionId(3)], None, at(1));
    store(&mut machine, step);
    let verified = machine.verify(producer, &[PartitionId(3), PartitionId(4)]);
    assert_eq!(verified, Ok(vec![true, false]));
    let leave = machine.admit(producer, explicit, at(2)).unwrap();
    assert!(!leave.begins, "it is durable already");
    let step = machine.end(producer, COMMIT, explicit, None, at(3));
    assert_eq!(store(&mut machine, step), producer);
    let verified = machine.verify(producer, &[PartitionId(3)]);
    assert_eq!(verified, Ok(vec![false]));
}

#[test]
fn writing_to_what_was_added_goes_on_while_more_is_added() {
    let (mut machine, producer) = initialised();
    let step = machine.add(producer, &[PartitionId(1)], None, at(1));
    store(&mut machine, step);
    let step = machine.add(producer, &[PartitionId(2)], None, at(1));
    assert!(matches!(step, Ok(Step::Change(_))));
    assert!(machine.admit(producer, Protocol::Explicit, at(1)).is_ok());
    let step = machine.add(producer, &[PartitionId(1)], None, at(1));
    assert_eq!(step, Ok(Step::Done(producer)));
    let step = machine.add(producer, &[PartitionId(3)], None, at(1));
    assert_eq!(kind(step), ErrorKind::ConcurrentTransactions);
}

#[test]
fn an_end_asked_for_again_gives_the_same_answer_and_the_opposite_is_refused() {
    for protocol in [Protocol::Explicit, Protocol::Implicit] {
        for (outcome, opposite) in [(COMMIT, ABORT), (ABORT, COMMIT)] {
            let (mut machine, producer) = initialised();
            begin(&mut machine, producer, at(1));
            let step = machine.end(producer, outcome, protocol, None, at(2));
            let next = store(&mut machine, step);
            let expected = match protocol {
                Protocol::Explicit => producer,
                Protocol::Implicit => who(7, 1),
            };
            assert_eq!(next, expected);
            for _ in 0..2 {
                let again = machine.end(producer, outcome, protocol, None, at(3));
                assert_eq!(again, Ok(Step::Done(next)), "{protocol:?} {outcome:?}");
            }
            let refused = machine.end(producer, opposite, protocol, None, at(3));
            assert_eq!(kind(refused), ErrorKind::InvalidTxnState);
        }
    }
}

#[test]
fn nothing_can_be_committed_where_nothing_is_open() {
    let (mut machine, producer) = initialised();
    for protocol in [Protocol::Explicit, Protocol::Implicit] {
        let refused = machine.end(producer, COMMIT, protocol, None, at(1));
        assert_eq!(kind(refused), ErrorKind::InvalidTxnState);
    }
    let refused = machine.end(producer, ABORT, Protocol::Explicit, None, at(1));
    assert_eq!(kind(refused), ErrorKind::InvalidTxnState);
    // Under KIP-890 an abort always raises the epoch: what is late of the producer is fenced.
    let step = machine.end(producer, ABORT, Protocol::Implicit, None, at(1));
    assert_eq!(store(&mut machine, step), who(7, 1));
}

#[test]
fn used_up_epochs_give_a_new_producer_id_also_to_who_missed_the_answer() {
    let (mut machine, _) = initialised();
    let last = who(7, EPOCH_LAST);
    machine.durable.as_mut().unwrap().producer = last;
    begin(&mut machine, last, at(1));
    let needs = machine.end(last, COMMIT, Protocol::Implicit, None, at(1));
    assert_eq!(needs, Err(Refusal::NeedsProducerId));
    let step = machine.end(last, COMMIT, Protocol::Implicit, Some(8), at(1));
    let Ok(Step::Change(change)) = &step else {
        panic!("nothing changed");
    };
    let end = change.end.unwrap();
    assert_eq!(
        (end.producer, end.epoch),
        (7, i16::MAX),
        "the old id is fenced"
    );
    assert_eq!(store(&mut machine, step), who(8, 0));
    let again = machine.end(last, COMMIT, Protocol::Implicit, None, at(2));
    assert_eq!(again, Ok(Step::Done(who(8, 0))));
}

#[test]
fn a_transaction_that_lives_too_long_is_aborted_and_its_producer_fenced() {
    let (mut machine, producer) = initialised();
    begin(&mut machine, producer, at(10));
    assert!(matches!(machine.look(EXPIRY, at(69)), Due::In(left) if left.as_secs() == 1));
    let Due::Abort(change) = machine.look(EXPIRY, at(70)) else {
        panic!("it was not aborted");
    };
    assert_eq!(change.end.unwrap().epoch, 1);
    machine.changed(true, at(70));
    let refused = machine.admit(producer, Protocol::Implicit, at(71));
    assert_eq!(kind(refused), ErrorKind::ProducerFenced);
    let refused = machine.end(producer, COMMIT, Protocol::Explicit, None, at(71));
    assert_eq!(kind(refused), ErrorKind::ProducerFenced);
    // Its own abort comes late, but finds what it wanted (KIP-890), and it may go on (KIP-588).
    let late = machine.end(producer, ABORT, Protocol::Implicit, None, at(71));
    assert_eq!(late, Ok(Step::Done(who(7, 1))));
    let late = machine.end(producer, COMMIT, Protocol::Implicit, None, at(71));
    assert_eq!(kind(late), ErrorKind::InvalidTxnState);
    let step = machine.init(Some(producer), TIMEOUT, None, at(72));
    assert_eq!(step, Ok(Step::Done(who(7, 1))));
}

#[test]
fn an_end_of_another_producer_is_never_taken_for_an_answer_that_was_missed() {
    let (mut machine, old) = initialised();
    begin(&mut machine, old, at(1));
    let step = machine.init(None, TIMEOUT, None, at(2));
    let new = store(&mut machine, step);
    begin(&mut machine, new, at(3));
    let step = machine.end(new, COMMIT, Protocol::Explicit, None, at(4));
    assert_eq!(
        store(&mut machine, step),
        new,
        "one epoch after the old one's"
    );
    let zombie = machine.end(old, COMMIT, Protocol::Implicit, None, at(5));
    assert_eq!(kind(zombie), ErrorKind::ProducerFenced);
}

#[test]
fn a_clock_set_back_while_the_node_was_down_does_not_keep_a_transaction_open_for_ever() {
    let (mut machine, producer) = initialised();
    begin(&mut machine, producer, at(1_000_000));
    let record = machine.durable().unwrap().clone();
    let mut machine = Machine::recover(record, at(5));
    assert!(matches!(machine.look(EXPIRY, at(5)), Due::In(left) if left == TIMEOUT));
    assert!(matches!(machine.look(EXPIRY, at(65)), Due::Abort(_)));
}

#[test]
fn an_id_is_forgotten_when_it_was_not_used_for_long_and_never_while_a_transaction_is_open() {
    let (mut machine, producer) = initialised();
    assert!(matches!(machine.look(EXPIRY, at(3599)), Due::In(_)));
    assert_eq!(machine.look(EXPIRY, at(3600)), Due::Forget);
    begin(&mut machine, producer, at(3601));
    assert!(matches!(machine.look(EXPIRY, at(3602)), Due::In(_)));
}

#[test]
fn a_beginning_that_was_refused_leaves_nothing_and_every_unit_on_its_way_carries_it() {
    let (mut machine, producer) = initialised();
    let first = machine.admit(producer, Protocol::Implicit, at(1)).unwrap();
    let second = machine.admit(producer, Protocol::Implicit, at(1)).unwrap();
    assert!(first.begins && second.begins);
    machine.began(&first.record, false);
    assert!(machine.is_ongoing(), "the second may still begin it");
    machine.began(&second.record, false);
    assert!(!machine.is_ongoing());
    let refused = machine.end(producer, COMMIT, Protocol::Implicit, None, at(2));
    assert_eq!(kind(refused), ErrorKind::InvalidTxnState);
}

#[test]
fn a_change_that_was_refused_changed_nothing() {
    let (mut machine, producer) = initialised();
    begin(&mut machine, producer, at(1));
    let before = machine.durable().cloned();
    let step = machine.end(producer, COMMIT, Protocol::Implicit, None, at(2));
    assert!(matches!(step, Ok(Step::Change(_))));
    machine.changed(false, at(2));
    assert_eq!(machine.durable().cloned(), before);
    assert!(machine.is_ongoing());
    let step = machine.end(producer, COMMIT, Protocol::Implicit, None, at(3));
    assert_eq!(store(&mut machine, step), who(7, 1));
}

/// What one of two producers that share an id does, or the world.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// A new instance, or the present one going on.
    Init {
        which: usize,
        goes_on: bool,
    },
    Write {
        which: usize,
    },
    End {
        which: usize,
        commit: bool,
    },
    /// Whether the oldest unit on its way gets into the log.
    Commit(bool),
    Pass {
        seconds: u64,
    },
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let which = 0..2_usize;
    let act = prop_oneof![
        1 => (which.clone(), any::<bool>()).prop_map(|(which, goes_on)| Act::Init { which, goes_on }),
        4 => which.clone().prop_map(|which| Act::Write { which }),
        3 => (which, any::<bool>()).prop_map(|(which, commit)| Act::End { which, commit }),
        8 => prop::bool::weighted(0.9).prop_map(Act::Commit),
        1 => (0..90_u64).prop_map(|seconds| Act::Pass { seconds }),
        1 => Just(Act::Restart),
    ];
    prop::collection::vec(act, 1..60)
}

/// A unit on its way to the log.
#[derive(Clone, Debug)]
enum Unit {
    Write {
        leave: Leave,
        by: ProducerIdentity,
    },
    Change {
        change: Change,
        for_client: Option<usize>,
    },
}

/// The log: the record, its guard, and the open transaction's writes.
#[derive(Clone, Debug, Default)]
struct Log {
    record: Option<Record>,
    open: Vec<ProducerIdentity>,
    /// Each transaction that ended, with all it wrote.
    ended: Vec<(TransactionOutcome, Vec<ProducerIdentity>)>,
}

struct World {
    machine: Machine,
    log: Log,
    units: std::collections::VecDeque<Unit>,
    clients: [Option<ProducerIdentity>; 2],
    /// The producer ids given out so far.
    fresh: i64,
    now: Timestamp,
    protocol: Protocol,
}

impl World {
    fn new(protocol: Protocol) -> Self {
        Self {
            machine: Machine::new(at(0)),
            log: Log::default(),
            units: std::collections::VecDeque::new(),
            clients: [None, None],
            fresh: 0,
            now: at(0),
            protocol,
        }
    }

    fn submit(&mut self, step: Result<Step, Refusal>, for_client: Option<usize>) {
        match step {
            Ok(Step::Change(change)) => self.units.push_back(Unit::Change { change, for_client }),
            Ok(Step::Done(producer)) => {
                if let Some(client) = for_client {
                    self.clients[client] = Some(producer);
                }
            }
            Err(_) => {}
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Init { which, goes_on } => {
                self.fresh += 1;
                let expected = self.clients[which].filter(|_| goes_on);
                let fresh = Some(self.fresh);
                let step = self.machine.init(expected, TIMEOUT, fresh, self.now);
                self.submit(step, Some(which));
            }
            Act::Write { which } => self.write(which),
            Act::End { which, commit } => {
                let Some(caller) = self.clients[which] else {
                    return;
                };
                let outcome = if commit { COMMIT } else { ABORT };
                let step = self
                    .machine
                    .end(caller, outcome, self.protocol, None, self.now);
                self.submit(step, Some(which));
            }
            Act::Commit(is_taken) => self.commit(is_taken),
            Act::Pass { seconds } => {
                self.now = self.now.after(Duration::from_secs(seconds));
                if let Due::Abort(change) = self.machine.look(EXPIRY, self.now) {
                    self.units.push_back(Unit::Change {
                        change,
                        for_client: None,
                    });
                }
            }
            Act::Restart => {
                self.units.clear();
                self.machine = match self.log.record.clone() {
                    Some(record) => Machine::recover(record, self.now),
                    None => Machine::new(self.now),
                };
            }
        }
    }

    fn write(&mut self, which: usize) {
        let Some(by) = self.clients[which] else {
            return;
        };
        if self.protocol == Protocol::Explicit {
            let step = self.machine.add(by, &[PartitionId(1)], None, self.now);
            match step {
                Ok(Step::Done(_)) => {}
                step => return self.submit(step, None),
            }
        }
        if let Ok(leave) = self.machine.admit(by, self.protocol, self.now) {
            self.units.push_back(Unit::Write { leave, by });
        }
    }

    /// The log takes or refuses the oldest unit, as its conditions and the disk have it.
    fn commit(&mut self, is_taken: bool) {
        let Some(unit) = self.units.pop_front() else {
            return;
        };
        match unit {
            Unit::Write { leave, by } => {
                let guard = self.log.record.as_ref().map(Record::guard);
                let is_taken = is_taken && guard == Some(leave.record.guard());
                if is_taken {
                    self.log.open.push(by);
                    if leave.begins {
                        self.log.record = Some(leave.record.clone());
                    }
                }
                if leave.begins {
                    self.machine.began(&leave.record, is_taken);
                }
            }
            Unit::Change { change, for_client } => {
                if is_taken {
                    if let Some(end) = change.end {
                        let whole = std::mem::take(&mut self.log.open);
                        self.log.ended.push((end.outcome, whole));
                    }
                    self.log.record = Some(change.next.clone());
                    if let Some(client) = for_client {
                        self.clients[client] = Some(change.next.producer);
                    }
                }
                self.machine.changed(is_taken, self.now);
            }
        }
    }

    fn check(&self) {
        let record = self.log.record.as_ref();
        if !self.log.open.is_empty() {
            let record = record.unwrap();
            assert_eq!(
                record.state,
                TransactionState::Ongoing,
                "what is open is known to be"
            );
            let owner = record.producer;
            assert!(
                self.log.open.iter().all(|by| *by == owner),
                "two owners wrote"
            );
        }
        for (_, whole) in &self.log.ended {
            let first = whole.first();
            assert!(
                whole.iter().all(|by| Some(by) == first),
                "two owners in one transaction"
            );
        }
        assert_eq!(self.machine.durable(), record, "the view is the log");
    }
}

proptest! {
    #[test]
    fn no_interleaving_of_two_producers_mixes_their_transactions_or_leaves_one_open_unknown(
        acts in acts(),
        is_explicit: bool,
    ) {
        let protocol = if is_explicit { Protocol::Explicit } else { Protocol::Implicit };
        let mut world = World::new(protocol);
        for act in acts {
            world.act(act);
            world.check();
        }
        // Whatever happened, time ends what is still open.
        while !world.units.is_empty() {
            world.commit(true);
            world.check();
        }
        world.act(Act::Pass { seconds: 3601 });
        while !world.units.is_empty() {
            world.commit(true);
            world.check();
        }
        prop_assert!(world.log.open.is_empty());
    }
}

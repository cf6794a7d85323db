//! The state machine against a model of a database in which transactions take numbers, insert, commit
//! and roll back in every order.

use proptest::prelude::*;

use super::*;

/// Few, so that some moments have no transaction open.
const WRITERS: usize = 3;
const SETTLE: Duration = Duration::from_millis(10);

/// A transaction of the model.
#[derive(Clone, Debug)]
struct Transaction {
    id: u64,
    /// Numbers that were taken and are not inserted yet.
    taken: Vec<u64>,
    inserted: Vec<u64>,
    /// When it took its first number; the database shows it a while later.
    since: Duration,
    shown: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A transaction takes some numbers for one statement.
    Take(usize, u64),
    /// It inserts the next row of the statement.
    Insert(usize),
    /// It ends its statement, so that what is left of its numbers is never used.
    Finish(usize),
    Commit(usize),
    Rollback(usize),
    Poll(usize),
    /// Asks who is open, and closes what is free.
    Close,
    Restart,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0_usize..WRITERS;
    let step = prop_oneof![
        4 => (who.clone(), 1_u64..5).prop_map(|(who, count)| Step::Take(who, count)),
        6 => who.clone().prop_map(Step::Insert),
        1 => who.clone().prop_map(Step::Finish),
        3 => who.clone().prop_map(Step::Commit),
        2 => who.prop_map(Step::Rollback),
        5 => (1_usize..20).prop_map(Step::Poll),
        6 => Just(Step::Close),
        1 => Just(Step::Restart),
        4 => (1_u64..12).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..200)
}

struct Model {
    open: Vec<Option<Transaction>>,
    committed: BTreeSet<u64>,
    next: u64,
    next_id: u64,
    now: Duration,
    holes: Holes<u64>,
    /// What was handed over, in order.
    handed: Vec<u64>,
}

impl Model {
    fn new() -> Self {
        Self {
            open: vec![None; WRITERS],
            committed: BTreeSet::new(),
            next: 1,
            next_id: 1,
            now: Duration::ZERO,
            holes: Holes::new(SETTLE),
            handed: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Take(who, count) => self.begin_statement(who, count),
            Step::Insert(who) => {
                if let Some(transaction) = &mut self.open[who]
                    && !transaction.taken.is_empty()
                {
                    transaction.inserted.push(transaction.taken.remove(0));
                    transaction.shown = true;
                }
            }
            Step::Finish(who) => {
                if let Some(transaction) = &mut self.open[who] {
                    transaction.taken.clear();
                }
            }
            Step::Commit(who) => {
                if let Some(transaction) = self.open[who].take() {
                    self.committed.extend(transaction.inserted);
                }
            }
            Step::Rollback(who) => self.open[who] = None,
            Step::Poll(limit) => self.poll(limit),
            Step::Close => {
                self.observe();
                self.probe();
            }
            Step::Restart => {
                let bytes = self.holes.encode();
                let again = Holes::decode(&bytes, SETTLE, self.now).unwrap();
                assert_eq!(again.encode(), bytes);
                assert_eq!(
                    again.ranges().collect::<Vec<_>>(),
                    self.holes.ranges().collect::<Vec<_>>()
                );
                self.holes = again;
            }
            Step::Pass(millis) => self.pass(Duration::from_millis(millis)),
        }
    }

    fn begin_statement(&mut self, who: usize, count: u64) {
        let (id, since) = (self.next_id, self.now);
        let transaction = self.open[who].get_or_insert(Transaction {
            id,
            taken: Vec::new(),
            inserted: Vec::new(),
            since,
            shown: false,
        });
        self.next_id += 1;
        // A statement of many rows takes its numbers in several parts, with those of others between.
        transaction.taken.extend(self.next..self.next + count);
        self.next += count;
    }

    /// Time passes; nobody stays unseen for longer than holes settle.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        for transaction in self.open.iter_mut().flatten() {
            transaction.shown |= transaction.since + SETTLE <= self.now;
        }
    }

    fn poll(&mut self, limit: usize) {
        let ranges: Vec<Range> = self.holes.ranges().collect();
        let wanted = |number: &u64| {
            *number > self.holes.high()
                || ranges
                    .iter()
                    .any(|(first, last)| (first..=last).contains(&number))
        };
        let page: Vec<u64> = self
            .committed
            .iter()
            .copied()
            .filter(wanted)
            .take(limit)
            .collect();
        let taken = self.holes.take(&page, self.now);
        assert_eq!(taken, page.len(), "there is room for so few holes");
        self.handed.extend(page);
        let complete = self.holes.complete();
        assert!(complete <= self.holes.high());
        let missing = self.committed.range(..=complete);
        for number in missing {
            assert!(
                self.handed.contains(number),
                "{number} is missing up to {complete}"
            );
        }
    }

    fn observe(&mut self) {
        let shown = self
            .open
            .iter()
            .flatten()
            .filter(|transaction| transaction.shown);
        let open = shown.map(|transaction| transaction.id).collect();
        self.holes.observe(self.now, &open);
    }

    fn probe(&mut self) {
        for (first, last) in self.holes.quiet() {
            let mut inserted = self.open.iter().flatten().flat_map(|open| &open.inserted);
            if inserted.any(|number| (first..=last).contains(number)) {
                continue;
            }
            let found = self.committed.range(first..=last).copied().collect();
            self.holes.close((first, last), &found);
        }
    }

    /// Ends everything and reads until nothing is left.
    fn quiesce(&mut self) {
        for who in 0..self.open.len() {
            self.step(Step::Commit(who));
        }
        for _ in 0..4 {
            self.poll(usize::MAX);
            self.pass(SETTLE);
            self.observe();
            self.probe();
        }
        self.poll(usize::MAX);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_committed_number_is_handed_over_once_in_every_interleaving(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        model.quiesce();
        let mut handed = model.handed.clone();
        handed.sort_unstable();
        let committed: Vec<u64> = model.committed.iter().copied().collect();
        prop_assert_eq!(handed, committed);
        prop_assert_eq!(model.holes.ranges().len(), 0, "what nobody fills is closed");
    }

    /// Of a page that is cut short, the numbers below the cut are all there.
    #[test]
    fn numbers_of_one_lock_come_in_order(pages in proptest::collection::vec(1_usize..5, 1..20)) {
        let mut model = Model::new();
        // Somebody else has numbers between, and is late.
        model.step(Step::Take(1, 4));
        for limit in pages {
            for _ in 0..2 {
                model.step(Step::Take(0, 1));
                model.step(Step::Insert(0));
                model.step(Step::Commit(0));
            }
            model.poll(limit);
        }
        model.step(Step::Insert(1));
        model.quiesce();
        let own: Vec<u64> = model.handed.iter().copied().filter(|&number| number > 4).collect();
        prop_assert!(own.is_sorted(), "{:?}", own);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused_and_what_is_one_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let framed = [b"M\x01".as_slice(), &bytes].concat();
        for bytes in [bytes, framed] {
            if let Some(holes) = Holes::<u64>::decode(&bytes, SETTLE, Duration::ZERO) {
                let again = Holes::<u64>::decode(&holes.encode(), SETTLE, Duration::ZERO).unwrap();
                prop_assert_eq!(again.ranges().collect::<Vec<_>>(), holes.ranges().collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn what_version_1_wrote_is_read() {
    let mut holes: Holes<u64> = Holes::new(SETTLE);
    holes.take(&[1, 3, 300, 302], Duration::ZERO);
    assert_eq!(
        holes.encode(),
        b"M\x01\xae\x02\x03\x02\x00\x02\xa7\x02\x02\x00".as_slice()
    );
    let ranges: Vec<Range> = holes.ranges().collect();
    assert_eq!(ranges, [(2, 2), (4, 299), (301, 301)]);
}

#[test]
fn beyond_the_most_holes_it_waits_and_goes_on_when_one_is_filled() {
    let mut holes: Holes<u64> = Holes::new(SETTLE);
    let even: Vec<u64> = (1..=HOLES_MAX as u64 + 5)
        .map(|number| 2 * number)
        .collect();
    assert_eq!(holes.take(&even, Duration::ZERO), HOLES_MAX);
    assert_eq!(holes.complete(), 0);
    assert_eq!(holes.take(&[1, even[HOLES_MAX]], Duration::ZERO), 2);
    assert_eq!(holes.complete(), 2);
    assert_eq!(holes.take(&[even[HOLES_MAX + 1]], Duration::ZERO), 0);
}

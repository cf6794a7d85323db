//! The end of an orchestrated run: the figures, and whether sagas, stock and money agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use wharf::saga::{SagaId, State, Status};

use super::books::{Books, People};
use super::definition::NAME;
use crate::summary::Check;
use crate::tally::Tally;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Checkouts sent, repeats and malformed ones included.
    pub checkouts: u64,
    /// Orders placed, each with a saga.
    pub placed: u64,
    /// Sagas that ended done.
    pub completed: u64,
    /// Sagas that ended undone.
    pub compensated: u64,
    /// How many of them for which error.
    pub errors: BTreeMap<String, u64>,
    /// Sagas that waited for a person, and were repaired.
    pub repaired: u64,
    /// What must hold.
    pub checks: Vec<Check>,
}

/// The sum of these orders' totals.
fn cents(of: &BTreeMap<String, u64>, orders: &BTreeSet<&str>) -> u64 {
    let each = orders.iter().filter_map(|order| of.get(*order));
    each.sum()
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

impl Report {
    pub(super) fn new(
        tally: &Tally,
        set_aside: u64,
        states: &BTreeMap<String, State>,
        books: &Books,
        people: &People,
        seconds: f64,
    ) -> Self {
        let ended = |status| {
            let these = states
                .iter()
                .filter(move |(_, state)| state.status == status);
            these
                .map(|(order, _)| order.as_str())
                .collect::<BTreeSet<_>>()
        };
        let (completed, compensated) = (ended(Status::Completed), ended(Status::Compensated));
        let mut errors = BTreeMap::new();
        for order in &compensated {
            let error = states[*order].error.clone().unwrap_or_default();
            *errors.entry(error).or_default() += 1;
        }
        let of_people = |sagas: &BTreeSet<SagaId>| {
            let mut these = books
                .orders
                .keys()
                .map(String::as_str)
                .collect::<BTreeSet<_>>();
            these.retain(|order| sagas.contains(&SagaId::of(NAME, order)));
            these
        };
        let (alarmed, marked) = (of_people(&people.alarmed), of_people(&people.marked));
        let mut checks = vec![
            Check::new(
                "checkouts sent = orders placed + repeats + set aside",
                tally.checkouts.get(),
                count(books.orders.len()) + tally.checkouts_repeated.get() + set_aside,
            ),
            Check::new(
                "sagas ended = orders placed",
                count(completed.len() + compensated.len()),
                count(books.orders.len()),
            ),
            Check::new(
                "sagas that raised an alarm = repaired by an action that is in the audit",
                count(alarmed.len()),
                count(alarmed.intersection(&marked).count()),
            ),
        ];
        checks.extend(goods(books, &completed));
        checks.extend(money(books, &completed, &compensated, &marked));
        Self {
            seconds,
            checkouts: tally.checkouts.get(),
            placed: count(books.orders.len()),
            completed: count(completed.len()),
            compensated: count(compensated.len()),
            errors,
            repaired: count(marked.len()),
            checks,
        }
    }

    /// Whether everything that must hold does.
    pub fn adds_up(&self) -> bool {
        self.checks.iter().all(Check::holds)
    }

    /// For people. Ends with a newline.
    pub fn text(&self) -> String {
        let mut text = format!(
            "The shop was open for {:.1} s.\n\n\
             orders placed        {:>9}   (each with a saga)\n\
             \x20 completed          {:>9}\n\
             \x20 compensated        {:>9}\n",
            self.seconds, self.placed, self.completed, self.compensated,
        );
        for (error, times) in &self.errors {
            // Writing to a String cannot fail.
            _ = writeln!(text, "    {error:<17}{times:>9}");
        }
        _ = writeln!(
            text,
            "parked and repaired  {:>9}   (a refund that the bank refused)\n",
            self.repaired
        );
        for check in &self.checks {
            let (mark, relation) = match check.holds() {
                true => ("ok  ", "="),
                false => ("FAIL", "≠"),
            };
            let (claim, left, right) = (&check.claim, check.left, check.right);
            _ = writeln!(text, "{mark} {claim}: {left} {relation} {right}");
        }
        text.push_str(match self.adds_up() {
            true => "\nThe numbers add up.\n",
            false => "\nThe numbers do NOT add up.\n",
        });
        text
    }
}

/// What is reserved and sent is what the sagas that are done say, order by order.
fn goods(books: &Books, completed: &BTreeSet<&str>) -> Vec<Check> {
    let same = |rows: &BTreeMap<String, u64>| {
        let rows = rows
            .keys()
            .filter(|order| completed.contains(order.as_str()));
        count(rows.count())
    };
    let done = count(completed.len());
    let told = books.parcels.values().filter(|told| **told == 1).count();
    vec![
        Check::new(
            "orders with stock set aside = sagas completed",
            count(books.reserved.len()),
            done,
        ),
        Check::new(
            "of them, those of completed sagas = all",
            same(&books.reserved),
            done,
        ),
        Check::new(
            "pieces supplied = on shelves + set aside",
            books.supplied,
            books.on_shelves + books.set_aside,
        ),
        Check::new(
            "parcels = sagas completed",
            count(books.parcels.len()),
            done,
        ),
        Check::new(
            "of them, those of completed sagas = all",
            same(&books.parcels),
            done,
        ),
        Check::new("customers told once = sagas completed", count(told), done),
    ]
}

/// Who paid got a parcel, or the money back: from the bank, or by hand.
fn money(
    books: &Books,
    completed: &BTreeSet<&str>,
    compensated: &BTreeSet<&str>,
    marked: &BTreeSet<&str>,
) -> Vec<Check> {
    let by_hand: BTreeSet<&str> = compensated.intersection(marked).copied().collect();
    let refunded = books.refunded.keys().map(String::as_str).collect();
    vec![
        Check::new(
            "cents captured and not paid back = cents of completed sagas + paid back by hand",
            books.captured.values().sum(),
            cents(&books.orders, completed) + cents(&books.orders, &by_hand),
        ),
        Check::new(
            "cents captured for completed sagas = their totals",
            cents(&books.captured, completed),
            cents(&books.orders, completed),
        ),
        Check::new(
            "cents paid back by the bank = cents of compensated sagas with a refund",
            books.refunded.values().sum(),
            cents(
                &books.orders,
                &compensated.intersection(&refunded).copied().collect(),
            ),
        ),
    ]
}

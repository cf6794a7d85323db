//! Promise: a transaction happened whole or not at all, once, with the offsets that belong to it; what
//! was aborted is seen by nobody who asks for committed records only.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Facts, Place, Stamp};
use crate::transactions::{Ending, Input, Transaction, TransactionId, transaction_of};

/// Committed records of each partition in the order served; `None` stands for one that nobody sent.
pub(crate) type Committed = BTreeMap<Place, Vec<(i64, Option<Stamp>)>>;

/// What of each transaction is visible.
type Visible = BTreeMap<TransactionId, BTreeSet<(Place, Stamp)>>;

/// Compares what committed readers are served, and the offsets `group` has, with what is known.
pub(crate) fn check(
    facts: &Facts,
    committed: &Committed,
    offsets: &BTreeMap<Place, i64>,
) -> Vec<String> {
    let mut found = Vec::new();
    let visible = visible(facts, committed, &mut found);
    for (id, transaction) in &facts.transactions {
        let there = visible.get(id).map_or(0, BTreeSet::len);
        found.extend(whole(*id, transaction, there));
    }
    for (place, offset, stamp) in &facts.seen_committed {
        let there = visible
            .get(&transaction_of(*stamp))
            .is_some_and(|messages| messages.contains(&(*place, *stamp)));
        if !there {
            found.push(format!(
                "{place:?} offset {offset}: {stamp:?} was seen as committed and is not"
            ));
        }
    }
    found.extend(inputs(facts, &visible, offsets));
    found
}

/// Collects what is visible; notes strangers, duplicates and what is out of order.
fn visible(facts: &Facts, committed: &Committed, found: &mut Vec<String>) -> Visible {
    let mut visible = Visible::new();
    for (place, records) in committed {
        let mut last: BTreeMap<usize, u64> = BTreeMap::new();
        let mut last_offset = -1;
        for (offset, stamp) in records {
            if *offset <= last_offset {
                found.push(format!("{place:?}: offset {offset} after {last_offset}"));
            }
            last_offset = *offset;
            let known = |stamp: &Stamp| {
                let of = facts.transactions.get(&transaction_of(*stamp));
                of.is_some_and(|one| one.messages.contains(&(*place, *stamp)))
            };
            let Some(stamp) = stamp.filter(known) else {
                found.push(format!(
                    "{place:?} offset {offset}: a record that nobody sent"
                ));
                continue;
            };
            let before = last.insert(stamp.producer, stamp.sequence);
            if before.is_some_and(|before| stamp.sequence <= before) {
                found.push(format!(
                    "{place:?} offset {offset}: {stamp:?} is there twice or out of order"
                ));
            }
            let messages = visible.entry(transaction_of(stamp)).or_default();
            messages.insert((*place, stamp));
        }
    }
    visible
}

fn whole(id: TransactionId, transaction: &Transaction, there: usize) -> Option<String> {
    let all = transaction.messages.len();
    match transaction.ending {
        Ending::Open | Ending::Aborted if there > 0 => Some(format!(
            "transaction {id:?} was never to be committed, and {there} of its records are seen"
        )),
        Ending::Committed if there < all => Some(format!(
            "transaction {id:?} was committed, and {there} of its {all} records are there"
        )),
        Ending::CommitAttempted if there > 0 && there < all => Some(format!(
            "transaction {id:?} is torn: {there} of its {all} records are there"
        )),
        _ => None,
    }
}

/// Every input is transformed once, and the group's offsets say how far that came.
fn inputs(facts: &Facts, visible: &Visible, offsets: &BTreeMap<Place, i64>) -> Vec<String> {
    let mut by_place: BTreeMap<Place, Vec<Input>> = BTreeMap::new();
    for id in visible.keys() {
        for input in facts
            .transactions
            .get(id)
            .into_iter()
            .flat_map(|one| &one.inputs)
        {
            by_place.entry(input.place).or_default().push(*input);
        }
    }
    let mut found = Vec::new();
    let places: BTreeSet<Place> = by_place.keys().chain(offsets.keys()).copied().collect();
    for place in places {
        let inputs = by_place.entry(place).or_default();
        inputs.sort_by_key(|input| input.from);
        let mut next = 0;
        for input in inputs {
            if input.from != next {
                found.push(format!(
                    "{place:?}: input {}..{} was transformed after {next}",
                    input.from, input.to
                ));
            }
            next = input.to;
        }
        let offset = offsets.get(&place).copied().unwrap_or(0);
        if offset != next {
            found.push(format!(
                "{place:?}: input was transformed up to {next}, and {offset} is committed"
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transactions::sequence;

    const LEFT: Place = ("ledger", 0);
    const RIGHT: Place = ("ledger", 1);
    const INPUT: Place = ("orders", 0);

    struct History {
        facts: Facts,
        committed: Committed,
        offsets: BTreeMap<Place, i64>,
    }

    fn stamp(number: u64, index: usize) -> Stamp {
        let sequence = sequence(number, index);
        Stamp {
            producer: 5,
            sequence,
        }
    }

    /// Three transactions over two partitions: committed, aborted, committed; each for ten inputs.
    fn kept() -> History {
        let mut facts = Facts::default();
        let mut committed = Committed::new();
        let endings = [Ending::Committed, Ending::Aborted, Ending::Committed];
        for (number, ending) in (0_u64..).zip(endings) {
            let from = if number == 2 {
                10
            } else {
                10 * number.cast_signed()
            };
            let messages = vec![(LEFT, stamp(number, 0)), (RIGHT, stamp(number, 1))];
            if ending == Ending::Committed {
                for (place, stamp) in &messages {
                    let offset = 10 * number.cast_signed();
                    committed
                        .entry(*place)
                        .or_default()
                        .push((offset, Some(*stamp)));
                }
            }
            let input = Input {
                place: INPUT,
                from,
                to: from + 10,
            };
            let transaction = Transaction {
                messages,
                inputs: vec![input],
                ending,
            };
            facts.transactions.insert((5, number), transaction);
        }
        History {
            facts,
            committed,
            offsets: [(INPUT, 20)].into(),
        }
    }

    fn findings_after(change: impl FnOnce(&mut History)) -> Vec<String> {
        let mut history = kept();
        change(&mut history);
        check(&history.facts, &history.committed, &history.offsets)
    }

    fn finds(needle: &str, change: impl FnOnce(&mut History)) {
        let found = findings_after(change);
        assert!(found.iter().any(|line| line.contains(needle)), "{found:?}");
    }

    fn records(history: &mut History, place: Place) -> &mut Vec<(i64, Option<Stamp>)> {
        history.committed.get_mut(&place).expect("it has records")
    }

    fn end(history: &mut History, number: u64, ending: Ending) {
        let transaction = history.facts.transactions.get_mut(&(5, number));
        transaction.expect("it is known").ending = ending;
    }

    #[test]
    fn kept_promises_give_no_finding() {
        assert_eq!(findings_after(|_| {}), Vec::<String>::new());
        let unanswered = findings_after(|history| end(history, 2, Ending::CommitAttempted));
        assert_eq!(unanswered, Vec::<String>::new(), "it may have happened");
    }

    #[test]
    fn an_aborted_record_that_is_seen_is_found() {
        finds("never to be committed", |history| {
            records(history, LEFT).insert(1, (5, Some(stamp(1, 0))));
        });
        finds("never to be committed", |history| {
            end(history, 0, Ending::Open);
        });
    }

    #[test]
    fn a_torn_transaction_is_found() {
        finds("1 of its 2 records", |history| {
            records(history, LEFT).pop();
        });
        finds("is torn", |history| {
            end(history, 2, Ending::CommitAttempted);
            records(history, RIGHT).pop();
        });
    }

    #[test]
    fn a_lost_transaction_is_found() {
        finds("0 of its 2 records", |history| history.committed.clear());
    }

    #[test]
    fn records_twice_out_of_order_or_of_nobody_are_found() {
        finds("twice", |history| {
            records(history, LEFT).push((30, Some(stamp(2, 0))));
        });
        finds("out of order", |history| {
            let left = records(history, LEFT);
            (left[0].1, left[1].1) = (left[1].1, left[0].1);
        });
        finds("nobody sent", |history| {
            records(history, LEFT).push((30, None));
        });
        finds("nobody sent", |history| {
            records(history, LEFT).push((30, Some(stamp(9, 0))));
        });
        finds("after", |history| records(history, LEFT)[1].0 = 0);
    }

    #[test]
    fn what_was_seen_as_committed_and_is_gone_is_found() {
        let see = |history: &mut History| {
            history.facts.seen_committed.insert((LEFT, 0, stamp(0, 0)));
        };
        assert!(findings_after(see).is_empty());
        finds("seen as committed", |history| {
            see(history);
            records(history, LEFT).remove(0);
        });
        finds("seen as committed", |history| {
            history.facts.seen_committed.insert((LEFT, 5, stamp(1, 0)));
        });
    }

    #[test]
    fn input_that_is_transformed_twice_or_never_or_without_its_offset_is_found() {
        let input = |history: &mut History, from, to| {
            let transaction = history.facts.transactions.get_mut(&(5, 2));
            let inputs = &mut transaction.expect("it is known").inputs;
            (inputs[0].from, inputs[0].to) = (from, to);
        };
        finds("was transformed after", |history| input(history, 5, 20));
        finds("was transformed after", |history| input(history, 12, 20));
        finds("is committed", |history| {
            history.offsets.insert(INPUT, 10);
        });
        finds("is committed", |history| history.offsets.clear());
    }
}

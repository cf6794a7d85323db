//! Orders of messages that a server gives seldom, or only in other versions than the one at hand.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::pgoutput::RelationColumn;
use super::*;

const TABLE: u32 = 16_400;

/// A transaction of a synthetic log.
#[derive(Clone, Debug)]
struct Transaction {
    xid: u32,
    commit: u64,
    end: u64,
    rows: Vec<String>,
}

impl Transaction {
    fn new(xid: u32, commit: u64, end: u64, rows: &[&str]) -> Self {
        Self {
            xid,
            commit,
            end,
            rows: rows.iter().map(|&row| row.to_owned()).collect(),
        }
    }

    fn messages(&self) -> Vec<Message> {
        let begin = Begin {
            final_lsn: self.commit,
            committed_micros: 0,
            xid: self.xid,
        };
        let commit = Commit {
            lsn: self.commit,
            end_lsn: self.end,
            committed_micros: 0,
        };
        let insert = |row: &String| {
            let value = Value::Text(Bytes::copy_from_slice(row.as_bytes()));
            Message::Insert(Insert {
                relation: TABLE,
                values: vec![value],
            })
        };
        let rows = self.rows.iter().map(insert);
        let begin = std::iter::once(Message::Begin(begin));
        begin.chain(rows).chain([Message::Commit(commit)]).collect()
    }
}

fn wanted() -> Wanted {
    Wanted {
        namespace: "public".to_owned(),
        table: "outbox".to_owned(),
        messages: false,
        kinds: HashMap::new(),
    }
}

/// An assembly that goes on from checkpoints.
fn assembly(history: &[Bytes]) -> Assembly {
    let progress = Progress::fold(history).unwrap();
    let progress = progress.unwrap_or_else(|| Progress::new(1, 1));
    let mut assembly = Assembly::new(wanted(), progress, 100);
    assembly.take(Message::Relation(Relation {
        id: TABLE,
        namespace: "public".to_owned(),
        name: "outbox".to_owned(),
        columns: vec![RelationColumn {
            name: "payload".to_owned(),
            type_id: 25,
        }],
    }));
    assembly
}

/// Takes what waits, and keeps the checkpoint as a target does.
fn deliver(assembly: &mut Assembly, history: &mut Vec<Bytes>, delivered: &mut Vec<String>) {
    let (batch, _) = assembly.batch();
    if batch.checkpoint.whole {
        history.clear();
    }
    history.push(batch.checkpoint.bytes);
    for row in batch.rows {
        let (_, value) = row.get("payload").unwrap();
        delivered.push(String::from_utf8(value.unwrap().to_vec()).unwrap());
    }
}

/// Reads a log in pieces of `step` messages; after each piece it is delivered, and the reading begins
/// anew with all that the server still has, which is everything.
fn read_with_restarts(log: &[Transaction], step: usize) -> Vec<String> {
    let messages: Vec<_> = log.iter().flat_map(Transaction::messages).collect();
    let (mut history, mut delivered) = (Vec::new(), Vec::new());
    for end in (0..messages.len() + step).step_by(step) {
        let mut assembly = assembly(&history);
        for message in messages.iter().take(end) {
            assembly.take(message.clone());
        }
        deliver(&mut assembly, &mut history, &mut delivered);
    }
    delivered
}

#[test]
fn t1_rows_that_share_a_position_are_told_apart_by_their_number() {
    // Nothing but the commit has a position here: all rows share it.
    let log = [Transaction::new(7, 50, 60, &["a", "b", "c", "d", "e"])];
    for step in 1..8 {
        assert_eq!(read_with_restarts(&log, step), ["a", "b", "c", "d", "e"]);
    }
}

#[test]
fn a_commit_of_which_the_table_gave_the_rest_is_not_begun_anew() {
    let log = [
        Transaction::new(7, 50, 60, &["a", "b", "c"]),
        Transaction::new(8, 60, 70, &["d"]),
    ];
    let messages: Vec<_> = log.iter().flat_map(Transaction::messages).collect();
    let (mut history, mut delivered) = (Vec::new(), Vec::new());
    let mut from_the_log = assembly(&history);
    for message in &messages[..2] {
        from_the_log.take(message.clone());
    }
    deliver(&mut from_the_log, &mut history, &mut delivered);
    let mut progress = Progress::fold(&history).unwrap().unwrap();
    assert_eq!((progress.commit, progress.ordinal), (50, 1));
    // The slot is lost here, and the table read; the new slot is moved back to before the commit.
    progress.read("8:8:".parse().unwrap(), None);
    let mut anew = assembly(&[progress.whole().bytes]);
    for message in messages {
        anew.take(message);
    }
    deliver(&mut anew, &mut history, &mut delivered);
    assert_eq!(delivered, ["a", "d"]);
}

#[test]
fn t2_a_commit_that_ends_where_the_next_transaction_begins_hides_nothing() {
    // As of Postgres 17: the end of the first is the position of the first change of the second.
    let log = [
        Transaction::new(7, 50, 60, &["a"]),
        Transaction::new(8, 60, 70, &["b", "c"]),
        Transaction::new(9, 70, 80, &["d"]),
    ];
    for step in 1..12 {
        assert_eq!(read_with_restarts(&log, step), ["a", "b", "c", "d"]);
    }
}

#[test]
fn t3_an_older_transaction_that_commits_later_is_delivered() {
    let log = [
        Transaction::new(9, 50, 60, &["young"]),
        Transaction::new(7, 90, 95, &["old"]),
    ];
    for step in 1..8 {
        assert_eq!(read_with_restarts(&log, step), ["young", "old"]);
    }
}

#[test]
fn the_slot_is_never_told_a_position_within_an_open_transaction() {
    let mut assembly = assembly(&[]);
    let [first, second] = [
        Transaction::new(7, 50, 60, &["a"]),
        Transaction::new(8, 90, 95, &["b", "c"]),
    ];
    first
        .messages()
        .into_iter()
        .for_each(|it| assembly.take(it));
    assert_eq!(assembly.batch().1, 60);
    assembly.heard(70);
    assert_eq!(assembly.batch().1, 70, "nothing is open");
    let messages = second.messages();
    messages[..2]
        .iter()
        .for_each(|it| assembly.take(it.clone()));
    // A keepalive in the middle, which a large transaction has.
    assembly.heard(92);
    assert_eq!(assembly.batch().1, 70);
    messages[2..]
        .iter()
        .for_each(|it| assembly.take(it.clone()));
    assert_eq!(assembly.batch().1, 95);
}

#[test]
fn an_anchor_counts_only_when_everything_before_it_has_come() {
    let mut assembly = assembly(&[]);
    assembly.batch();
    assembly.anchor("10:20:12".parse().unwrap(), 80);
    assert!(!assembly.is_anchored());
    let log = [
        Transaction::new(11, 50, 60, &["a"]),
        // It was committed already but still counted as running.
        Transaction::new(12, 70, 75, &["b"]),
        Transaction::new(25, 85, 90, &["c"]),
    ];
    for message in log.iter().take(2).flat_map(Transaction::messages) {
        assembly.take(message);
        assert!(
            !assembly.is_anchored(),
            "something before it may still come"
        );
    }
    log[2]
        .messages()
        .into_iter()
        .for_each(|it| assembly.take(it));
    assert!(assembly.is_anchored());
    let (batch, _) = assembly.batch();
    assert!(batch.checkpoint.whole);
    let progress = Progress::fold(&[batch.checkpoint.bytes]).unwrap().unwrap();
    let has: Vec<_> = (9..27).filter(|&xid| progress.has(xid)).collect();
    assert_eq!(has, [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 25]);
}

#[test]
fn ids_of_transactions_are_made_whole_across_the_wrap_of_their_lower_half() {
    let mut progress = Progress::new(1, 1);
    let near = (7 << 32) + 3;
    progress.seen = Snapshot::below(near - 5);
    let mut assembly = Assembly::new(wanted(), progress, near);
    let relation = Relation {
        id: TABLE,
        namespace: "public".to_owned(),
        name: "outbox".to_owned(),
        columns: Vec::new(),
    };
    assembly.take(Message::Relation(relation));
    for (xid, commit) in [(u32::MAX, 50), (5, 60)] {
        let transaction = Transaction::new(xid, commit, commit + 1, &["x"]);
        transaction
            .messages()
            .into_iter()
            .for_each(|it| assembly.take(it));
    }
    let expected = [(6 << 32) + u64::from(u32::MAX), (7 << 32) + 5];
    assert_eq!(assembly.progress.delivered, expected.into());
}

#[test]
fn what_the_table_delivered_is_left_out_of_the_log() {
    let mut progress = Progress::new(1, 1);
    progress.seen = Snapshot::below(20);
    let mut assembly = assembly(&[progress.whole().bytes]);
    for (xid, commit) in [(19, 50), (20, 60)] {
        let transaction = Transaction::new(xid, commit, commit + 1, &[&xid.to_string()]);
        transaction
            .messages()
            .into_iter()
            .for_each(|it| assembly.take(it));
    }
    let mut delivered = Vec::new();
    deliver(&mut assembly, &mut Vec::new(), &mut delivered);
    assert_eq!(delivered, ["20"]);
}

proptest! {
    #[test]
    fn any_log_read_with_any_restarts_comes_once_and_in_order(
        shapes in prop::collection::vec((0..5_usize, 0..3_u64, any::<u8>()), 1..12),
        step in 1..9_usize,
    ) {
        let (mut log, mut at, mut expected) = (Vec::new(), 10, Vec::new());
        for (number, (rows, gap, order)) in shapes.into_iter().enumerate() {
            let rows: Vec<_> = (0..rows).map(|row| format!("{number}.{row}")).collect();
            expected.extend(rows.clone());
            at += gap + 1;
            // Ids are in no order of commits.
            let xid = u32::from(order) * 16 + number as u32 + 5;
            log.push(Transaction { xid, commit: at, end: at + 1, rows });
        }
        prop_assert_eq!(read_with_restarts(&log, step), expected);
    }
}

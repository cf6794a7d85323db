//! What other relays have lost data by, each under the number that it has in the list of traps.

use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::AssertSqlSafe;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use wharf_message::Code;
use wharf_relay::target::memory::MemoryTarget;
use wharf_relay::{Checkpoint, Delivered, Opened, Routed, Settings, Sink, State, Target, Trouble};

use super::support::{
    Bed, Gate, Running, arrive, arrived, insert, numbers, row, rows, server, until,
};

/// Rows of about a kilobyte, so that a transaction takes several batches.
fn large_rows(first: u64, last: u64) -> String {
    rows(first, last).replace(
        "convert_to(n::text, 'UTF8')",
        "convert_to(lpad(n::text, 1000), 'UTF8')",
    )
}

/// What arrived, without the padding.
fn trimmed(target: &MemoryTarget) -> Vec<String> {
    let arrived = arrived(target, "rows");
    arrived.into_iter().map(|it| it.trim().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn t1_several_rows_share_one_position_and_a_restart_in_the_middle_loses_none() {
    const ROWS: u64 = 6000;
    let (bed, gate) = (Bed::new().await, Gate::new(0));
    let start = || Running::with(bed.source(), Arc::new(gate.clone()), Settings::default());
    let mut relay = start();
    // The slot has to be there first, for the rows to come from the log.
    assert!(
        until(async || {
            gate.more(1);
            bed.slots().await == 1
        })
        .await
    );
    bed.following().await;
    bed.run(large_rows(1, ROWS)).await;
    for part in [1, 2500, 4500] {
        gate.let_through(part).await;
        relay.kill().await;
        let in_the_middle = gate.target.messages().len() as u64;
        assert!(in_the_middle < ROWS, "the transaction was cut");
        relay = start();
    }
    gate.let_through(ROWS as usize).await;
    assert_eq!(trimmed(&gate.target), numbers(1, ROWS));
    gate.more(u64::MAX);
    bed.insert(&["end"]).await;
    assert!(until(async || gate.target.messages().len() as u64 > ROWS).await);
    assert_eq!(gate.target.messages().len() as u64, ROWS + 1);
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_restarts_between_adjacent_transactions_skip_none() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let relay = Running::start(bed.source(), &target);
    bed.following().await;
    relay.kill().await;
    for round in 0..8 {
        let (first, second) = (round * 2 + 1, round * 2 + 2);
        bed.insert(&[&first.to_string()]).await;
        let relay = Running::start(bed.source(), &target);
        arrive(&target, &numbers(1, first)).await;
        // Not every round lets the slot hear of it.
        if round % 2 == 0 {
            let position = bed.position().await;
            bed.insert(&[&second.to_string()]).await;
            assert!(until(async || bed.confirmed().await >= position).await);
        } else {
            bed.insert(&[&second.to_string()]).await;
        }
        relay.kill().await;
    }
    let relay = Running::start(bed.source(), &target);
    arrive(&target, &numbers(1, 16)).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t3_a_transaction_older_than_one_that_was_delivered_arrives_after_a_restart() {
    // Its open transaction would hold up the others.
    let server = server(&[]);
    let (bed, target) = (Bed::on(&server).await, MemoryTarget::default());
    let relay = Running::start(bed.source(), &target);
    bed.following().await;
    let mut old = bed.pool.begin().await.unwrap();
    insert(&mut old, "a1").await;
    bed.insert(&["b"]).await;
    arrive(&target, &["b"]).await;
    let position = bed.position().await;
    assert!(until(async || bed.confirmed().await >= position).await);
    relay.stop().await;
    insert(&mut old, "a2").await;
    old.commit().await.unwrap();
    let relay = Running::start(bed.source(), &target);
    arrive(&target, &["b", "a1", "a2"]).await;
    relay.stop().await;
}

/// A target whose deliveries become durable in any order, when the case says so.
#[derive(Clone, Default)]
struct AnyOrder(Arc<Mutex<Vec<Option<oneshot::Sender<()>>>>>);

impl AnyOrder {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn done(&self, at: usize) {
        if let Some(done) = self.0.lock().unwrap()[at].take() {
            done.send(()).ok();
        }
    }
}

impl Target for AnyOrder {
    fn keeps_checkpoints(&self) -> bool {
        true
    }

    fn open(&self, _source: &str) -> BoxFuture<'_, Result<Opened, Trouble>> {
        let (sink, history) = (Box::new(self.clone()), Vec::<Bytes>::new());
        std::future::ready(Ok(Opened { sink, history })).boxed()
    }
}

impl Sink for AnyOrder {
    fn deliver(
        &mut self,
        _: Vec<Routed>,
        _: Checkpoint,
    ) -> BoxFuture<'static, Result<Delivered, Trouble>> {
        let (done, wait) = oneshot::channel();
        self.0.lock().unwrap().push(Some(done));
        async {
            wait.await.ok();
            Ok(Delivered::default())
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t4_the_slot_is_told_only_what_is_durable_without_a_gap() {
    let (bed, target) = (Bed::new().await, AnyOrder::default());
    let relay = Running::with(bed.source(), Arc::new(target.clone()), Settings::default());
    let mut settled = 0;
    let ready = until(async || {
        let count = target.count();
        (settled..count).for_each(|at| target.done(at));
        settled = count;
        bed.is_followed().await
    });
    assert!(ready.await);
    let before = target.count();
    bed.insert(&["first"]).await;
    assert!(until(async || target.count() > before).await);
    let committed = bed.position().await;
    let between = target.count();
    bed.insert(&["second"]).await;
    assert!(until(async || target.count() > between).await);
    // Everything from the second on is durable; the first is not.
    let settle = |target: &AnyOrder| (before + 1..target.count()).for_each(|at| target.done(at));
    settle(&target);
    bed.heard(3).await;
    settle(&target);
    assert!(
        bed.confirmed().await < committed,
        "the first is not durable"
    );
    (0..target.count()).for_each(|at| target.done(at));
    let confirmed = until(async || {
        (0..target.count()).for_each(|at| target.done(at));
        bed.confirmed().await >= committed
    });
    assert!(confirmed.await);
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t5_nothing_is_lost_or_doubled_between_the_backlog_and_the_log() {
    // Its open transaction would hold up the others.
    let server = server(&[]);
    let (bed, gate) = (Bed::on(&server).await, Gate::new(0));
    bed.run(large_rows(1, 3000)).await;
    let mut last = 3000;
    let mut open = bed.pool.begin().await.unwrap();
    insert(&mut open, "late").await;
    for part in [1, 1500, 3000, 3001, 3003] {
        let relay = Running::with(bed.source(), Arc::new(gate.clone()), Settings::default());
        last += 2;
        bed.run(rows(last - 1, last)).await;
        if part < 3000 {
            gate.let_through(part).await;
        }
        relay.kill().await;
    }
    // The slot cannot be made before this is over.
    open.commit().await.unwrap();
    let relay = Running::with(bed.source(), Arc::new(gate.clone()), Settings::default());
    let all = until(async || {
        gate.more(1);
        gate.target.messages().len() as u64 > last && bed.slots().await == 1
    });
    assert!(all.await, "{}", gate.target.messages().len());
    relay.kill().await;
    let relay = Running::with(bed.source(), Arc::new(gate.clone()), Settings::default());
    let running = until(async || {
        gate.more(1);
        bed.is_followed().await
    });
    assert!(running.await);
    bed.insert(&["end"]).await;
    let end = until(async || {
        gate.more(1);
        trimmed(&gate.target).iter().any(|it| it == "end")
    });
    assert!(end.await);
    let mut arrived = trimmed(&gate.target);
    arrived.retain(|it| it != "late");
    let expected: Vec<_> = numbers(1, last)
        .into_iter()
        .chain(["end".to_owned()])
        .collect();
    assert_eq!(arrived, expected);
    assert_eq!(gate.target.messages().len() as u64, last + 2);
    relay.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t6_a_slot_that_vanished_is_not_made_again_and_nothing_is_lost() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let relay = Running::start(bed.source(), &target);
    bed.insert(&["1"]).await;
    arrive(&target, &["1"]).await;
    bed.following().await;
    relay.stop().await;
    bed.drop_slot().await;
    bed.insert(&["2"]).await;
    let relay = Running::start(bed.source(), &target);
    arrive(&target, &numbers(1, 2)).await;
    relay
        .until("it says so", |view| view.state == State::Degraded)
        .await;
    bed.insert(&["3"]).await;
    arrive(&target, &numbers(1, 3)).await;
    assert_eq!(bed.slots().await, 0, "it is not made again");
    bed.make_slot().await;
    bed.following().await;
    bed.insert(&["4"]).await;
    arrive(&target, &numbers(1, 4)).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t6_a_slot_that_was_dropped_and_made_again_meanwhile_hides_nothing() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let relay = Running::start(bed.source(), &target);
    bed.following().await;
    bed.insert(&["1"]).await;
    arrive(&target, &["1"]).await;
    relay.stop().await;
    bed.drop_slot().await;
    bed.insert(&["2"]).await;
    bed.make_slot().await;
    bed.insert(&["3"]).await;
    let relay = Running::start(bed.source(), &target);
    arrive(&target, &numbers(1, 3)).await;
    bed.following().await;
    bed.insert(&["4"]).await;
    arrive(&target, &numbers(1, 4)).await;
    // A slot that somebody else has read is the same.
    relay.stop().await;
    bed.insert(&["5"]).await;
    bed.free().await;
    bed.run(format!(
        "SELECT pg_replication_slot_advance('{}', pg_current_wal_lsn())",
        bed.slot
    ))
    .await;
    let relay = Running::start(bed.source(), &target);
    arrive(&target, &numbers(1, 5)).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t7_a_slot_that_the_database_gave_up_is_gone_on_without_from_the_table() {
    let server = server(&[
        "-c",
        "max_slot_wal_keep_size=1MB",
        "-c",
        "min_wal_size=32MB",
    ]);
    let (bed, gate) = (Bed::on(&server).await, Gate::new(0));
    let relay = Running::with(bed.source(), Arc::new(gate.clone()), Settings::default());
    assert!(
        until(async || {
            gate.more(1);
            bed.slots().await == 1
        })
        .await
    );
    assert!(
        until(async || {
            gate.more(1);
            bed.is_followed().await
        })
        .await
    );
    // A transaction in the middle of which it stops, one that is open, and one afterwards.
    let mut open = bed.pool.begin().await.unwrap();
    insert(&mut open, "open").await;
    bed.run(large_rows(1, 5000)).await;
    gate.let_through(1).await;
    relay.kill().await;
    assert!(
        gate.target.messages().len() < 5000,
        "the transaction was cut"
    );
    bed.run(rows(5001, 5003)).await;
    let lost = format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}' AND wal_status = 'lost'",
        bed.slot
    );
    let given_up = until(async || {
        bed.run("CREATE TABLE IF NOT EXISTS filler (); SELECT pg_switch_wal()")
            .await;
        bed.run("DROP TABLE filler").await;
        bed.run("CHECKPOINT").await;
        bed.number(lost.clone()).await == 1
    });
    assert!(given_up.await);
    open.commit().await.unwrap();
    gate.more(u64::MAX);
    let relay = Running::with(bed.source(), Arc::new(gate.clone()), Settings::default());
    let open_gate = until(async || {
        gate.more(1);
        gate.target.messages().len() >= 5004
    });
    assert!(open_gate.await, "{}", gate.target.messages().len());
    let mut arrived = trimmed(&gate.target);
    arrived.retain(|it| it != "open");
    assert_eq!(arrived, numbers(1, 5003));
    assert_eq!(relay.status.view().state, State::Degraded);
    let slot = relay.status.view().lag.slot;
    assert_eq!(slot, Some((bed.slot.clone(), "lost".to_owned())));
    bed.drop_slot().await;
    bed.make_slot().await;
    assert!(
        until(async || {
            gate.more(1);
            bed.is_followed().await
        })
        .await
    );
    bed.insert(&["end"]).await;
    assert!(
        until(async || {
            gate.more(1);
            gate.target.messages().len() >= 5005
        })
        .await
    );
    assert_eq!(gate.target.messages().len(), 5005);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t8_another_server_is_refused_before_its_slot_is_touched() {
    let (one, other) = (Bed::new().await, server(&[]));
    let other = Bed::on(&other).await;
    let target = MemoryTarget::default();
    let relay = Running::start(one.source(), &target);
    one.following().await;
    one.insert(&["1"]).await;
    arrive(&target, &["1"]).await;
    relay.stop().await;
    other
        .run(format!(
            "CREATE PUBLICATION {} FOR TABLE wharf_outbox",
            one.slot
        ))
        .await;
    let slot = Bed {
        slot: one.slot.clone(),
        ..other
    };
    slot.make_slot().await;
    slot.insert(&["of another server"]).await;
    let confirmed = slot.confirmed().await;
    let relay = Running::start(slot.source(), &target);
    let refused = |view: &wharf_relay::StatusView| {
        view.trouble
            .as_ref()
            .is_some_and(|(_, trouble)| trouble.code == Code::OUTBOX_OTHER_DATABASE)
    };
    relay.until("it is refused", refused).await;
    assert_eq!(slot.confirmed().await, confirmed);
    assert_eq!(arrived(&target, "rows"), ["1"]);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t9_a_busy_neighbour_does_not_make_an_idle_outbox_keep_the_log() {
    let (bed, neighbour) = (Bed::new().await, Bed::new().await);
    let target = MemoryTarget::default();
    let quiet = bed.source().heartbeat(std::time::Duration::ZERO);
    let relay = Running::start(quiet, &target);
    bed.following().await;
    for _ in 0..3 {
        neighbour.run(rows(1, 1000)).await;
        let position = neighbour.position().await;
        assert!(until(async || bed.confirmed().await >= position).await);
    }
    assert!(target.messages().is_empty());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t9_a_heartbeat_is_written_while_the_log_moves() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let source = bed
        .source()
        .heartbeat(std::time::Duration::from_millis(100));
    let relay = Running::start(source, &target);
    bed.following().await;
    let witness = format!("{}_witness", bed.slot);
    bed.run(format!(
        "SELECT pg_create_logical_replication_slot('{witness}', 'pgoutput')"
    ))
    .await;
    let beats = format!(
        "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('{witness}', NULL, NULL, \
             'proto_version', '1', 'publication_names', '{}', 'messages', 'true') \
         WHERE position('wharf_heartbeat'::bytea IN data) > 0",
        bed.slot
    );
    bed.insert(&["1"]).await;
    assert!(until(async || bed.number(beats.clone()).await > 0).await);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t10_a_target_that_takes_nothing_does_not_make_the_database_hang_up() {
    let server = server(&["-c", "wal_sender_timeout=2s"]);
    let (bed, target) = (Bed::on(&server).await, MemoryTarget::default());
    let small = Settings {
        bytes_max: 64 << 10,
        ..Settings::default()
    };
    let relay = Running::with(bed.source(), Arc::new(target.clone()), small);
    bed.following().await;
    target.hold(true);
    bed.run(large_rows(1, 20_000)).await;
    // Three times as long as the database waits for a word.
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8";
    let start = bed.number(now).await;
    assert!(until(async || bed.number(now).await > start + 6000).await);
    bed.heard(1).await;
    target.hold(false);
    assert!(until(async || target.messages().len() >= 20_000).await);
    assert_eq!(trimmed(&target), numbers(1, 20_000));
    assert_eq!(relay.status.view().connects, 1, "it was one connection");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t11_reads_that_are_given_up_half_way_lose_no_byte() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    // A server whose words come a few bytes at a time.
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
    let (base, real) = bed.url.split_once("?host=").unwrap();
    let real = format!("{real}/.s.PGSQL.5432");
    let proxy = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = UnixStream::connect(&real).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move {
                tokio::io::copy(&mut from_client, &mut to_server).await.ok();
            });
            tokio::spawn(async move {
                let mut bytes = [0; 7];
                let mut at = 0;
                while let Ok(count @ 1..) = from_server.read(&mut bytes[..1 + at % 7]).await {
                    at += 1;
                    if to_client.write_all(&bytes[..count]).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
    });
    let url = format!("{base}?host={}", folder.path().display());
    let source = wharf_relay::postgres::PostgresLog::new(url, "wharf_outbox", &bed.slot).unwrap();
    let relay = Running::start(source, &target);
    bed.following().await;
    for first in (1..400).step_by(8) {
        bed.run(rows(first, first + 7)).await;
    }
    arrive(&target, &numbers(1, 400)).await;
    assert_eq!(relay.status.view().connects, 1);
    relay.stop().await;
    proxy.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_a_row_that_is_gone_from_the_table_arrives_from_the_log() {
    // Its open transaction would hold up the others.
    let server = server(&[]);
    let (bed, target) = (Bed::on(&server).await, MemoryTarget::default());
    let relay = Running::start(bed.source(), &target);
    bed.following().await;
    bed.run(format!(
        "BEGIN; {}; DELETE FROM wharf_outbox; COMMIT",
        row("1")
    ))
    .await;
    // Nor does it wait for anybody who holds the row.
    let mut holder = bed.pool.begin().await.unwrap();
    let lock = "LOCK TABLE wharf_outbox IN SHARE ROW EXCLUSIVE MODE";
    insert(&mut holder, "3").await;
    bed.insert(&["2"]).await;
    sqlx::raw_sql(AssertSqlSafe(lock))
        .execute(&mut *holder)
        .await
        .unwrap();
    arrive(&target, &["1", "2"]).await;
    holder.commit().await.unwrap();
    arrive(&target, &["1", "2", "3"]).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t18_nothing_is_confirmed_before_the_target_has_made_it_durable() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    let relay = Running::start(bed.source(), &target);
    bed.following().await;
    target.hold(true);
    let before = bed.position().await;
    bed.run(rows(1, 100)).await;
    bed.heard(3).await;
    assert!(bed.confirmed().await <= before, "nothing is durable");
    assert!(target.messages().is_empty());
    // What was under way is lost with the target, and comes again.
    target.crash();
    target.hold(false);
    arrive(&target, &numbers(1, 100)).await;
    let after = bed.position().await;
    assert!(until(async || bed.confirmed().await >= after).await);
    relay.stop().await;
}

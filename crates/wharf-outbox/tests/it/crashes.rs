//! The database killed at every point of a consumer's run, and under load; and databases that are down.

use std::collections::BTreeMap;
use std::fs;

use harness::{Database, DatabaseKind};
use sqlx::mysql::MySqlPoolOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{MySql, Pool, Postgres, Transaction};
use std::time::Duration;
use wharf_outbox::{Class, Once};

use crate::support::{
    Server, case, count, duplicate, effect, files, handle, hash, inbox, key, mariadb_options,
    outputs, postgres_options, prepare, sqlite_options,
};

/// How far a run came.
const POINTS: [&str; 4] = ["claimed", "effect", "outputs", "committed"];

/// A consumer's run up to `point`; its transaction, where it is open.
async fn run_until<'a, D: Server>(
    pool: &Pool<D>,
    id: &str,
    point: &str,
) -> Option<Transaction<'a, D>> {
    let mut transaction = pool.begin().await.unwrap();
    let once = inbox().once(&mut transaction, &key(id), &hash(id)).await;
    assert_eq!(once.unwrap(), Once::First);
    if point != "claimed" {
        D::run(&mut transaction, effect(id)).await.unwrap();
    }
    if ["outputs", "committed"].contains(&point) {
        let kept = inbox()
            .record_outputs(&mut transaction, &key(id), &outputs(id))
            .await;
        kept.unwrap();
    }
    if point == "committed" {
        transaction.commit().await.unwrap();
        return None;
    }
    Some(transaction)
}

/// What must hold after a crash at `point`: all of the run or nothing, and one effect in the end.
async fn healed<D: Server>(pool: &Pool<D>, id: &str, point: &str) {
    let expected = if point == "committed" {
        duplicate(id)
    } else {
        Once::First
    };
    assert_eq!(handle(pool, id).await.unwrap(), expected, "{point}");
    let effects = count(pool, "effects", &format!("id = '{id}'")).await;
    assert_eq!(effects, 1, "{point}");
    assert_eq!(handle(pool, id).await.unwrap(), duplicate(id), "{point}");
}

/// A server of its own, to be killed.
struct Victim<D: Server> {
    server: Database,
    pool: fn(&Database) -> Pool<D>,
}

fn postgres() -> Victim<Postgres> {
    Victim {
        server: Database::start(DatabaseKind::Postgres, &[]).unwrap(),
        pool: |server| {
            let pool = PgPoolOptions::new().acquire_timeout(Duration::from_secs(5));
            pool.connect_lazy_with(postgres_options(server))
        },
    }
}

fn mariadb() -> Victim<MySql> {
    Victim {
        server: Database::start(DatabaseKind::MariaDb, &[]).unwrap(),
        pool: |server| {
            let pool = MySqlPoolOptions::new().acquire_timeout(Duration::from_secs(5));
            pool.connect_lazy_with(mariadb_options(server).database("mysql"))
        },
    }
}

async fn killed_at_every_point<D: Server>(mut victim: Victim<D>) {
    let mut pool = (victim.pool)(&victim.server);
    prepare(&pool).await;
    for point in POINTS {
        let open = run_until(&pool, point, point).await;
        victim.server.kill().unwrap();
        if let Some(mut open) = open {
            let lost = inbox().once(&mut open, &key("next"), &hash("next")).await;
            assert_eq!(lost.unwrap_err().class(), Class::Unavailable, "{point}");
        }
        let down = handle(&pool, point).await.unwrap_err();
        assert_eq!(down.class(), Class::Unavailable, "{point}: {down:?}");
        victim.server.up().unwrap();
        pool = (victim.pool)(&victim.server);
        healed(&pool, point, point).await;
    }
}

/// What a consumer knows about its message when the database was killed under it.
async fn killed_under_load<D: Server>(mut victim: Victim<D>) {
    let pool = (victim.pool)(&victim.server);
    prepare(&pool).await;
    let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let consumers: Vec<_> = (0..4)
        .map(|consumer| {
            let (pool, report) = (pool.clone(), report.clone());
            tokio::spawn(async move {
                for message in 0.. {
                    let id = format!("c{consumer}-{message}");
                    let answer = handle(&pool, &id).await;
                    let failed = answer.is_err();
                    report.send((id, answer)).unwrap();
                    if failed {
                        return;
                    }
                }
            })
        })
        .collect();
    drop(report);
    let mut known = BTreeMap::new();
    while let Some((id, answer)) = reports.recv().await {
        known.insert(id, answer.map_err(|error| error.class()));
        if known.len() == 60 {
            victim.server.kill().unwrap();
        }
    }
    for consumer in consumers {
        consumer.await.unwrap();
    }
    victim.server.up().unwrap();
    let pool = (victim.pool)(&victim.server);
    for (id, answer) in known {
        let now = handle(&pool, &id).await.unwrap();
        match answer {
            Ok(first) => assert_eq!((first, &now), (Once::First, &duplicate(&id)), "{id}"),
            // Whether the commit was in time is not known; the effects tell below.
            Err(class) => assert_eq!(class, Class::Unavailable, "{id}"),
        }
        assert_eq!(
            count(&pool, "effects", &format!("id = '{id}'")).await,
            1,
            "{id}"
        );
    }
}

#[test]
fn postgres_killed_at_every_point_of_a_run_leaves_all_of_it_or_nothing() {
    case(async { killed_at_every_point(postgres()).await });
}

#[test]
fn mariadb_killed_at_every_point_of_a_run_leaves_all_of_it_or_nothing() {
    case(async { killed_at_every_point(mariadb()).await });
}

#[test]
fn postgres_killed_under_load_has_every_message_once_in_the_end() {
    case(async { killed_under_load(postgres()).await });
}

#[test]
fn mariadb_killed_under_load_has_every_message_once_in_the_end() {
    case(async { killed_under_load(mariadb()).await });
}

/// The files as they are at that moment are what the death of the process leaves.
#[test]
fn sqlite_left_at_every_point_of_a_run_has_all_of_it_or_nothing() {
    case(async {
        for point in POINTS {
            let folder = files().join(format!("before-{point}"));
            fs::create_dir(&folder).unwrap();
            let options = sqlite_options(&folder.join("file"));
            let pool = SqlitePoolOptions::new()
                .connect_with(options)
                .await
                .unwrap();
            prepare(&pool).await;
            let open = run_until(&pool, point, point).await;
            let after = files().join(format!("after-{point}"));
            fs::create_dir(&after).unwrap();
            for entry in fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                // The shared memory is the living process's own; a dead one leaves it out of date.
                if !entry.file_name().to_string_lossy().ends_with("-shm") {
                    fs::copy(entry.path(), after.join(entry.file_name())).unwrap();
                }
            }
            drop(open);
            let options = sqlite_options(&after.join("file"));
            let pool = SqlitePoolOptions::new()
                .connect_with(options)
                .await
                .unwrap();
            healed(&pool, point, point).await;
        }
    });
}

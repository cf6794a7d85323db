//! The demo: its numbers add up, on either database, and nothing is left of it.

use std::path::Path;

use harness::{Database, DatabaseKind};
use sqlx::Connection as _;

use crate::refused;
use crate::run::{command, run, run_in};
use crate::serve::serve;

/// Every row of the outbox is in its topic.
const RELAYED: &str = "ok   rows that were not relayed = none: 0 = 0";

#[test]
fn the_demo_adds_up() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["demo", "--orders", "600", "--rate", "300", "--keep", "shop"];
    for run in 0..2 {
        let said = run_in(directory.path(), &arguments);
        assert!(said.starts_with("exit: 0"), "run {run}: {said}");
        assert!(said.contains("The numbers add up."), "run {run}: {said}");
        assert!(said.contains(RELAYED), "run {run}: {said}");
    }
    assert!(directory.path().join("shop/shop.db").exists());
    its_contract_stays(directory.path());
}

/// Every event has one schema, which nothing but the contract has registered, and what breaks it does
/// not get into the topic that is checked.
fn its_contract_stays(directory: &Path) {
    let node = serve(directory, &["--data", "shop/node"], &[]);
    let list = ["schema", "list", "-o", "json", "--registry"];
    let list = command(directory)
        .args(list)
        .arg(node.text("registry"))
        .output();
    let listed: serde_json::Value = serde_json::from_slice(&list.unwrap().stdout).unwrap();
    let listed: Vec<_> = listed.as_array().unwrap().iter().collect();
    assert_eq!(listed.len(), shop::SCHEMAS.len());
    for (row, (subject, _)) in listed.iter().zip(shop::SCHEMAS) {
        assert_eq!(
            (&row["subject"], &row["version"]),
            (&subject.into(), &1.into())
        );
    }
    let (code, why) = refused::produce(node.text("kafka"), shop::CHECKED, br#"{"order":"o-1"}"#);
    assert_eq!(code, 87, "{why:?}");
    assert!(why[0].contains("WHARF-6010"), "{why:?}");
}

/// Neither in the file system nor in the database.
#[test]
fn the_demo_on_postgres_adds_up_from_its_log_and_by_polling_and_leaves_nothing_behind() {
    for (wal_level, polls) in [("logical", false), ("replica", true)] {
        let setting = format!("wal_level={wal_level}");
        let database = Database::start(DatabaseKind::Postgres, &["-c", &setting]).unwrap();
        let url = database.url("postgres");
        let directory = tempfile::tempdir().unwrap();
        let arguments = ["demo", "--orders", "200", "--postgres", &url];
        let mut command = command(directory.path());
        let output = command.env("TMPDIR", directory.path()).args(arguments);
        let output = output.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let noted = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{wal_level}: {said}{noted}");
        assert!(said.contains(RELAYED), "{wal_level}: {said}{noted}");
        assert_eq!(noted.contains("is polled"), polls, "{wal_level}: {noted}");
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 0, "{wal_level}: {noted}");
        assert_eq!(shop_in(&url), 0, "{wal_level}: {noted}");
    }
}

/// How much of the shop is in a Postgres database.
fn shop_in(url: &str) -> i64 {
    let count = async {
        let mut connection = sqlx::PgConnection::connect(url).await?;
        let sql = "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'wharf_demo')
            + (SELECT count(*) FROM pg_replication_slots)
            + (SELECT count(*) FROM pg_publication)";
        sqlx::query_scalar(sql).fetch_one(&mut connection).await
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let count: Result<i64, sqlx::Error> = runtime.block_on(count);
    count.unwrap()
}

/// Programs stand in for an interpreter that is not there, and for one without the package.
#[test]
fn the_demo_says_what_python_lacks_before_it_starts_anything() {
    let missing = run(&["demo", "--python-with", "no-such-python", "--orders", "1"]);
    assert!(missing.starts_with("exit: 3"), "{missing}");
    assert!(missing.contains("apt-get install python3"), "{missing}");
    let lacking = run(&["demo", "--python-with", "false", "--orders", "1"]);
    assert!(lacking.starts_with("exit: 3"), "{lacking}");
    assert!(lacking.contains("confluent-kafka"), "{lacking}");
    assert!(!lacking.contains("Wharf runs at"), "{lacking}");
}

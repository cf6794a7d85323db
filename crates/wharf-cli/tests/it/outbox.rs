//! `wharf outbox`: the tables, as statements and in a database.

use insta::assert_snapshot;

use crate::run::{run, run_in};

fn stdout_of(text: &str) -> &str {
    let text = text.strip_prefix("exit: 0\n----- stdout -----\n").unwrap();
    text.strip_suffix("----- stderr -----\n").unwrap()
}

#[test]
fn the_statements_are_printed_for_every_database_and_table() {
    for (dialect, file) in [
        (
            "postgres",
            include_str!("../../../wharf-outbox/migrations/postgres/outbox.sql"),
        ),
        (
            "mysql",
            include_str!("../../../wharf-outbox/migrations/mysql/outbox.sql"),
        ),
        (
            "mariadb",
            include_str!("../../../wharf-outbox/migrations/mysql/outbox.sql"),
        ),
        (
            "sqlite",
            include_str!("../../../wharf-outbox/migrations/sqlite/outbox.sql"),
        ),
    ] {
        let printed = run(&["outbox", "init", "--dialect", dialect, "--print"]);
        assert!(stdout_of(&printed).starts_with(file), "{printed}");
        assert!(printed.contains("wharf_outbox_cursor"), "{printed}");
        assert!(!printed.contains("wharf_inbox"), "{printed}");
    }
    let arguments = [
        "outbox",
        "init",
        "--dialect",
        "postgres",
        "--table",
        "shop.events",
        "--inbox",
        "--print",
    ];
    let printed = run(&arguments);
    assert!(
        printed.contains(r#"CREATE TABLE IF NOT EXISTS "shop"."events" ("#),
        "{printed}"
    );
    assert!(
        printed.contains("CREATE TABLE IF NOT EXISTS wharf_inbox ("),
        "{printed}"
    );
}

#[test]
fn the_tables_are_created_in_a_database_as_often_as_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["outbox", "init", "--url", "sqlite:shop.db"][..],
        &["outbox", "init", "--url", "sqlite:shop.db", "--inbox"],
    ] {
        let ran = run_in(folder.path(), arguments);
        assert!(ran.starts_with("exit: 0\n"), "{ran}");
        assert!(
            ran.ends_with("the outbox table wharf_outbox is there\n"),
            "{ran}"
        );
    }
    let file = std::fs::read(folder.path().join("shop.db")).unwrap();
    let holds = |name: &str| {
        file.windows(name.len())
            .any(|window| window == name.as_bytes())
    };
    assert!(holds("CREATE TABLE wharf_outbox (") && holds("CREATE TABLE wharf_inbox ("));
}

#[test]
fn what_is_missing_or_wrong_is_told() {
    assert_snapshot!(run(&["outbox", "init"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: which database? Say --dialect with --print, or --url
      fix: `wharf --help` and `wharf COMMAND --help` show how
    ");
    assert_snapshot!(run(&["outbox", "init", "--dialect", "mysql"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: say --print to see the statements, or --url to run them
      fix: `wharf --help` and `wharf COMMAND --help` show how
    ");
    assert_snapshot!(run(&["outbox", "init", "--dialect", "mysql", "--url", "sqlite:x"]), @r"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: the address is one of another database than --dialect says
      fix: `wharf --help` and `wharf COMMAND --help` show how
    ");
    let hostile = run(&[
        "outbox",
        "init",
        "--dialect",
        "mysql",
        "--print",
        "--table",
        "a`; DROP TABLE b",
    ]);
    assert!(hostile.starts_with("exit: 2\n"), "{hostile}");
    assert!(hostile.contains("is no name of a table"), "{hostile}");
    let away = run(&[
        "outbox",
        "init",
        "--url",
        "postgres://shop:secret@127.0.0.1:1/shop",
    ]);
    assert!(away.starts_with("exit: 3\n"), "{away}");
    assert!(
        away.contains("the database cannot be reached") && !away.contains("secret"),
        "{away}"
    );
}

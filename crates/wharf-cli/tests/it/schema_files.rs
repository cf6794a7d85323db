//! `wharf schema check`, `diff` and `lint` with nothing but files and a real git repository.

use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;

use crate::run::{run, run_in};

const ORDER: &str = r#"{
  "type": "record", "name": "Order", "namespace": "shop",
  "fields": [
    {"name": "number", "type": "string"},
    {"name": "total_cents", "type": "long"}
  ]
}
"#;
const BROKEN: &str = r#"{
  "type": "record", "name": "Order", "namespace": "shop",
  "fields": [
    {"name": "number", "type": "string"},
    {"name": "total_cents", "type": "long"},
    {"name": "currency", "type": "string"}
  ]
}
"#;
const GROWN: &str = r#"{
  "type": "record", "name": "Order", "namespace": "shop",
  "fields": [
    {"name": "number", "type": "string"},
    {"name": "total_cents", "type": "long"},
    {"name": "currency", "type": "string", "default": "EUR"}
  ]
}
"#;
const PARCEL: &str = r#"{"type": "record", "name": "Parcel", "namespace": "shop", "fields": []}"#;

fn write(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn git(directory: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=a", "-c", "user.email=a@example.invalid"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// A repository whose only commit has an order and a parcel.
fn repository() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    git(path, &["init", "--quiet"]);
    write(path, "schemas/order.avsc", ORDER);
    write(path, "schemas/parcel.avsc", PARCEL);
    write(path, "schemas/README.md", "no schema");
    git(path, &["add", "."]);
    git(path, &["commit", "--quiet", "--message", "first"]);
    directory
}

#[test]
fn files_are_compared_with_what_they_were_and_a_break_ends_with_1() {
    let directory = repository();
    let path = directory.path();
    let check = ["schema", "check", "schemas", "--against", "HEAD"];
    let unchanged = run_in(path, &check);
    assert!(unchanged.starts_with("exit: 0"), "{unchanged}");
    write(path, "schemas/order.avsc", BROKEN);
    write(path, "schemas/new.avsc", PARCEL);
    std::fs::remove_file(path.join("schemas/parcel.avsc")).unwrap();
    assert_snapshot!("check_text", run_in(path, &check));
    for format in ["json", "markdown", "sarif", "junit", "github"] {
        let said = run_in(path, &[&check[..], &["-o", format]].concat());
        assert_snapshot!(format!("check_{format}"), said);
    }
    write(path, "schemas/order.avsc", GROWN);
    let grown = run_in(path, &[&check[..], &["--level", "FULL"]].concat());
    assert!(grown.starts_with("exit: 0"), "{grown}");
}

#[test]
fn a_file_is_found_at_the_revision_from_wherever_it_is_named() {
    let directory = repository();
    let path = directory.path();
    write(path, "schemas/order.avsc", BROKEN);
    let inside = ["schema", "check", "order.avsc", "--against", "HEAD"];
    let said = run_in(&path.join("schemas"), &inside);
    assert!(said.starts_with("exit: 1"), "{said}");
    let absolute = path.join("schemas/order.avsc");
    let absolute = absolute.to_str().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let said = run_in(
        elsewhere.path(),
        &["schema", "check", absolute, "--against", "HEAD"],
    );
    assert!(said.starts_with("exit: 1"), "{said}");
    let gone = ["schema", "check", "gone.avsc", "--against", "HEAD"];
    let said = run_in(path, &gone);
    assert!(said.starts_with("exit: 2"), "{said}");
}

#[test]
fn what_a_schema_refers_to_is_found_beside_it_now_and_then() {
    let directory = repository();
    let path = directory.path();
    let basket = r#"{"type": "record", "name": "Basket", "namespace": "shop",
        "fields": [{"name": "order", "type": "Order"}]}"#;
    write(path, "schemas/basket.avsc", basket);
    git(path, &["add", "."]);
    git(path, &["commit", "--quiet", "--message", "basket"]);
    write(path, "schemas/order.avsc", BROKEN);
    let check = [
        "schema",
        "check",
        "schemas/basket.avsc",
        "--against",
        "HEAD",
    ];
    let said = run_in(path, &check);
    assert!(said.starts_with("exit: 1"), "{said}");
    assert!(said.contains("currency"), "{said}");
}

#[test]
fn a_revision_that_is_none_is_wrong_usage_and_never_an_option_of_git() {
    let directory = repository();
    for revision in ["no-such", "--output=stolen", "HEAD:schemas"] {
        let against = format!("--against={revision}");
        let said = run_in(directory.path(), &["schema", "check", "schemas", &against]);
        assert!(said.starts_with("exit: 2"), "{said}");
        assert!(said.contains("git knows no revision"), "{said}");
    }
    assert!(!directory.path().join("stolen").exists());
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "a.avsc", PARCEL);
    let check = ["schema", "check", "a.avsc", "--against", "HEAD"];
    let said = run_in(outside.path(), &check);
    assert!(said.contains("is in no git repository"), "{said}");
}

#[test]
fn a_file_that_is_no_schema_is_a_negative_answer() {
    let directory = repository();
    let path = directory.path();
    write(path, "schemas/order.avsc", "{\"type\": \"record\"");
    let check = ["schema", "check", "schemas", "--against", "HEAD"];
    let said = run_in(path, &check);
    assert!(said.starts_with("exit: 1"), "{said}");
    assert!(said.contains("not a valid schema"), "{said}");
}

#[test]
fn a_diff_shows_both_directions_with_their_witnesses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write(path, "old.avsc", ORDER);
    write(path, "new.avsc", BROKEN);
    let diff = ["schema", "diff", "old.avsc", "new.avsc"];
    assert_snapshot!("diff_text", run_in(path, &diff));
    let same = run_in(path, &["schema", "diff", "old.avsc", "old.avsc"]);
    assert!(same.starts_with("exit: 0"), "{same}");
    let unknown = run_in(path, &["schema", "diff", "old.avsc", "nothing"]);
    assert!(unknown.starts_with("exit: 2"), "{unknown}");
}

#[test]
fn a_lint_names_rule_and_line_and_is_chosen_by_rule() {
    let directory = repository();
    let path = directory.path();
    write(path, "a.avsc", ORDER);
    write(
        path,
        "b.proto",
        "syntax = \"proto3\";\nmessage M {\n  string a = 1;\n  string b = 2;\n}\n",
    );
    git(path, &["add", "."]);
    git(path, &["commit", "--quiet", "--message", "b"]);
    write(
        path,
        "b.proto",
        "syntax = \"proto3\";\nmessage M {\n  string a = 1;\n}\n",
    );
    let lint = ["schema", "lint", "a.avsc", "b.proto", "--against", "HEAD"];
    assert_snapshot!("lint_text", run_in(path, &lint));
    let sarif = run_in(path, &[&lint[..], &["-o", "sarif"]].concat());
    assert_snapshot!("lint_sarif", sarif);
    let notes = run_in(path, &["schema", "lint", "a.avsc"]);
    assert!(notes.starts_with("exit: 0"), "{notes}");
    let unknown = run_in(path, &["schema", "lint", "a.avsc", "--rule", "nonsense"]);
    assert!(unknown.starts_with("exit: 2"), "{unknown}");
    let listed = run(&["schema", "lint", "--list"]);
    assert!(listed.contains("avro-null-first"), "{listed}");
    let page = run(&["schema", "lint", "--list", "-o", "markdown"]);
    assert!(page.contains("### protobuf-required"), "{page}");
}

#[test]
fn the_help_of_schemas_shows_how() {
    for command in ["list", "get", "register", "check", "diff", "lint"] {
        let help = run(&["schema", command, "--help"]);
        assert!(help.starts_with("exit: 0"), "{help}");
        assert!(help.contains(&format!("wharf schema {command}")), "{help}");
    }
}

//! `COMPAT.md` says what the code does.

use std::path::Path;

use wharf_kafka::Difference;

/// The entries of `compat/differences.toml`; the test run itself checks that they hold.
fn differences() -> Vec<Difference> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compat/differences.toml");
    let list: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let entries = list.get("difference").and_then(toml::Value::as_array);
    let entry = |table: &toml::Value| {
        let text = |key: &str| table[key].as_str().unwrap().to_owned();
        Difference {
            client: text("client"),
            case: text("case"),
            server: text("server"),
            reason: text("reason"),
        }
    };
    entries.map_or_else(Vec::new, |list| list.iter().map(entry).collect())
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the switch that rewrites the page"
)]
fn the_compat_page_is_what_the_cards_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../COMPAT.md");
    let page = wharf_kafka::compat_page(&differences());
    if std::env::var("WHARF_REWRITE").is_ok() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    let how = "run WHARF_REWRITE=1 cargo test -p wharf-kafka compat";
    assert!(written == page, "COMPAT.md is out of date: {how}");
}

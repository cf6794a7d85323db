//! `COMPAT.md` says what the code does.

use std::path::Path;

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the switch that rewrites the page"
)]
fn the_compat_page_is_what_the_cards_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../COMPAT.md");
    let page = wharf_kafka::compat_page();
    if std::env::var("WHARF_REWRITE").is_ok() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    let how = "run WHARF_REWRITE=1 cargo test -p wharf-kafka compat";
    assert!(written == page, "COMPAT.md is out of date: {how}");
}

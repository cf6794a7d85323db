//! Where the reports of the conformance suite go.

use std::fs;
use std::path::Path;

use wharf_message::transport::conformance::Report;

/// Keeps the report where the table is made from, and fails when a case did.
pub fn keep(report: &Report) {
    let file = format!("conformance-{}.json", report.name);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    fs::write(file, report.to_json()).unwrap();
    report.assert_passed();
}

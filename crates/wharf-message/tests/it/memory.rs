//! The transport in memory conforms, and what the suite found is kept for `docs/transports.md`.

use std::sync::Arc;

use wharf_message::transport::conformance::{self, Report};

use crate::simulated::Simulated;

#[test]
fn the_transport_in_memory_conforms() {
    let fixture = Simulated::new(|client| Arc::new(client));
    let report = fixture.run(conformance::run(&fixture));
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/conformance-memory.json");
    std::fs::write(path, report.to_json()).unwrap();
    report.assert_passed();
    assert_eq!(Report::from_json(&report.to_json()).unwrap(), report);
}

//! The transport in memory conforms, and what the suite found is kept for `docs/transports.md`.

use std::sync::Arc;

use wharf_message::transport::conformance::{self, CASES, Report, Verdict};
use wharf_message::transport::{Capabilities, Capability};

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

#[test]
fn what_a_transport_lacks_is_skipped_by_name_and_refused() {
    for lacking in Capability::ALL {
        let fixture = Simulated::new(|client| Arc::new(client))
            .with_capabilities(Capabilities::all().without(lacking));
        let of_it = |name: &str| {
            let mut cases = CASES.iter();
            cases.any(|case| case.name == name && case.needs.contains(&lacking))
        };
        let refusal = "what_is_lacking_is_refused_by_name";
        let run = conformance::run_those(&fixture, |case| of_it(case.name) || case.name == refusal);
        let report = fixture.run(run);
        for case in report.cases {
            match case.verdict {
                Verdict::Passed => assert_eq!(case.name, refusal),
                Verdict::Skipped { reason } => {
                    let is_named = of_it(&case.name) && reason.contains(lacking.name());
                    assert!(is_named || case.name == refusal, "{}: {reason}", case.name);
                }
                Verdict::Failed { why } => panic!("{lacking}: {}: {why}", case.name),
            }
        }
    }
}

#[test]
fn a_transport_without_any_capability_still_keeps_the_contract() {
    let fixture = Simulated::new(|client| Arc::new(client)).with_capabilities(Capabilities::NONE);
    fixture.run(conformance::run(&fixture)).assert_passed();
}

//! Bounded runs of the simulator, as part of every test run; `cargo xtask sim` runs more.

use wharf_sim::{Plan, Report, run};

#[test]
fn every_promise_holds_on_every_seed_and_every_fault_occurs() {
    let plan = Plan::default();
    let mut total = Report::default();
    for seed in 1..=120 {
        match run(seed, &plan) {
            Ok(report) => total.add(&report),
            Err(violation) => panic!("{violation}"),
        }
    }
    for (name, count) in total.counts() {
        assert!(count > 0, "no seed saw any {name}: {total:?}");
    }
}

#[test]
fn the_same_seed_does_the_same_again() {
    let plan = Plan::default();
    for seed in [1, 2, 3] {
        assert_eq!(run(seed, &plan), run(seed, &plan));
    }
}

//! Bounded runs of the simulator of sagas; `cargo xtask sim --sagas` runs more.

use std::collections::BTreeSet;

use wharf_sim::{SagaPlan, SagaReport, SagaSabotage, run_sagas};

#[test]
fn every_promise_about_sagas_holds_on_every_seed_and_every_fault_occurs() {
    let plan = SagaPlan::default();
    let mut total = SagaReport::default();
    for seed in 1..=600 {
        match run_sagas(seed, &plan) {
            Ok(report) => total.add(&report),
            Err(violation) => panic!("{violation}"),
        }
    }
    for (name, count) in total.counts() {
        assert!(count > 0, "no seed saw any {name}: {total:?}");
    }
}

#[test]
fn the_same_seed_does_the_same_to_the_same_sagas() {
    for on_the_log in [Some(false), Some(true)] {
        let plan = SagaPlan {
            on_the_log,
            ..SagaPlan::default()
        };
        for seed in 1..=20 {
            assert_eq!(run_sagas(seed, &plan), run_sagas(seed, &plan));
        }
    }
}

/// What is broken, and the promise that some seed must then find broken.
const SABOTAGES: [(SagaSabotage, &str); 19] = [
    (
        SagaSabotage::NoAlarms,
        "every saga ends, or is parked and somebody is alarmed",
    ),
    (
        SagaSabotage::LostTasks,
        "every saga ends, or is parked and somebody is alarmed",
    ),
    (
        SagaSabotage::RepeatedEffects,
        "every step has its effect once, or not at all, or undone",
    ),
    (
        SagaSabotage::EmptyUndos,
        "every step has its effect once, or not at all, or undone",
    ),
    (
        SagaSabotage::ForgottenUndos,
        "exactly what was done, or may have been, is undone, each once",
    ),
    (
        SagaSabotage::NoOrder,
        "what was done is undone in the reverse order",
    ),
    (
        SagaSabotage::ForwardAgain,
        "nothing goes forward once something is undone, and nothing is undone before the turn",
    ),
    (SagaSabotage::Fees, "money is neither made nor lost"),
    (
        SagaSabotage::EarlyAnswers,
        "nobody hears of anything before it is durable",
    ),
    (
        SagaSabotage::FastClock,
        "nothing fires before its time, and a deadline once",
    ),
    (SagaSabotage::LateTimers, "what is due happens soon"),
    (
        SagaSabotage::OldSnapshots,
        "a replay comes to the same state, byte for byte",
    ),
    (
        SagaSabotage::OtherVersions,
        "a saga keeps to the definition that it was started with",
    ),
    (
        SagaSabotage::OldGenerations,
        "only the newest dispatch of a step is answered, once",
    ),
    (SagaSabotage::AlwaysNew, "one key is one saga"),
    (SagaSabotage::OldLists, "what is listed is what happened"),
    (SagaSabotage::NoAudit, "every order of a person is a record"),
    (
        SagaSabotage::LyingDisk,
        "what was committed is there after every restart, and nothing else",
    ),
    (
        SagaSabotage::HalfCommits,
        "a commit happens whole or not at all, and those of one owner in order",
    ),
];

#[test]
fn every_checker_of_sagas_notices_what_it_is_there_for() {
    for (sabotage, promise) in SABOTAGES {
        let plan = SagaPlan {
            sabotage: Some(sabotage),
            ..SagaPlan::default()
        };
        let mut found = BTreeSet::new();
        for seed in 1..=200 {
            if let Err(violation) = run_sagas(seed, &plan) {
                found.insert(violation.promise);
            }
            if found.contains(promise) {
                break;
            }
        }
        assert!(found.contains(promise), "{sabotage:?} leads to {found:?}");
    }
}

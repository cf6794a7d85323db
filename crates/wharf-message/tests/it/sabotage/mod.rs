//! That the suite finds what it is for: transports with one promise broken, each caught by the case
//! that is named for it.

mod transport;

use std::sync::Arc;

use wharf_message::transport::conformance::{self, CASES, Verdict};

use self::transport::{Flaw, Sabotaged};
use crate::simulated::Simulated;

/// Each flaw, and the case that must find it.
const CAUGHT: &[(Flaw, &str)] = &[
    (
        Flaw::LosesRetries,
        "a_retried_message_comes_again_with_the_next_attempt",
    ),
    (
        Flaw::CountsNoAttempts,
        "a_retried_message_comes_again_with_the_next_attempt",
    ),
    (
        Flaw::ForgetsWhereRetriesCameFrom,
        "a_rejected_retry_tells_where_it_came_from",
    ),
    (
        Flaw::RetriesAtOnce,
        "a_delayed_retry_does_not_come_before_its_time",
    ),
    (
        Flaw::RetriesForEveryGroup,
        "retries_stay_within_their_group",
    ),
    (
        Flaw::ForgetsDeadLetters,
        "every_rejected_message_becomes_a_dead_letter",
    ),
    (
        Flaw::AcceptsBeforeTheDeadLetter,
        "every_rejected_message_becomes_a_dead_letter",
    ),
    (
        Flaw::DeadLettersLoseHeaders,
        "a_rejected_message_becomes_a_dead_letter_as_it_was",
    ),
    (
        Flaw::BreaksTheOrderOfKeys,
        "messages_of_a_key_come_in_order",
    ),
    (Flaw::IgnoresTheLimit, "no_more_than_the_limit_is_unsettled"),
    (
        Flaw::GivesMoreThanAskedFor,
        "no_more_is_given_than_asked_for",
    ),
    (
        Flaw::IgnoresSchedules,
        "a_scheduled_message_comes_not_before_its_time",
    ),
    (Flaw::ForgetsEmptyHeaders, "headers_arrive_as_they_were"),
    (Flaw::ForgetsKeys, "a_key_arrives_as_it_was"),
    (
        Flaw::MakesTombstonesEmpty,
        "a_tombstone_is_not_an_empty_payload",
    ),
    (
        Flaw::RedeliversWhatWasAccepted,
        "an_accepted_message_does_not_come_again",
    ),
    (Flaw::LosesWhatWasDropped, "a_dropped_delivery_comes_again"),
    (
        Flaw::CommitsWhatItDelivers,
        "what_a_crashed_consumer_left_comes_again",
    ),
    (
        Flaw::CommitsWhatIsBefore,
        "what_is_settled_out_of_order_is_not_lost_by_a_crash",
    ),
    (Flaw::GivesEveryMemberEverything, "members_share_the_work"),
    (Flaw::MixesGroups, "two_groups_each_get_everything"),
    (
        Flaw::BeginsAtTheBeginning,
        "a_group_that_begins_now_reads_nothing_older",
    ),
    (Flaw::SharesBroadcasts, "everyone_gets_every_message"),
    (
        Flaw::PublishesWhenPolled,
        "a_publish_that_nobody_waits_for_arrives",
    ),
    (
        Flaw::PublishesOutputsOneByOne,
        "one_refused_output_refuses_all",
    ),
    (
        Flaw::PublishesForOthers,
        "a_consumer_that_lost_its_delivery_publishes_nothing",
    ),
    (Flaw::TellsTwice, "an_outage_loses_nothing_and_is_told_once"),
    (
        Flaw::HidesItsLimit,
        "a_payload_beyond_the_limit_is_refused_by_its_size",
    ),
    (
        Flaw::PretendsAfterTheEnd,
        "after_a_shutdown_everything_says_closed",
    ),
];

#[test]
fn every_broken_promise_is_caught_by_its_case() {
    let mut unnoticed = Vec::new();
    for (flaw, name) in CAUGHT {
        assert!(
            CASES.iter().any(|case| case.name == *name),
            "there is no {name}"
        );
        let fixture = Simulated::new(|client| Arc::new(Sabotaged::new(client, *flaw)));
        let run = conformance::run_those(&fixture, |case| case.name == *name);
        let report = fixture.run(run);
        if !matches!(report.cases[0].verdict, Verdict::Failed { .. }) {
            unnoticed.push((flaw, name, report.cases[0].verdict.clone()));
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

#[test]
fn without_a_flaw_the_wrapper_itself_conforms() {
    let fixture = Simulated::new(|client| Arc::new(Sabotaged::new(client, Flaw::None)));
    let names: Vec<&str> = CAUGHT.iter().map(|(_, name)| *name).collect();
    let run = conformance::run_those(&fixture, |case| names.contains(&case.name));
    fixture.run(run).assert_passed();
}

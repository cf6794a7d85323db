//! The suite that every [`Transport`](super::Transport) runs, and the report it writes about it.
//!
//! A [`Case`] is one sentence that holds of every transport that has the capabilities it needs. Most
//! run once as they are and once under each of the [`FAULTS`]: then a message may come several times
//! and keys may overtake each other, but nothing may be lost and no key may go back. What cannot be
//! tried is skipped with a reason, and the reason is in the report: a skipped case is never a
//! silent one.
//!
//! To run it, implement [`Fixture`] for a broker that is running and call [`run`];
//! `docs/how-to/add-a-transport.md` shows the way.

mod basics;
mod delivery;
mod failures;
mod fixture;
mod groups;
mod operation;
mod order;
mod outputs;
mod replies;
mod report;
mod time;
mod world;

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};

pub use self::fixture::Fixture;
pub use self::report::{CaseReport, Report, Verdict};
pub use self::world::{Outcome, Skipped, World};
use super::faults::{FAULTS, Fault};
use super::{Capabilities, Capability};

/// One sentence that holds of every transport.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The sentence, as the name of its function.
    pub name: &'static str,
    /// The group of cases it belongs to: a letter of [`GROUPS`].
    pub group: char,
    /// What a transport needs for it.
    pub needs: &'static [Capability],
    /// How it is run.
    pub mode: Mode,
    run: for<'a> fn(&'a World<'a>) -> BoxFuture<'a, Outcome>,
}

/// How a case is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As it is and under each fault, beside other cases.
    UnderFaults,
    /// As it is, beside other cases: it injects its own fault, or moves no message.
    Once,
    /// As it is and alone, because it disturbs the broker.
    Alone,
}

/// The groups of cases, in order: letter and title.
pub const GROUPS: &[(char, &str)] = &[
    ('A', "Basics"),
    ('B', "Delivery"),
    ('C', "Order and concurrency"),
    ('D', "Groups and outages"),
    ('E', "Retries and dead letters"),
    ('G', "Time"),
    ('H', "Broadcast and replies"),
    ('J', "Outputs in one step"),
    ('K', "Operation"),
];

macro_rules! cases {
    ($($group:literal $module:ident::$name:ident $mode:ident [$($need:ident)*];)*) => {
        /// Every case, by group.
        pub const CASES: &[Case] = &[$(Case {
            name: stringify!($name),
            group: $group,
            needs: &[$(Capability::$need),*],
            mode: Mode::$mode,
            run: |world| Box::pin($module::$name(world)),
        }),*];
    };
}

cases! {
    'A' basics::a_payload_of_any_size_arrives_as_it_was UnderFaults [];
    'A' basics::a_payload_beyond_the_limit_is_refused_by_its_size Once [];
    'A' basics::headers_arrive_as_they_were UnderFaults [];
    'A' basics::headers_that_are_no_text_arrive_as_they_were UnderFaults [BinaryHeaders];
    'A' basics::headers_of_one_name_keep_their_order UnderFaults [RepeatedHeaders];
    'A' basics::a_key_arrives_as_it_was UnderFaults [];
    'A' basics::a_tombstone_is_not_an_empty_payload UnderFaults [Tombstones];
    'A' basics::a_time_arrives_as_it_was_given UnderFaults [];
    'A' basics::topics_are_apart UnderFaults [];
    'A' basics::a_subscription_to_several_topics_gets_all_of_them UnderFaults [];
    'A' basics::a_new_group_reads_what_was_before_it UnderFaults [History];
    'A' basics::a_group_that_begins_now_reads_nothing_older UnderFaults [];
    'A' basics::what_comes_before_the_first_question_is_kept UnderFaults [];
    'A' basics::creating_a_topic_again_changes_nothing UnderFaults [];
    'A' basics::a_delivery_knows_its_position UnderFaults [Positions];
    'A' basics::what_is_lacking_is_refused_by_name Once [];
    'A' basics::a_publish_that_nobody_waits_for_arrives Once [];
    'B' delivery::an_accepted_message_does_not_come_again Once [];
    'B' delivery::a_retried_message_comes_again_with_the_next_attempt UnderFaults [];
    'B' delivery::a_dropped_delivery_comes_again UnderFaults [];
    'B' delivery::what_a_crashed_consumer_left_comes_again UnderFaults [];
    'B' delivery::what_was_settled_before_a_close_does_not_come_again Once [];
    'B' delivery::a_settlement_that_comes_too_late_harms_nobody UnderFaults [];
    'B' delivery::no_more_than_the_limit_is_unsettled Once [];
    'B' delivery::no_more_is_given_than_asked_for UnderFaults [];
    'B' delivery::a_consumer_that_does_not_ask_keeps_what_it_has Once [];
    'B' delivery::a_question_that_is_dropped_loses_nothing UnderFaults [];
    'B' delivery::attempts_are_counted_over_a_restart_of_the_consumer Once [AttemptCount];
    'B' delivery::the_attempt_number_never_goes_back UnderFaults [];
    'C' order::messages_of_a_key_come_in_order UnderFaults [Order];
    'C' order::competing_members_keep_the_order_of_keys UnderFaults [KeyOrder];
    'C' order::the_order_of_keys_holds_while_members_come_and_go UnderFaults [KeyOrder];
    'C' order::what_is_settled_out_of_order_is_not_lost_by_a_crash UnderFaults [];
    'C' order::what_is_settled_out_of_order_is_not_lost_by_a_close UnderFaults [];
    'C' order::more_than_the_limit_comes_bit_by_bit UnderFaults [];
    'D' groups::two_groups_each_get_everything UnderFaults [];
    'D' groups::members_share_the_work UnderFaults [];
    'D' groups::a_member_that_joins_takes_part UnderFaults [];
    'D' groups::a_member_that_leaves_hands_over UnderFaults [];
    'D' groups::a_member_that_crashes_halfway_loses_nothing UnderFaults [];
    'D' groups::a_restart_of_the_broker_loses_nothing Alone [Durable];
    'D' groups::an_outage_loses_nothing_and_is_told_once Alone [];
    'D' groups::a_settlement_during_an_outage_loses_nothing Alone [];
    'D' groups::settlements_outlive_a_restart_of_the_broker Alone [Durable];
    'E' failures::a_delayed_retry_does_not_come_before_its_time Once [];
    'E' failures::a_delayed_retry_blocks_no_other_key UnderFaults [];
    'E' failures::retries_with_different_delays_come_each_in_its_time Once [];
    'E' failures::a_delayed_retry_outlives_its_consumer Once [DelayedRetry];
    'E' failures::a_delayed_retry_outlives_a_restart_of_the_broker Alone [Durable DelayedRetry];
    'E' failures::retries_stay_within_their_group UnderFaults [];
    'E' failures::a_rejected_message_becomes_a_dead_letter_as_it_was Once [];
    'E' failures::a_rejected_retry_tells_where_it_came_from Once [];
    'E' failures::a_rejected_message_does_not_come_again Once [];
    'E' failures::every_rejected_message_becomes_a_dead_letter UnderFaults [];
    'E' failures::a_rejection_during_an_outage_loses_nothing Alone [];
    'G' time::a_scheduled_message_comes_not_before_its_time Once [Schedule];
    'G' time::a_time_that_has_passed_is_no_schedule UnderFaults [Schedule];
    'G' time::a_scheduled_message_reaches_every_group UnderFaults [Schedule];
    'G' time::scheduled_messages_come_in_the_order_of_their_times Once [Schedule];
    'G' time::a_schedule_outlives_a_restart_of_the_broker Alone [Schedule Durable];
    'G' time::a_schedule_that_is_no_time_is_refused Once [];
    'H' replies::everyone_gets_every_message Once [Broadcast];
    'H' replies::nothing_is_kept_for_everyone Once [Broadcast];
    'H' replies::a_request_is_answered Once [Broadcast];
    'H' replies::listening_goes_on_after_an_outage Alone [Broadcast];
    'J' outputs::outputs_and_acceptance_are_one_step UnderFaults [AtomicOutputs];
    'J' outputs::one_refused_output_refuses_all Once [AtomicOutputs];
    'J' outputs::a_consumer_that_lost_its_delivery_publishes_nothing Once [AtomicOutputs];
    'K' operation::after_a_shutdown_everything_says_closed Once [];
    'K' operation::a_question_that_waits_ends_with_the_shutdown Once [];
    'K' operation::a_shutdown_keeps_what_was_settled Once [];
    'K' operation::one_client_goes_on_when_another_is_shut_down UnderFaults [];
}

/// Runs every case.
///
/// ```
/// use wharf_message::transport::conformance::{self, Fixture};
///
/// async fn conforms(fixture: &dyn Fixture) {
///     conformance::run(fixture).await.assert_passed();
/// }
/// ```
pub async fn run(fixture: &dyn Fixture) -> Report {
    run_those(fixture, |_| true).await
}

/// Runs the cases that `chosen` picks; the report holds these only.
///
/// ```
/// use wharf_message::transport::conformance::{self, Fixture};
///
/// async fn keeps_order(fixture: &dyn Fixture) {
///     let report = conformance::run_those(fixture, |case| case.group == 'C').await;
///     report.assert_passed();
/// }
/// ```
pub async fn run_those(fixture: &dyn Fixture, chosen: impl Fn(&Case) -> bool) -> Report {
    let transport = fixture.connect().await;
    let capabilities = transport.capabilities();
    // It is not used for anything else.
    drop(transport.shutdown().await);
    let cases: Vec<(usize, &Case)> = CASES
        .iter()
        .enumerate()
        .filter(|(_, c)| chosen(c))
        .collect();
    let (alone, beside) = cases
        .into_iter()
        .partition::<Vec<_>, _>(|(_, case)| case.mode == Mode::Alone);
    let one = |(number, case): (usize, &'static Case)| async move {
        (number, run_case(fixture, capabilities, number, case).await)
    };
    let width = fixture.concurrency().max(1);
    let mut results: Vec<_> = stream::iter(beside)
        .map(one)
        .buffer_unordered(width)
        .collect()
        .await;
    for case in alone {
        results.push(one(case).await);
    }
    results.sort_by_key(|(number, _)| *number);
    Report {
        name: fixture.name().to_owned(),
        title: fixture.title(),
        capabilities: Capability::ALL
            .into_iter()
            .filter(|one| capabilities.has(*one))
            .map(|one| one.name().to_owned())
            .collect(),
        cases: results.into_iter().map(|(_, report)| report).collect(),
    }
}

/// One case: as it is, and under the faults; the first failure ends it.
async fn run_case(
    fixture: &dyn Fixture,
    capabilities: Capabilities,
    number: usize,
    case: &Case,
) -> CaseReport {
    let report = |verdict, faults| CaseReport {
        name: case.name.to_owned(),
        group: case.group,
        faults,
        verdict,
    };
    let missing = capabilities.missing(case.needs.iter().copied().collect());
    if let Some(first) = missing.first() {
        let reason = format!("it has no {first} ({})", first.meaning());
        return report(Verdict::Skipped { reason }, Vec::new());
    }
    let mut faults: Vec<Option<Fault>> = vec![None];
    if case.mode == Mode::UnderFaults {
        faults.extend(FAULTS.iter().copied().map(Some));
    }
    let mut tried = Vec::new();
    for (run, fault) in faults.into_iter().enumerate() {
        let world = World::new(fixture, capabilities, fault, format!("c{number}.{run}"));
        let outcome = AssertUnwindSafe((case.run)(&world)).catch_unwind().await;
        world.end().await;
        match outcome {
            Ok(Ok(())) => tried.extend(fault.map(|fault| fault.name().to_owned())),
            Ok(Err(Skipped(reason))) => return report(Verdict::Skipped { reason }, tried),
            Err(panic) => {
                let under = fault.map_or(String::new(), |fault| format!("under {fault}: "));
                let why = format!("{under}{}", message(&*panic));
                return report(Verdict::Failed { why }, tried);
            }
        }
    }
    report(Verdict::Passed, tried)
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}

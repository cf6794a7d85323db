//! The examples run, and what they assert holds.

#[cfg(feature = "sqlite")]
#[path = "../../examples/idempotent_consumer.rs"]
mod idempotent_consumer;
#[path = "../../examples/publish_subscribe.rs"]
mod publish_subscribe;
#[path = "../../examples/request_reply.rs"]
mod request_reply;
#[path = "../../examples/retries_and_dead_letters.rs"]
mod retries_and_dead_letters;
#[path = "../../examples/schedule_and_expire.rs"]
mod schedule_and_expire;

#[test]
fn groups_get_every_message_and_members_share_them() {
    publish_subscribe::main().unwrap();
}

#[test]
fn a_question_is_answered_in_time_or_not_at_all() {
    request_reply::main().unwrap();
}

#[test]
fn what_is_scheduled_comes_later_and_what_is_old_not_at_all() {
    schedule_and_expire::main().unwrap();
}

#[test]
fn a_failing_message_holds_up_only_its_own_key() {
    retries_and_dead_letters::main().unwrap();
}

#[cfg(feature = "sqlite")]
#[test]
fn a_message_delivered_twice_has_one_row() {
    idempotent_consumer::main().unwrap();
}

#[test]
fn the_example_of_the_front_page_is_the_one_that_the_crate_compiles() {
    let readme = include_str!("../../../../README.md");
    let (_, from) = readme.split_once("```rust\n").unwrap();
    let (shown, _) = from.split_once("```\n").unwrap();
    let documentation = include_str!("../../src/lib.rs").lines();
    let compiled = documentation
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .skip_while(|line| !line.starts_with("```"))
        .skip(1)
        .take_while(|line| !line.starts_with("```"));
    assert!(shown.lines().eq(compiled), "{shown}");
}

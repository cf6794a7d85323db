//! The static checks: each finds what it is for, in an otherwise sound contract.

use wharf_saga::choreography::Contract;
use wharf_saga::choreography::contract::check::check;

const EVENTS: &str = "events:
  placed: {topic: t, from: orders, effect: none}
  reserved: {topic: t, from: stock}
  empty: {topic: t, from: stock, effect: none}
  released: {topic: t, from: stock}
  paid: {topic: t, from: money}
  declined: {topic: t, from: money, effect: none}
  done: {topic: t, from: orders}
  rejected: {topic: t, from: orders}
";
const REST: &str = "choreography: c
starts: placed
pivot: paid
ends: {completed: [done], compensated: [rejected]}
compensation: {reserved: released}
";
const RULES: &str = "rules:
  - {on: placed, expect: 'one of [reserved, empty]'}
  - {on: reserved, expect: 'one of [paid, declined]'}
  - {on: paid, expect: done}
  - {on: empty, expect: rejected}
  - {on: declined, expect: 'all of [released, rejected]'}
";

/// What is found when a part of the text is replaced by another.
fn found(replaced: &[(&str, &str)]) -> Vec<String> {
    let mut text = format!("{REST}{EVENTS}{RULES}");
    for (old, new) in replaced {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    let contract = Contract::parse(&text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
    check(&contract).iter().map(ToString::to_string).collect()
}

#[track_caller]
fn finds(replaced: &[(&str, &str)], expected: &[&str]) {
    let all = found(replaced);
    for expected in expected {
        assert!(
            all.iter().any(|one| one.contains(expected)),
            "{expected} is not in {all:#?}"
        );
    }
}

#[test]
fn a_sound_contract_has_no_findings() {
    assert_eq!(found(&[]), [""; 0]);
}

#[test]
fn a_dead_end_is_found() {
    finds(
        &[("  - {on: empty, expect: rejected}\n", "")],
        &["/events/empty: a dead end", "placed → empty"],
    );
}

#[test]
fn an_end_that_cannot_be_reached_and_what_leads_there_are_found() {
    finds(
        &[(
            "  - {on: paid, expect: done}\n",
            "  - {on: done, expect: done}\n",
        )],
        &[
            "no path leads to the end `done`",
            "/rules/2/on: the rule is never used",
            "a dead end",
        ],
    );
}

#[test]
fn a_path_that_goes_round_for_ever_is_found() {
    finds(
        &[("expect: done}", "expect: paid}")],
        &["no end can be reached, it goes round for ever"],
    );
}

#[test]
fn a_doing_event_without_an_undo_is_found() {
    finds(
        &[
            ("compensation: {reserved: released}\n", ""),
            ("'all of [released, rejected]'", "rejected"),
            ("  released: {topic: t, from: stock}\n", ""),
        ],
        &["/events/reserved: `reserved`", "nothing undoes it"],
    );
    // Also where no path leads back.
    let all = found(&[(
        "empty: {topic: t, from: stock, effect: none}",
        "empty: {topic: t, from: stock}",
    )]);
    assert!(all[0].contains("/events/empty"), "{all:?}");
}

#[test]
fn an_undo_that_nobody_is_expected_to_make_is_found() {
    finds(
        &[("'all of [released, rejected]'", "rejected")],
        &["/compensation/reserved: nobody is expected to undo `reserved`"],
    );
    let asked = found(&[(
        "'all of [released, rejected]'}",
        "rejected}\n  - {on: declined, expect: compensation}",
    )]);
    assert_eq!(asked, [""; 0]);
}

#[test]
fn an_undo_of_what_was_not_done_on_that_path_is_found() {
    finds(
        &[(
            "{on: empty, expect: rejected}",
            "{on: empty, expect: 'all of [released, rejected]'}",
        )],
        &["`released` is expected where `reserved`, which it undoes, has not happened"],
    );
}

#[test]
fn undoing_after_the_pivot_is_found() {
    finds(
        &[(
            "{on: paid, expect: done}",
            "{on: paid, expect: 'one of [done, rejected]'}",
        )],
        &["/pivot: after the pivot `paid` nothing may be undone"],
    );
}

#[test]
fn a_decision_that_two_services_make_apart_is_found() {
    finds(
        &[(
            "declined: {topic: t, from: money",
            "declined: {topic: t, from: fraud",
        )],
        &["/rules/1/expect: paid, declined exclude each other, but fraud and money decide apart"],
    );
    finds(
        &[("declined: {topic: t, from: money,", "declined: {topic: t,")],
        &["nothing says who decides between paid, declined"],
    );
}

#[test]
fn an_answer_that_could_be_to_either_of_two_rules_is_found() {
    finds(
        &[(
            "  - {on: paid, expect: done}\n",
            "  - {on: paid, expect: done}\n  - {on: placed, expect: 'one of [reserved, declined]'}\n",
        )],
        &["it cannot be told whether `reserved` answers this rule or that"],
    );
}

#[test]
fn a_contract_too_large_to_check_is_told_so() {
    let mut events = String::new();
    let mut rules = String::new();
    for number in 0..40 {
        events.push_str(&format!(
            "  a{number}: {{topic: t, from: s}}\n  b{number}: {{topic: t, from: s}}\n"
        ));
        rules.push_str(&format!(
            "  - {{on: placed, expect: 'one of [a{number}, b{number}]'}}\n"
        ));
    }
    let text = format!("{REST}{EVENTS}{events}{RULES}{rules}");
    let found = check(&Contract::parse(&text).unwrap());
    let told = found
        .iter()
        .any(|one| one.sentence.contains("too many to check"));
    assert!(told, "{found:?}");
}

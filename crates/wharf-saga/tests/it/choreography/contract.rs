//! Reading contracts: what is understood, and everything that is wrong at once.

use std::time::Duration;

use wharf_saga::choreography::Contract;
use wharf_saga::choreography::contract::draw::Drawing;
use wharf_saga::choreography::contract::{End, Expect};

use super::SHOP;

#[test]
fn a_contract_reads_like_the_sentences_it_is_made_of() {
    let contract = Contract::parse(
        "choreography: checkout
events:
  OrderPlaced: {topic: orders, from: orders}
  PaymentAuthorized: {topic: payments}
  PaymentDeclined: {topic: payments, effect: none}
  PaymentRefunded: {topic: payments}
starts: OrderPlaced
ends: [PaymentAuthorized, PaymentRefunded]
compensation: {PaymentAuthorized: PaymentRefunded}
correlation:
  - header: order-id
  - json: $.order.id
    topics: [payments]
rules:
  - on: OrderPlaced
    expect: one of [PaymentAuthorized, PaymentDeclined] within 10s
    from: payments
    read-by: payments-v2
",
    )
    .unwrap();
    let rule = &contract.rules[0];
    assert_eq!(rule.expect, Expect::OneOf(vec![1, 2]));
    assert_eq!(rule.within, Duration::from_secs(10));
    assert_eq!(rule.group.as_deref(), Some("payments-v2"));
    assert_eq!(contract.events[1].from.as_deref(), Some("payments"));
    assert_eq!(contract.events[1].undo, Some(3));
    assert_eq!(contract.events[3].undoes, Some(1));
    // An end that undoes something is one of the way back.
    assert_eq!(contract.events[3].end, Some(End::Compensated));
    assert_eq!(contract.events[1].end, Some(End::Completed));
    assert_eq!(contract.correlation.topics.len(), 1);
    assert_eq!(contract.topics(), ["orders", "payments"]);
    assert_eq!(contract.services(), ["orders", "payments"]);
}

#[test]
fn a_dead_letter_is_an_event_in_the_topic_of_its_service() {
    let contract = Contract::parse(SHOP).unwrap();
    let named = |name: &str| contract.events.iter().find(|event| event.name == name);
    let aside = named("shop.checkout.set-aside").unwrap();
    assert_eq!(aside.topic, "dlq.shop.checkouts.order");
    assert_eq!(contract.kind(aside), "shop.checkout.submitted");
    assert!(aside.is_notice);
    for (letter, sentence) in [
        (
            "dead-letter-of: shop.checkout.submitted",
            "whose dead letters",
        ),
        (
            "{dead-letter-of: shop.checkout.submited, from: order}",
            "is not among the events; did you mean",
        ),
        (
            "{dead-letter-of: shop.checkout.set-aside, from: order}",
            "is a dead letter itself",
        ),
    ] {
        let letter = format!("{{ {} }}", letter.trim_matches(['{', '}']));
        let usual = "{ dead-letter-of: shop.checkout.submitted, from: order }";
        let wrong = Contract::parse(&SHOP.replace(usual, &letter)).unwrap_err();
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        let told = wrong[0].to_string();
        assert!(told.contains(sentence), "{told}");
        assert!(
            told.starts_with("/events/shop.checkout.set-aside/dead-letter-of: "),
            "{told}"
        );
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_place_and_the_nearest_name() {
    let problems = Contract::parse(
        "choreography: the shop
descripton: text
correlation: [{header: a, key: true}, {json: order}, {key: false}]
events:
  OrderPlaced: {topic: orders, form: orders}
  OrderPaid: {effect: much}
  OrderUndone: {topic: 7}
  a/b: {topic: orders}
starts: [OrderPlacd]
pivot: []
ends: {completed: [], finished: [OrderPaid]}
compensation:
  OrderPlaced: OrderPlaced
  OrderPaid: OrderUndone
  a/b: OrderUndone
rules:
  - expect: OrderPaid
  - on: OrderPlaced
    expect: [OrderPaid]
    within: soon
  - on: OrderPlaced
    expect: one of [OrderPaid, OrderPayed]
  - on: OrderPaid
    expect: {any-of: [OrderPaid]}
reorder-within: 1
other-events: maybe
",
    )
    .unwrap_err();
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn what_is_no_document_is_refused_in_one_sentence() {
    for text in ["", "[", "7", "- a", "a: [\n", "{\"choreography\": 1"] {
        let problems = Contract::parse(text).unwrap_err();
        assert!(!problems.is_empty(), "{text}");
    }
    let long = format!("choreography: {}", "x".repeat(2 << 20));
    let problems = Contract::parse(&long).unwrap_err();
    assert!(problems[0].sentence.contains("are allowed"));
    // A document that grows when it is read.
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f]\n";
    assert!(Contract::parse(bomb).is_err());
    let deep = format!("choreography: {}{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(Contract::parse(&deep).is_err());
}

#[test]
fn a_contract_is_drawn_for_documents_and_for_graphviz() {
    let drawing = Drawing::of(&Contract::parse(SHOP).unwrap());
    insta::assert_snapshot!("shop_as_mermaid", drawing.mermaid());
    insta::assert_snapshot!("shop_as_dot", drawing.dot());
}

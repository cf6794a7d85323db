//! The page `COMPAT.md`, from the cards alone: what it says is what is dispatched.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use crate::api::{APIS, Card};

const HEAD: &str = "\
# Compatibility

<!-- Generated from the cards in crates/wharf-kafka/src/api.
     `WHARF_REWRITE=1 cargo test -p wharf-kafka compat` writes it anew. -->

What Wharf answers of the Kafka protocol.
A key that is not listed is not advertised, and a request with it ends the connection, as in Kafka.
The ranges are the ones that Kafka 4.3 advertises.
Both the flexible and the older encodings are answered.

";

/// The text of `COMPAT.md`.
pub fn compat_page() -> String {
    let mut page = String::from(HEAD);
    page.push_str("| key | request | versions | KIPs | notes |\n|---|---|---|---|---|\n");
    for card in APIS.iter().map(|api| api.card) {
        row(&mut page, card);
    }
    page
}

fn row(page: &mut String, card: &Card) {
    let kips: Vec<String> = card.kips.iter().map(u16::to_string).collect();
    writeln!(
        page,
        "| {} | {} | {} | {} | {} |",
        card.key,
        card.name,
        versions(card),
        kips.join(", "),
        card.notes,
    )
    .expect("writing to a string cannot fail");
}

fn versions(card: &Card) -> String {
    let range = |range: &RangeInclusive<i16>| match (*range.start(), *range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}–{last}"),
    };
    if card.advertised == card.answered {
        return range(&card.answered);
    }
    format!(
        "{} (advertised {})",
        range(&card.answered),
        range(&card.advertised)
    )
}

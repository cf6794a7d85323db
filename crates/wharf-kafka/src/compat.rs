//! The page `COMPAT.md`: what the cards say, which is what is dispatched, and what is known to be
//! otherwise than in Apache Kafka.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use crate::api::{APIS, Card};

const HEAD: &str = "\
# Compatibility

<!-- Generated from the cards in crates/wharf-kafka/src/api and from compat/differences.toml.
     `WHARF_REWRITE=1 cargo test -p wharf-kafka compat` writes it anew. -->

What Wharf answers of the Kafka protocol.
A key that is not listed is not advertised, and a request with it ends the connection, as in Kafka.
The ranges are the ones that Kafka 4.3 advertises.
Both the flexible and the older encodings are answered.

";

const DIFFERENCES: &str = "
## Differences

Every client's cases run against Wharf and against Apache Kafka in the same test run, and must pass and say the same on both.
";

/// A client's case that ends differently on one of the two servers.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The client's folder below `compat/`.
    pub client: String,
    /// The case.
    pub case: String,
    /// `wharf` or `kafka`: where the case fails, or says something else.
    pub server: String,
    /// Why that is right.
    pub reason: String,
}

/// The text of `COMPAT.md`.
pub fn compat_page(differences: &[Difference]) -> String {
    let mut page = String::from(HEAD);
    page.push_str("| key | request | versions | KIPs | notes |\n|---|---|---|---|---|\n");
    for card in APIS.iter().map(|api| api.card) {
        row(&mut page, card);
    }
    page.push_str(DIFFERENCES);
    if differences.is_empty() {
        page.push_str("There is no exception.\n");
        return page;
    }
    page.push_str("The exceptions:\n\n");
    page.push_str("| client | case | otherwise on | reason |\n|---|---|---|---|\n");
    for one in differences {
        let (client, case, server, reason) = (&one.client, &one.case, &one.server, &one.reason);
        writeln!(page, "| {client} | {case} | {server} | {reason} |")
            .expect("writing to a string cannot fail");
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

//! An action on every saga that a filter means: counted first, asked, and done on exactly as many.

use std::time::Duration;

use serde_json::{Value, json};

use super::act::Order;
use super::payload::put;
use super::{good, list, path, post};
use crate::cli::Outcome;
use crate::confirm;
use crate::node_api::taken;
use crate::output::{self, Format, cell};

/// How long the node may work on all of them.
const WAIT: Duration = Duration::from_secs(600);
/// How many sagas a dry run lists.
const LISTED: usize = 100;

/// Counts, asks and acts.
pub(super) fn run(order: &Order, action: &str, rest: Value) -> anyhow::Result<Outcome> {
    let mut body = order.body(rest);
    put(&mut body, "filter", Some(order.filter.object()));
    put(&mut body, "action", Some(action));
    let place = path("/bulk");
    let counted = post(&order.node, &place, &body)?;
    let count = counted["count"].as_u64().unwrap_or_default();
    let sagas = if count == 1 { "saga is" } else { "sagas are" };
    if order.dry_run {
        let (rows, _) = list::listed(&order.node, &order.filter, LISTED)?;
        list::print(order.output.format, &rows)?;
        output::note(&format!(
            "{count} {sagas} meant by {action}; nothing was changed"
        ))?;
        return Ok(outcome(count > 0));
    }
    output::note(&format!("{count} {sagas} meant"))?;
    if count == 0 {
        return Ok(Outcome::Negative);
    }
    if !confirm::go_on(order.yes, &count.to_string(), &format!("{action} them"))? {
        output::note("nothing was done")?;
        return Ok(Outcome::Negative);
    }
    put(&mut body, "expect", Some(count));
    let done = good(order.node.send("POST", &place, Some(&body), WAIT)?)?;
    told(order, action, done)
}

fn told(order: &Order, action: &str, mut done: Value) -> anyhow::Result<Outcome> {
    let count = done["count"].as_u64().unwrap_or_default();
    let refused = done["refused"].as_u64().unwrap_or_default();
    if order.output.format == Format::Table {
        let refusals = taken(&mut done["refusals"]).into_iter().map(|refusal| {
            let why = format!(
                "refused: {}: {}",
                cell(&refusal["code"]),
                cell(&refusal["detail"])
            );
            json!({ "id": refusal["id"], "now": why })
        });
        let acted = taken(&mut done["done"]).into_iter();
        let acted = acted.map(|one| json!({ "id": one["id"], "now": one["status"] }));
        let rows: Vec<_> = acted.chain(refusals).collect();
        output::rows(Format::Table, &["ID", "NOW"], &rows, |row| {
            vec![cell(&row["id"]), cell(&row["now"])]
        })?;
    } else {
        output::one(order.output.format, &done)?;
    }
    output::note(&format!("{action}: {count} done, {refused} refused"))?;
    Ok(outcome(refused == 0))
}

fn outcome(is_good: bool) -> Outcome {
    match is_good {
        true => Outcome::Done,
        false => Outcome::Negative,
    }
}

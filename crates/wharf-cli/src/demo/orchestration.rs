//! The shop whose checkouts are sagas of the node's orchestrator.

use std::io::Write as _;

use wharf_server::config::Config;

use super::{Demo, start_node, until_interrupted};
use crate::cli::{Outcome, Usage};
use crate::output;

/// How many lines of figures are passed over where nobody watches a terminal.
const SHOWN_ONE_IN: u64 = 5;

/// Runs it until it has had its checkouts, or until somebody closes it, and adds up.
pub(super) async fn open_shop(demo: Demo) -> anyhow::Result<Outcome> {
    if demo.python || demo.python_with.is_some() {
        let why = "the notification service in Python is one of the choreographed shop: leave --python \
                   out, or leave --style out";
        return Err(Usage(why.to_owned()).into());
    }
    if demo.choreography.is_asked_for() {
        let why = "--stop, --stop-for and --within are for the choreographed shop: leave them out, or leave \
                   --style out";
        return Err(Usage(why.to_owned()).into());
    }
    let temporary = tempfile::Builder::new().prefix("wharf-demo-").tempdir()?;
    let folder = demo.keep.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(folder)?;
    let (database, relay) = demo.database(folder).await?;
    let node = start_node(Config::default(), &folder.join("node"), relay).await?;
    let broker = node.kafka_address().to_string();
    let http = node.http_address().to_string();
    let endless = demo.orders.is_none() && demo.duration.is_none();
    output::note(&introduction(&broker, &http, endless))?;

    let (interrupted, stop) = until_interrupted();
    let options = shop::orchestration::Options {
        broker,
        http,
        database: database.clone(),
        orders: demo.orders,
        duration: demo.duration,
        per_second: demo.rate,
        seed: demo.seed,
    };
    let mut shown = 0;
    let report = shop::orchestration::open(options, stop, |glance| {
        shown += 1;
        if shown % SHOWN_ONE_IN == 1 {
            // Nobody is left to look when stderr is gone; the shop goes on and the report says it all.
            drop(writeln!(anstream::stderr(), "{glance}"));
        }
    });
    let report = report.await;
    interrupted.abort();
    let stopped = node.shutdown().await;
    let closed = database.close(demo.keep.is_some()).await;
    let report = report?;
    stopped?;
    closed?;
    output::text(&format!("\n{}", report.text()))?;
    if demo.keep.is_some() {
        output::note(&format!("the data is kept in {}", folder.display()))?;
    }
    Ok(if report.adds_up() {
        Outcome::Done
    } else {
        Outcome::Negative
    })
}

fn introduction(kafka: &str, http: &str, endless: bool) -> String {
    let mut text = format!(
        "Wharf runs at {kafka}; its sagas at http://{http}/api/v1/sagas.\n\
         Look in from another terminal:\n\n\
         \x20 wharf saga list --http {http}\n\
         \x20 wharf saga list --status PARKED --http {http}\n\
         \x20 wharf saga show ID --http {http}\n\
         \x20 wharf saga mark ID --as compensated --reason 'paid back by hand' --http {http}\n"
    );
    if endless {
        text.push_str("\nCtrl-C closes the shop, repairs what is parked still, and adds up.\n");
    }
    text
}

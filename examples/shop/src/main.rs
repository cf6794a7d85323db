//! The shop against any Kafka broker: `cargo run -p shop -- HOST:PORT [ORDERS]`. Its database is a
//! file for the time of the run, and a relay in this process moves what is in the outbox.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::watch;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let Some(broker) = arguments.next() else {
        writeln!(
            std::io::stderr(),
            "usage: shop HOST:PORT [ORDERS]   (default 1000 orders)"
        )?;
        return Ok(ExitCode::from(2));
    };
    let orders = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let database = shop::Database::sqlite(&folder.path().join("shop.db")).await?;
    let bus = wharf::Bus::connect(&format!("kafka://{broker}"), "shop").await?;
    let relay = shop::relay(&database, Arc::clone(bus.transport()))?;
    let (close, closed) = watch::channel(false);
    let relay = tokio::spawn(relay.run(closed));
    let options = shop::Options {
        broker,
        database: database.clone(),
        orders: Some(orders),
        duration: None,
        per_second: 500,
        seed: 1,
        python: None,
        registry: None,
        pause: None,
    };
    let (_keep_open, stop) = watch::channel(false);
    let mut live = shop::view::Live::default();
    let summary = shop::run(options, stop, |snapshot| {
        // A closed stderr takes nothing from the run.
        drop(std::io::stderr().write_all(live.table(snapshot).as_bytes()));
    })
    .await?;
    close.send_replace(true);
    relay.await?;
    bus.transport().shutdown().await?;
    database.close(false).await?;
    std::io::stdout().write_all(shop::view::summary(&summary).as_bytes())?;
    Ok(if summary.adds_up() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

//! The shop against any Kafka broker: `cargo run -p shop -- HOST:PORT [ORDERS]`.

use std::io::Write as _;
use std::process::ExitCode;

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
    let options = shop::Options {
        broker,
        orders: Some(orders),
        duration: None,
        per_second: 500,
        seed: 1,
        python: None,
    };
    let (_keep_open, stop) = watch::channel(false);
    let mut live = shop::view::Live::default();
    let summary = shop::run(options, stop, |snapshot| {
        // A closed stderr takes nothing from the run.
        drop(std::io::stderr().write_all(live.table(snapshot).as_bytes()));
    })
    .await?;
    std::io::stdout().write_all(shop::view::summary(&summary).as_bytes())?;
    Ok(if summary.adds_up() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

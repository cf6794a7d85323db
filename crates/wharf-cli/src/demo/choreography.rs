//! The shop whose services react to each other's events.

use tokio::sync::watch;

use super::{Demo, Screen, contract, introduction, start_node};
use crate::cli::Outcome;
use crate::output;

/// Runs it until it has had its checkouts, or until somebody closes it, and adds up.
pub(super) async fn open_shop(demo: Demo) -> anyhow::Result<Outcome> {
    let temporary = tempfile::Builder::new().prefix("wharf-demo-").tempdir()?;
    let folder = demo.keep.as_deref().unwrap_or(temporary.path());
    std::fs::create_dir_all(folder)?;
    let data = folder.join("node");
    let python = demo.python(temporary.path()).await?;
    let (database, relay) = demo.database(folder).await?;
    let node = start_node(&data, relay).await?;
    let broker = node.kafka_address().to_string();
    let registry = contract(&node).await?;
    let endless = demo.orders.is_none() && demo.duration.is_none();
    output::note(&introduction(
        &broker,
        &node.http_address().to_string(),
        &registry,
        &data,
        endless,
    ))?;

    let (close, stop) = watch::channel(false);
    let interrupted = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            close.send_replace(true);
        } else {
            std::future::pending::<()>().await;
        }
        // Held so that the shop does not take a dropped sender for a stop.
        close.closed().await;
    });
    let options = shop::Options {
        broker,
        database: database.clone(),
        orders: demo.orders,
        duration: demo.duration,
        per_second: demo.rate,
        seed: demo.seed,
        python,
        registry: Some(registry),
    };
    let mut screen = Screen::default();
    let summary = shop::run(options, stop, |snapshot| screen.show(snapshot)).await;
    interrupted.abort();
    let stopped = node.shutdown().await;
    let closed = database.close(demo.keep.is_some()).await;
    let summary = summary?;
    stopped?;
    closed?;
    output::text(&format!("\n{}", shop::view::summary(&summary)))?;
    if demo.keep.is_some() {
        output::note(&format!("the data is kept in {}", folder.display()))?;
    }
    Ok(if summary.adds_up() {
        Outcome::Done
    } else {
        Outcome::Negative
    })
}

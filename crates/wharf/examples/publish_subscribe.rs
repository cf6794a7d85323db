//! Publish/subscribe and competing consumers: two groups get every message; the two members of one
//! group share them.
//!
//! `cargo run -p wharf --example publish_subscribe`; `WHARF_BUS=kafka://localhost:9092` (with the
//! feature `kafka`) runs it on a broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use wharf::{Bus, Event, Msg, Router, State, group};

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "shop.order.placed", topic = "shop.orders", key = "order")]
struct OrderPlaced {
    order: String,
}

/// How many each member got.
#[derive(Clone, Default)]
struct Counts {
    billing: Arc<AtomicUsize>,
    packing: [Arc<AtomicUsize>; 2],
}

async fn bill(State(counts): State<Counts>, Msg(_): Msg<OrderPlaced>) {
    counts.billing.fetch_add(1, Ordering::Relaxed);
}

/// A member of the group `packing`, which counts for itself.
fn packer(counts: &Arc<AtomicUsize>) -> Router {
    let pack = |State(count): State<Arc<AtomicUsize>>, Msg(_): Msg<OrderPlaced>| async move {
        count.fetch_add(1, Ordering::Relaxed);
    };
    Router::new()
        .topic("shop.orders", group("packing").on(pack))
        .with_state(Arc::clone(counts))
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("WHARF_BUS").unwrap_or_else(|_| "memory:".to_owned());
    let bus = Bus::connect(&address, "shop").await?;
    let counts = Counts::default();
    let billing = Router::new()
        .topic("shop.orders", group("billing").on(bill))
        .with_state(counts.clone());

    let mut ready = Vec::new();
    for router in [
        billing,
        packer(&counts.packing[0]),
        packer(&counts.packing[1]),
    ] {
        let (tell, told) = oneshot::channel();
        ready.push(told);
        tokio::spawn(bus.serve(router).tell_when_ready(tell).into_future());
    }
    for ready in ready {
        ready.await?;
    }
    for number in 0..100 {
        // Fire and forget is this without waiting for the handlers; it is on disk all the same.
        bus.publish(&OrderPlaced {
            order: format!("o-{number}"),
        })
        .await?;
    }
    let done = || {
        let packed: usize = counts
            .packing
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum();
        counts.billing.load(Ordering::Relaxed) >= 100 && packed >= 100
    };
    let all = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await?;
    let packed = counts
        .packing
        .each_ref()
        .map(|count| count.load(Ordering::Relaxed));
    tracing::info!(
        billing = counts.billing.load(Ordering::Relaxed),
        ?packed,
        "all were handled"
    );
    assert_eq!(
        packed.iter().sum::<usize>(),
        100,
        "members of a group share the messages"
    );
    Ok(())
}

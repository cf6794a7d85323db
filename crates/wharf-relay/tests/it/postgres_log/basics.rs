//! What every day brings: commits, rollbacks, savepoints, large transactions, several writers.

use wharf_relay::target::memory::MemoryTarget;

use super::support::{Bed, Running, arrive, numbers, rows};

#[tokio::test(flavor = "multi_thread")]
async fn rows_arrive_in_the_order_of_their_commits_with_the_backlog_before_them() {
    let (bed, target) = (Bed::new().await, MemoryTarget::default());
    bed.insert(&["1", "2"]).await;
    bed.insert(&["3"]).await;
    let relay = Running::start(bed.source(), &target);
    arrive(&target, &numbers(1, 3)).await;
    relay.running().await;
    bed.insert(&["4"]).await;
    bed.run(rows(5, 20)).await;
    arrive(&target, &numbers(1, 20)).await;
    relay.stop().await;
    bed.insert(&["21"]).await;
    let relay = Running::start(bed.source(), &target);
    bed.insert(&["22"]).await;
    arrive(&target, &numbers(1, 22)).await;
    relay.stop().await;
}

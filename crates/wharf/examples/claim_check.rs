//! A large payload goes to a folder and a reference to it through a broker; the consumer reads it from
//! there, verified; a sweep removes what nothing refers to.
//!
//! `cargo run -p wharf --features claim-check --example claim_check`

use std::error::Error;
use std::io::Write as _;

use futures_util::stream::{self, StreamExt};
use tokio::io::AsyncReadExt;
use wharf::claim::{Claims, ObjectBlobs, SweepSettings, TopicReferences, sweep};
use wharf::{Clock, GroupName, Message, Timestamp, TopicName, header};
use wharf_message::transport::memory::MemoryTransport;
use wharf_message::transport::{Publish, Subscribe, Subscription, Transport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    let folder = tempfile::tempdir()?;
    let claims = Claims::new("payloads", ObjectBlobs::folder(folder.path())?)?;
    let broker = MemoryTransport::new(Timestamp::ZERO);
    let (scans, archive) = (TopicName::new("scans")?, GroupName::new("archive")?);

    // The publisher: 20 MiB, a MiB at a time.
    let chunks = stream::repeat(vec![7; 1 << 20]).take(20);
    let chunks = chunks.map(|chunk| Ok(chunk.into())).boxed();
    let scan = Message::default().with_key("order-1");
    let scan = claims.check_in_stream(scan, chunks).await?;
    let reference = scan.headers.text(header::CE_DATAREF)?.unwrap_or_default();
    writeln!(out, "published {} bytes: {reference}", scan.size())?;
    broker.publish(&scans, scan).await?;

    // The consumer.
    let subscription = Subscription::group(archive, vec![scans.clone()]);
    let mut deliveries = broker.subscribe(subscription).await?;
    for delivery in deliveries.next(1).await? {
        let blob = claims.open(&delivery.message).await?;
        let (size, mut reader) = (blob.size(), blob.into_reader());
        let (mut piece, mut read) = (vec![0; 64 << 10], 0);
        loop {
            let bytes = reader.read(&mut piece).await?;
            if bytes == 0 {
                break;
            }
            read += bytes;
        }
        writeln!(
            out,
            "read {read} of {size} bytes, and their SHA-256 is right"
        )?;
        delivery.accept();
    }
    deliveries.close().await?;

    // The operator, in a month: the message is still in its topic, so the payload stays.
    claims.check_in(Message::new("nobody's"), 0).await?;
    let references = TopicReferences::all(broker.history()?).expecting([scans]);
    let now = Clock::wall().now();
    let in_a_month = Timestamp::from_millis(now.as_millis() + 30 * 86_400_000);
    let report = sweep(
        &claims,
        &[&references],
        in_a_month,
        SweepSettings::default(),
    )
    .await?;
    writeln!(
        out,
        "swept: {} live, {} deleted",
        report.live,
        report.deleted.len()
    )?;
    Ok(())
}

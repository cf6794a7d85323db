//! Spans and trace contexts, as an OpenTelemetry collector would see them.

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use wharf::testing::TestBus;
use wharf::{Msg, Publish, Router, group, header};

use crate::support::{OrderPlaced, StockReserved, order, serve, text};

async fn reserve(Msg(placed): Msg<OrderPlaced>) -> Result<Publish<StockReserved>, wharf::Error> {
    if placed.order == "bad" {
        return Err(wharf::Error::dead_letter("no such article"));
    }
    Ok(Publish(StockReserved {
        order: placed.order,
    }))
}

fn named<'a>(spans: &'a [SpanData], name: &str) -> Vec<&'a SpanData> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// The one test that installs a global provider: there is one for the whole process.
#[tokio::test(start_paused = true)]
async fn a_message_and_what_comes_of_it_are_one_trace() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    opentelemetry::global::set_tracer_provider(provider.clone());
    let router = Router::new().topic("orders", group("inventory").on(reserve));
    let bus = TestBus::builder().telemetry().service("inventory");
    let bus = bus.start(router).await;
    for name in ["o-1", "bad"] {
        bus.bus().publish(&order(name, 1)).await.unwrap();
    }
    bus.settle().await;
    provider.force_flush().unwrap();
    let spans = exporter.get_finished_spans().unwrap();

    let published = named(&spans, "publish orders");
    let processed = named(&spans, "process orders");
    let created = named(&spans, "create stock");
    assert_eq!((published.len(), processed.len(), created.len()), (2, 2, 1));
    let (first, process, create) = (published[0], processed[0], created[0]);
    assert_eq!(first.span_kind, SpanKind::Producer);
    assert_eq!(process.span_kind, SpanKind::Consumer);
    assert_eq!(process.parent_span_id, first.span_context.span_id());
    assert_eq!(create.parent_span_id, process.span_context.span_id());
    assert_eq!(
        create.span_context.trace_id(),
        first.span_context.trace_id()
    );
    let reserved = &bus.messages("stock")[0];
    let parent = text(reserved, header::TRACEPARENT);
    assert!(
        parent.contains(&create.span_context.span_id().to_string()),
        "{parent}"
    );
    assert!(matches!(processed[1].status, Status::Error { .. }));
    let attributes: Vec<String> = process
        .attributes
        .iter()
        .map(|one| format!("{}={}", one.key, one.value))
        .collect();
    for expected in [
        "messaging.system=memory",
        "messaging.operation.name=process",
        "messaging.operation.type=process",
        "messaging.destination.name=orders",
        "messaging.consumer.group.name=inventory",
        "messaging.destination.partition.id=0",
    ] {
        assert!(
            attributes.iter().any(|one| one == expected),
            "{expected} is not among {attributes:?}"
        );
    }
    let received = named(&spans, "receive orders");
    assert!(
        received
            .iter()
            .any(|span| span.links.iter().any(|link| link.span_context == {
                let mut remote = first.span_context.clone();
                remote = opentelemetry::trace::SpanContext::new(
                    remote.trace_id(),
                    remote.span_id(),
                    remote.trace_flags(),
                    true,
                    remote.trace_state().clone(),
                );
                remote
            }))
    );
    let ends = bus.bus().ends();
    assert_eq!((ends.accepted, ends.dead_lettered), (1, 1));
    bus.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_telemetry_a_trace_context_is_passed_on() {
    let bus = serve(Router::new().topic("orders", group("inventory").on(reserve))).await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let message = wharf::Message::new(r#"{"order":"o","quantity":1}"#)
        .with_header(header::CE_TYPE, "shop.order.placed")
        .with_header(header::TRACEPARENT, parent);
    bus.publish_raw("orders", message).await;
    bus.settle().await;
    assert_eq!(text(&bus.messages("stock")[0], header::TRACEPARENT), parent);
    bus.stop().await.unwrap();
}

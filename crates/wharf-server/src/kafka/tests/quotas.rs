//! Clients beyond their quotas: answered, then not read.

use super::*;

#[tokio::test]
async fn a_client_beyond_its_quota_is_answered_and_then_not_read() {
    let server = Setup::default().start().await;
    for command in ["e", "q"] {
        let mut client = server.connect().await;
        client.send(format!("{command}~").as_bytes()).await;
        client.send(b"e2").await;
        server.gate.send_replace(true);
        assert_eq!(client.answer().await, format!("{command}~ told").as_bytes());
        settle().await;
        assert_eq!(server.seen(), command, "the next request waits");
        server.connect().await.works().await;
        server.seen.lock().unwrap().clear();
    }
    let mut gone = server.connect().await;
    gone.send(b"s~").await;
    server.until_seen("s").await;
    drop(gone);
    until(|| server.metric("kafka_open_connections").ends_with(" 2")).await;
    assert!(
        server
            .metric("kafka_throttled_requests_total")
            .ends_with(" 3")
    );
    assert!(
        server
            .metric("kafka_throttle_seconds_total")
            .ends_with(" 10800.0")
    );
    server.stopped().await;
}

#[tokio::test]
async fn after_the_wait_a_client_is_read_again() {
    let server = Setup::default().start().await;
    server.gate.send_replace(true);
    let mut client = server.connect().await;
    for command in ["e,", "s,", "q,"] {
        client.send(command.as_bytes()).await;
    }
    assert_eq!(client.answer().await, b"e, told");
    assert_eq!(client.answer().await, b"q, told");
    client.works().await;
}

#[tokio::test]
async fn a_client_that_waits_for_its_quota_does_not_hold_up_the_stop() {
    let server = Setup::default().start().await;
    let mut client = server.connect().await;
    client.send(b"e~").await;
    assert_eq!(client.answer().await, b"e~ told");
    server.stop.send_replace(true);
    client.end().await;
    server.stopped().await;
}

#[tokio::test]
async fn a_connection_that_is_turned_away_is_closed_after_its_wait() {
    let setup = Setup {
        turned_away: MOMENT,
        ..Setup::default()
    };
    let server = setup.start().await;
    let mut client = server.connect().await;
    client.end().await;
    until(|| {
        server
            .metric("kafka_turned_away_connections_total")
            .ends_with(" 1")
    })
    .await;
    assert_eq!(server.seen(), "");
}

//! Policies where they are used: around a client of a real HTTP server, and around a route.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use hyper::body::Incoming as Body;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use wharf::policy::{
    Breaker, BreakerSettings, Bulkhead, RateLimit, Refused, State as BreakerState, Timeout,
    Verdict, WhenFull, Window, refused,
};
use wharf::{GroupName, Msg, Router, State, group};

use crate::support::{OrderPlaced, order, serve, topic};

/// An HTTP server that answers with this status; 0 means that it does not answer.
struct Server {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    calls: Arc<AtomicU32>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            status: Arc::new(AtomicU16::new(200)),
            calls: Arc::default(),
        };
        let (status, calls) = (Arc::clone(&server.status), Arc::clone(&server.calls));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (status, calls) = (Arc::clone(&status), Arc::clone(&calls));
                let answer = hyper::service::service_fn(move |_: Request<Body>| {
                    calls.fetch_add(1, Ordering::SeqCst);
                    let status = status.load(Ordering::SeqCst);
                    async move {
                        if status == 0 {
                            std::future::pending::<()>().await;
                        }
                        let mut response = Response::new(String::new());
                        *response.status_mut() = StatusCode::from_u16(status).unwrap();
                        Ok::<_, Infallible>(response)
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), answer));
            }
        });
        server
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    fn request(&self) -> Request<String> {
        let uri = format!("http://{}/", self.address);
        Request::get(uri).body(String::new()).unwrap()
    }
}

fn client() -> Client<HttpConnector, String> {
    Client::builder(TokioExecutor::new()).build_http()
}

fn settings() -> BreakerSettings {
    BreakerSettings {
        window: Window::Calls(4),
        open_wait: Duration::from_secs(3_600),
        open_wait_max: Duration::from_secs(3_600),
        half_open_calls: 1,
        slow_call: Duration::from_secs(30),
        ..BreakerSettings::default()
    }
}

fn by_status<E>(ended: Result<&Response<Body>, &E>) -> Verdict {
    match ended {
        Ok(response) if !response.status().is_server_error() => Verdict::Success,
        _ => Verdict::Failure,
    }
}

async fn get<S>(service: &mut S, server: &Server) -> Result<u16, BoxError>
where
    S: Service<Request<String>, Response = Response<Body>, Error = BoxError>,
{
    let response = service.ready().await?.call(server.request()).await?;
    Ok(response.status().as_u16())
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_until_the_breaker_closes() {
    let server = Server::start().await;
    let breaker = Breaker::new("payments", settings()).unwrap();
    let mut client = ServiceBuilder::new()
        .layer(breaker.layer().classify(by_status))
        .service(client());
    assert_eq!(get(&mut client, &server).await.unwrap(), 200);
    server.status.store(404, Ordering::SeqCst);
    assert_eq!(get(&mut client, &server).await.unwrap(), 404);
    server.status.store(503, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(get(&mut client, &server).await.unwrap(), 503);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
    for _ in 0..10 {
        let error = get(&mut client, &server).await.unwrap_err();
        assert!(
            matches!(refused(&*error), Some(Refused::Open { .. })),
            "{error}"
        );
    }
    assert_eq!(server.calls(), 4);

    server.status.store(200, Ordering::SeqCst);
    breaker.close();
    assert_eq!(get(&mut client, &server).await.unwrap(), 200);
}

#[tokio::test]
async fn a_server_that_does_not_answer_opens_the_breaker_by_way_of_the_timeout() {
    let server = Server::start().await;
    server.status.store(0, Ordering::SeqCst);
    let breaker = Breaker::new("payments", settings()).unwrap();
    let mut client = ServiceBuilder::new()
        .layer(RateLimit::new("payments", 1_000, Duration::from_secs(1)).unwrap())
        .layer(Bulkhead::new("payments", 8).unwrap())
        .layer(breaker.layer().classify(by_status))
        .layer(Timeout::new("payments", Duration::from_millis(20)).unwrap())
        .service(client());
    for _ in 0..4 {
        let error = get(&mut client, &server).await.unwrap_err();
        assert!(
            matches!(refused(&*error), Some(Refused::TimedOut { .. })),
            "{error}"
        );
    }
    let error = get(&mut client, &server).await.unwrap_err();
    assert!(
        matches!(refused(&*error), Some(Refused::Open { .. })),
        "{error}"
    );
    assert_eq!(server.calls(), 4);
}

#[tokio::test]
async fn a_server_that_is_gone_opens_the_breaker() {
    let gone = TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let server = Server {
        address: gone,
        status: Arc::default(),
        calls: Arc::default(),
    };
    let breaker = Breaker::new("payments", settings()).unwrap();
    let mut client = tower::Layer::layer(&breaker.layer(), client());
    for _ in 0..4 {
        let error = get(&mut client, &server).await.unwrap_err();
        assert!(refused(&*error).is_none(), "{error}");
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_lets_so_many_in_and_the_others_wait_or_fail() {
    let slow = || {
        tower::service_fn(async |(): ()| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, std::io::Error>(())
        })
    };
    let begin = tokio::time::Instant::now();
    let waits = Bulkhead::new("reports", 2).unwrap();
    let calls = (0..6).map(|_| tower::Layer::layer(&waits, slow()).oneshot(()));
    let ended = futures_util::future::join_all(calls).await;
    assert!(ended.iter().all(Result::is_ok));
    assert_eq!(begin.elapsed(), Duration::from_secs(3));
    assert_eq!(waits.calls(), 0);

    for (when_full, expected) in [
        (WhenFull::Refuse, 2),
        (WhenFull::WaitAtMost(Duration::from_millis(1_500)), 4),
    ] {
        let refuses = Bulkhead::new("reports", 2)
            .unwrap()
            .when_full(when_full)
            .unwrap();
        let calls = (0..6).map(|_| tower::Layer::layer(&refuses, slow()).oneshot(()));
        let ended = futures_util::future::join_all(calls).await;
        assert_eq!(ended.iter().filter(|ended| ended.is_ok()).count(), expected);
        let errors = ended.iter().filter_map(|ended| ended.as_ref().err());
        for error in errors {
            assert!(matches!(
                refused(&**error),
                Some(Refused::Full { calls_max: 2, .. })
            ));
        }
    }
    assert!(Bulkhead::new("reports", 0).is_err());
    assert!(
        Bulkhead::new("reports", 1)
            .unwrap()
            .when_full(WhenFull::WaitAtMost(Duration::ZERO))
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_spreads_calls_and_refuses_what_is_too_many() {
    let quick = || tower::service_fn(async |(): ()| Ok::<_, std::io::Error>(()));
    let limit = RateLimit::new("geocoder", 10, Duration::from_secs(1)).unwrap();
    let mut waiting = tower::Layer::layer(&limit, quick());
    let begin = tokio::time::Instant::now();
    for _ in 0..40 {
        waiting.ready().await.unwrap().call(()).await.unwrap();
    }
    let took = begin.elapsed();
    assert!(
        (Duration::from_secs(2)..=Duration::from_secs(4)).contains(&took),
        "{took:?}"
    );

    let limit = RateLimit::new("geocoder", 3, Duration::from_secs(60)).unwrap();
    let limit = limit.burst(2).unwrap().when_full(WhenFull::Refuse).unwrap();
    let refusing = tower::Layer::layer(&limit, quick());
    for _ in 0..5 {
        refusing.clone().oneshot(()).await.unwrap();
    }
    let error = refusing.clone().oneshot(()).await.unwrap_err();
    assert!(
        matches!(refused(&*error), Some(Refused::TooMany { calls: 3, .. })),
        "{error}"
    );
    assert!(RateLimit::new("geocoder", 0, Duration::from_secs(1)).is_err());
    assert!(RateLimit::new("geocoder", 1, Duration::ZERO).is_err());
    assert!(Timeout::new("geocoder", Duration::ZERO).is_err());
}

/// What the handler calls, and how often it was called.
#[derive(Clone, Default)]
struct Downstream {
    works: Arc<std::sync::atomic::AtomicBool>,
    calls: Arc<AtomicU32>,
}

async fn charge(
    State(downstream): State<Downstream>,
    Msg(_): Msg<OrderPlaced>,
) -> Result<(), wharf::Error> {
    downstream.calls.fetch_add(1, Ordering::SeqCst);
    if downstream.works.load(Ordering::SeqCst) {
        return Ok(());
    }
    Err(wharf::Error::retry("the payment service is down"))
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_pauses_consumption_and_burns_no_attempts() {
    let downstream = Downstream::default();
    let breaker = Breaker::new(
        "payments",
        BreakerSettings {
            open_wait: Duration::from_secs(60),
            ..settings()
        },
    );
    let breaker = breaker.unwrap();
    let billing = group("billing")
        .on(charge)
        .in_flight_max(NonZeroUsize::new(10).unwrap())
        .breaker(&breaker);
    let router = Router::new()
        .topic("orders", billing)
        .with_state(downstream.clone());
    let bus = serve(router).await;
    for number in 0..200 {
        bus.publish(order(&format!("o-{number}"), 1)).await;
    }
    // Ten times as long as all attempts of a message would take without the breaker.
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    let calls = downstream.calls.load(Ordering::SeqCst);
    let (group, orders) = (GroupName::new("billing").unwrap(), topic("orders"));
    assert_eq!(
        bus.transport().lag(&group, &orders),
        Some(200),
        "nothing was lost or settled"
    );
    assert!(
        calls < 40,
        "{calls} calls: those until it opened, and trial calls"
    );
    assert!(bus.messages("dlq.orders.billing").is_empty());

    downstream.works.store(true, Ordering::SeqCst);
    breaker.wait_until_calls_are_permitted().await;
    bus.settle().await;
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(bus.transport().lag(&group, &orders), Some(0));
    assert!(bus.messages("dlq.orders.billing").is_empty());
    bus.stop().await.unwrap();
}

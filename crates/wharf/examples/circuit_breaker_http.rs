//! A client of an HTTP server behind all four policies; the server breaks, the breaker opens, and when the
//! server works again the trial calls close it.
//!
//! `cargo run -p wharf --example circuit_breaker_http`

use std::convert::Infallible;
use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};
use wharf::policy::{
    BoxError, Breaker, BreakerSettings, Bulkhead, RateLimit, Timeout, Verdict, Window, refused,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let works = Arc::new(AtomicBool::new(true));
    let uri = serve(Arc::clone(&works)).await?;

    let settings = BreakerSettings {
        window: Window::Calls(4),
        open_wait: Duration::from_millis(200),
        open_wait_max: Duration::from_secs(10),
        half_open_calls: 2,
        ..BreakerSettings::default()
    };
    let breaker = Breaker::new("payments", settings)?;
    let judge = |ended: Result<&Response<Incoming>, &BoxError>| match ended {
        Ok(response) if !response.status().is_server_error() => Verdict::Success,
        _ => Verdict::Failure,
    };
    let mut client = ServiceBuilder::new()
        .layer(RateLimit::new("payments", 100, Duration::from_secs(1))?)
        .layer(Bulkhead::new("payments", 8)?)
        .layer(breaker.layer().classify(judge))
        .layer(Timeout::new("payments", Duration::from_secs(2))?)
        .service(Client::builder(TokioExecutor::new()).build_http::<String>());

    let mut out = std::io::stdout();
    for call in 1..=12 {
        works.store(!(3..=8).contains(&call), Ordering::SeqCst);
        if call == 9 {
            // A consumer would pause here: it takes no messages while the breaker is open.
            breaker.wait_until_calls_are_permitted().await;
        }
        let request = Request::get(&uri).body(String::new())?;
        let ended = match client.ready().await?.call(request).await {
            Ok(response) => response.status().to_string(),
            Err(error) if refused(&*error).is_some() => "not called".to_owned(),
            Err(error) => error.to_string(),
        };
        writeln!(out, "call {call:2}: {ended:25} breaker {}", breaker.state())?;
    }
    Ok(())
}

/// Starts a server that answers 200 or 503; its address.
async fn serve(works: Arc<AtomicBool>) -> std::io::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let uri = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let works = Arc::clone(&works);
            let answer = hyper::service::service_fn(move |_: Request<Incoming>| {
                let mut response = Response::new(String::new());
                if !works.load(Ordering::SeqCst) {
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok(uri)
}

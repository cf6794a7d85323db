//! A router as a consumer under test: served over a transport that is the harness itself.
//!
//! So everything between a delivery and its settlement is under test: layers, retries, dead letters,
//! the envelope, publishing what a handler returns. A crash is stopping it where it waits, whether
//! that is in a handler or while it publishes, and then dropping all of it.

mod stop;
mod transport;

use std::future::IntoFuture as _;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wharf_message::TopicName;

use self::stop::Stop;
use self::transport::Bench;
use super::check::Check;
use super::handlers::{Handler, Recorder};
use super::subject::Given;
use crate::{Bus, Router};

/// Begins the test of a router: `make` makes it, as a service does when it starts. The messages go
/// to `topic`, and what the router publishes is among its effects, dead letters too.
///
/// ```
/// use std::collections::BTreeSet;
/// use std::sync::{Arc, Mutex};
/// use wharf::testing::duplicates::{self, Effects};
/// use wharf::{Message, Raw, Router, State, group};
///
/// type Seen = Arc<Mutex<BTreeSet<Vec<u8>>>>;
///
/// async fn remember(State(seen): State<Seen>, Raw(message): Raw) {
///     let payload = message.payload.unwrap_or_default();
///     seen.lock().expect("nobody panics holding it").insert(payload.to_vec());
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let seen = Seen::default();
/// let router = || Router::new().topic("greetings", group("g").on(remember)).with_state(seen.clone());
/// duplicates::check_router("greetings", "greetings", router)
///     .messages([Message::new("hello"), Message::new("good day")])
///     .reset(async || seen.lock().expect("nobody panics holding it").clear())
///     .effects(async || {
///         let seen = seen.lock().expect("nobody panics holding it");
///         Effects::new().rows("seen", seen.iter().cloned())
///     })
///     .run()
///     .await;
/// # }
/// ```
///
/// # Panics
/// When `topic` is no name of a topic.
pub fn check_router<'a>(
    name: impl Into<String>,
    topic: &str,
    mut make: impl FnMut() -> Router + 'a,
) -> Check<'a> {
    let name = name.into();
    let topic = TopicName::new(topic).unwrap_or_else(|error| panic!("{error}"));
    let published = Recorder::new();
    let (service, recorder) = (name.clone(), published.clone());
    let start = move || serve(&service, &topic, make(), recorder.clone());
    Check::of(name, Box::new(start)).recorder(&published)
}

/// A served router, which dies with it.
struct Instance {
    topic: TopicName,
    transport: Arc<Bench>,
    stop: Stop,
    ready: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
    serving: JoinHandle<()>,
    /// Why it is not served any more.
    ended: Arc<Mutex<Option<String>>>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn serve<'a>(service: &str, topic: &TopicName, router: Router, recorder: Recorder) -> Handler<'a> {
    let stop = Stop::default();
    let transport = Arc::new(Bench::new(stop.clone(), recorder));
    let bus = Bus::new(Arc::clone(&transport) as _, service);
    let (tell, ready) = oneshot::channel();
    let layer = stop.clone();
    let router = router.map_routes(|route| route.layer(layer.clone()));
    let serving = bus.serve(router).tell_when_ready(tell).into_future();
    let ended = Arc::new(Mutex::new(None));
    let told = Arc::clone(&ended);
    let serving = tokio::spawn(async move {
        let why = match serving.await {
            Ok(()) => "it stopped".to_owned(),
            Err(error) => error.to_string(),
        };
        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    });
    let instance = Arc::new(Instance {
        topic: topic.clone(),
        transport,
        stop,
        ready: tokio::sync::Mutex::new(Some(ready)),
        serving,
        ended,
    });
    Box::new(move |given, killed_at| {
        let instance = Arc::clone(&instance);
        async move { instance.handle(given, killed_at).await }.boxed_local()
    })
}

impl Instance {
    async fn handle(&self, given: Given, killed_at: Option<u32>) -> Result<(), String> {
        let ready = self.ready.lock().await.take();
        if let Some(ready) = ready {
            // That it is not served is told below.
            ready.await.ok();
        }
        if let Some(why) = &*self.ended.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(format!("the router is not served: {why}"));
        }
        if let Some(waits) = killed_at {
            self.stop.arm(waits);
        }
        let handled = self.transport.deliver(&self.topic, &given);
        tokio::select! {
            biased;
            () = self.stop.reached() => Err("killed".to_owned()),
            ended = handled => ended,
        }
    }
}

#[cfg(test)]
mod tests;

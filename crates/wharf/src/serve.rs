//! Serving a router: every route runs until the service stops or one fails.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use wharf_message::transport::{Capability, Error};

use crate::bus::Bus;
use crate::router::{BoundRoute, InvalidRoute, Router};
use crate::run;

/// Why a router cannot be served, or not any longer.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use wharf::{Bus, Raw, Router, group};
///
/// let bus = Bus::connect("memory:", "shop").await?;
/// let router = Router::new().topic("shop orders", group("accounts").on(async |_: Raw| ()));
/// let error = bus.serve(router).await.unwrap_err();
/// assert!(error.to_string().contains("' '"), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A route makes no sense.
    #[error(transparent)]
    Route(#[from] InvalidRoute),
    /// The transport lacks what a route needs.
    #[error("the group {group} needs {names} of the transport, which {transport} has not; see docs/transports.md", names = names(.missing))]
    Capabilities {
        /// The group of the route.
        group: String,
        /// The transport.
        transport: &'static str,
        /// What it lacks.
        missing: Vec<Capability>,
    },
    /// The transport refused a subscription, or was closed.
    #[error("the group {group} cannot go on: {error}")]
    Transport {
        /// The group.
        group: String,
        /// Why.
        error: Error,
    },
    /// The code cannot read what is retained in a topic, or that could not be found out, and the
    /// registry's settings say to refuse.
    #[cfg(feature = "schema")]
    #[error(
        "the service does not start, since {why} ({})",
        wharf_message::Code::SCHEMA_RETAINED
    )]
    Retained {
        /// What it cannot read, where, and why.
        why: String,
    },
    /// A task of the library panicked, which is a bug in it.
    #[error("a task of the library panicked: {0}")]
    Bug(String),
}

fn names(missing: &[Capability]) -> String {
    let names: Vec<&str> = missing.iter().map(|capability| capability.name()).collect();
    names.join(", ")
}

/// A router that is served when this is awaited.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use std::future::IntoFuture;
/// use tokio::sync::oneshot;
/// use wharf::{Bus, Raw, Router, group};
///
/// let bus = Bus::connect("memory:", "shop").await?;
/// let (stop, stopped) = oneshot::channel::<()>();
/// let (ready, is_ready) = oneshot::channel();
/// let serve = bus
///     .serve(Router::new().topic("shop.orders", group("accounts").on(async |_: Raw| ())))
///     .with_graceful_shutdown(async move { drop(stopped.await) })
///     .tell_when_ready(ready);
/// let serving = tokio::spawn(serve.into_future());
/// is_ready.await?;
/// drop(stop);
/// serving.await??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Serve {
    bus: Bus,
    router: Router,
    shutdown: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    ready: Option<oneshot::Sender<()>>,
}

impl Serve {
    pub(crate) fn new(bus: Bus, router: Router) -> Self {
        Self {
            bus,
            router,
            shutdown: None,
            ready: None,
        }
    }

    /// Stops when `signal` completes: no further messages are taken, handlers that run may finish,
    /// and what they have done is committed.
    #[must_use]
    pub fn with_graceful_shutdown(
        mut self,
        signal: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.shutdown = Some(Box::pin(signal));
        self
    }

    /// Tells when every route is subscribed: messages published after that are received.
    #[must_use]
    pub fn tell_when_ready(mut self, ready: oneshot::Sender<()>) -> Self {
        self.ready = Some(ready);
        self
    }

    async fn run(self) -> Result<(), ServeError> {
        let routes = self.router.into_routes()?;
        check(&self.bus, &routes)?;
        #[cfg(feature = "schema")]
        crate::schema::check_routes(&self.bus, &routes).await?;
        let (stop, stopping) = watch::channel(false);
        let count = routes.len();
        let (subscribed, mut subscriptions) = watch::channel(0);
        let subscribed = Arc::new(subscribed);
        let mut running = JoinSet::new();
        for route in routes {
            let (bus, stopping) = (Arc::clone(self.bus.shared()), stopping.clone());
            let subscribed = Arc::clone(&subscribed);
            let group = route.group.to_string();
            running.spawn(async move {
                let tell = move || subscribed.send_modify(|count| *count += 1);
                let ended = run::run(route, bus, stopping, tell).await;
                ended.map_err(|error| ServeError::Transport { group, error })
            });
        }
        drop(subscribed);
        let mut shutdown = self
            .shutdown
            .unwrap_or_else(|| Box::pin(std::future::pending()));
        let mut ready = self.ready;
        let mut first = None;
        loop {
            tokio::select! {
                () = &mut shutdown, if !*stop.borrow() => {
                    stop.send_replace(true);
                }
                all = subscriptions.wait_for(|subscribed| *subscribed == count), if ready.is_some() => {
                    let told = ready.take().filter(|_| all.is_ok());
                    if let Some(told) = told {
                        // Nobody may be waiting any more.
                        let _nobody_waits = told.send(());
                    }
                }
                ended = running.join_next() => {
                    let ended = match ended {
                        None => return first.map_or(Ok(()), Err),
                        Some(ended) => ended.unwrap_or_else(|panic| Err(ServeError::Bug(panic.to_string()))),
                    };
                    if let Err(error) = ended {
                        tracing::error!(%error, "a route has ended; the others are stopped");
                        first.get_or_insert(error);
                    }
                    stop.send_replace(true);
                }
            }
        }
    }
}

/// Whether the transport can do what the routes need.
fn check(bus: &Bus, routes: &[BoundRoute]) -> Result<(), ServeError> {
    let has = bus.transport().capabilities();
    for route in routes {
        let missing = has.missing(route.settings.needs);
        if !missing.is_empty() {
            return Err(ServeError::Capabilities {
                group: route.group.to_string(),
                transport: bus.transport().name(),
                missing,
            });
        }
    }
    Ok(())
}

impl IntoFuture for Serve {
    type Output = Result<(), ServeError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Serve")
            .field("router", &self.router)
            .finish_non_exhaustive()
    }
}

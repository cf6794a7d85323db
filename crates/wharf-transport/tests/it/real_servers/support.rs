//! A real server behind a proxy, as the conformance suite and the tests of the transports use it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{BoxFuture, FutureExt as _};
use harness::Proxy;
use harness::servers::{Place, Plan, Protocol, Running, Site};
use wharf_message::Timestamp;
use wharf_message::transport::conformance::{Fixture, run, run_those};
use wharf_message::transport::{Error, Transport};

pub use crate::report::keep;

/// Which server, and how it is started.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The name of the report.
    pub name: &'static str,
    /// The heading of the table's column.
    pub title: &'static str,
    pub protocol: Protocol,
    pub plan: fn(&Site<'_>) -> anyhow::Result<Plan>,
    /// Connects to a server at `host:port`.
    pub connect: fn(String) -> BoxFuture<'static, Arc<dyn Transport>>,
    /// The largest message.
    pub bytes_max: Option<usize>,
    /// Why what the broker does after a crash cannot be relied on, if so.
    pub no_restart: Option<&'static str>,
}

/// A running server of that kind.
pub struct Server {
    kind: Kind,
    program: String,
    proxy: Proxy,
    // The process ends before its folder goes.
    state: Arc<Mutex<(Option<Running>, Place)>>,
    _folder: tempfile::TempDir,
}

impl Server {
    pub fn start(kind: Kind, program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = program.display().to_string();
        let mut place = Place::new(kind.protocol, folder.path().join(kind.name)).unwrap();
        let proxy = Proxy::start(&place.upstream()).unwrap();
        place.behind(proxy.address());
        let running = place.start(&program, kind.plan).unwrap();
        Self {
            kind,
            program,
            proxy,
            state: Arc::new(Mutex::new((Some(running), place))),
            _folder: folder,
        }
    }

    /// Where clients connect.
    pub fn address(&self) -> String {
        self.proxy.address()
    }

    pub async fn client(&self) -> Arc<dyn Transport> {
        (self.kind.connect)(self.address()).await
    }
}

impl Fixture for Server {
    fn name(&self) -> &str {
        self.kind.name
    }

    fn title(&self) -> String {
        self.kind.title.to_owned()
    }

    fn connect(&self) -> BoxFuture<'_, Arc<dyn Transport>> {
        self.client().boxed()
    }

    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Timestamp::from_millis(since.unwrap().as_millis().try_into().unwrap())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }

    fn bytes_max(&self) -> Option<usize> {
        self.kind.bytes_max
    }

    /// A virtual machine that starts again on a busy machine with all the topics takes its time.
    fn patience(&self) -> Duration {
        Duration::from_secs(240)
    }

    fn restart_broker(&self) -> BoxFuture<'_, Result<(), &'static str>> {
        if let Some(why) = self.kind.no_restart {
            return std::future::ready(Err(why)).boxed();
        }
        let (state, program, plan) = (
            Arc::clone(&self.state),
            self.program.clone(),
            self.kind.plan,
        );
        let restart = move || {
            let mut state = state.lock().unwrap();
            state.0.take().unwrap().kill().unwrap();
            let running = state.1.start(&program, plan).unwrap();
            state.0 = Some(running);
        };
        async move {
            tokio::task::spawn_blocking(restart).await.unwrap();
            Ok(())
        }
        .boxed()
    }

    fn cut_network(&self) -> BoxFuture<'_, Result<(), &'static str>> {
        self.proxy.cut();
        std::future::ready(Ok(())).boxed()
    }

    fn heal_network(&self) -> BoxFuture<'_, Result<(), &'static str>> {
        self.proxy.restore();
        std::future::ready(Ok(())).boxed()
    }
}

/// How long a server of the tests may take until a client can connect to it.
const CONNECTED_WITHIN: Duration = Duration::from_secs(60);

/// Connects, also while the server starts again or the machine is busy.
pub async fn connected<T, F>(connect: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    let deadline = Instant::now() + CONNECTED_WITHIN;
    loop {
        match connect().await {
            Err(Error::Unavailable(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            connected => return connected.unwrap_or_else(|error| panic!("{error}")),
        }
    }
}

/// The whole suite, or to look closer, only the cases whose names contain `WHARF_CASES`.
pub async fn suite(server: &Server) {
    match std::env::var("WHARF_CASES") {
        Err(_) => keep(&run(server).await),
        Ok(part) => run_those(server, |case| case.name.contains(&part))
            .await
            .assert_passed(),
    }
}

/// The program that `variable` names.
pub fn program(variable: &str) -> PathBuf {
    let program = std::env::var_os(variable).unwrap_or_else(|| {
        panic!("{variable} names no server; `cargo xtask test --only transports` installs them all")
    });
    program.into()
}

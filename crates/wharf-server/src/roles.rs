//! What the node does beside serving clients: its roles, each behind a feature of this crate.
//!
//! They start after the broker and end before it. No role keeps the node from serving: what goes
//! wrong in one is told in its own log lines, status and metrics.

use std::net::SocketAddr;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use wharf_broker::Broker;

use crate::Config;
use crate::problem::Problem;

/// The roles of a running node.
#[derive(Debug, Default)]
pub(crate) struct Roles {
    #[cfg(feature = "relay")]
    relays: Option<crate::relay::RelayTasks>,
    #[cfg(feature = "registry")]
    registry: Option<crate::registry::Running>,
}

impl Roles {
    /// Starts what is configured; what the roles measure goes to `metrics`, and their routes on the
    /// node's HTTP listener are returned. `registry` is the socket of the schema registry.
    #[cfg_attr(
        not(feature = "registry"),
        expect(clippy::unused_async, reason = "as with roles")
    )]
    #[cfg_attr(
        not(any(feature = "relay", feature = "registry")),
        expect(unused_variables, reason = "as with roles")
    )]
    pub(crate) async fn start(
        config: &Config,
        cluster: &str,
        broker: &Broker,
        registry: Option<TcpListener>,
        metrics: &mut Registry,
    ) -> Result<(Self, axum::Router), Problem> {
        #[cfg_attr(
            not(any(feature = "relay", feature = "registry")),
            expect(unused_mut, reason = "as with roles")
        )]
        let (mut roles, mut routes) = (Self::default(), axum::Router::new());
        // Before the relays: they may write to topics that ask for schemas.
        #[cfg(feature = "registry")]
        if let Some(socket) = registry {
            let ledger = std::sync::Arc::new(broker.ledger("registry"));
            let running =
                crate::registry::start(&config.registry, cluster, ledger, socket, metrics);
            let running = running.await?;
            running.check_records_of(broker, metrics);
            let catalogue = config.registry.catalogue.clone();
            let schemas = running.schemas().clone();
            let impact = crate::registry::impact::routes(schemas, broker.clone(), catalogue);
            routes = routes.merge(impact);
            roles.registry = Some(running);
        }
        #[cfg(feature = "relay")]
        {
            let (relays, tasks) = crate::relay::Relays::start(config, broker)?;
            let relays = std::sync::Arc::new(relays);
            let collector = crate::metrics::RelayCollector(std::sync::Arc::clone(&relays));
            metrics.register_collector(Box::new(collector));
            roles.relays = Some(tasks);
            routes = routes.merge(crate::relay::api::routes(relays));
        }
        Ok((roles, routes))
    }

    /// Where the schema registry listens, if there is one.
    #[cfg_attr(
        not(feature = "registry"),
        expect(clippy::unused_self, reason = "as with the registry")
    )]
    pub(crate) fn registry_address(&self) -> Option<SocketAddr> {
        #[cfg(feature = "registry")]
        return self
            .registry
            .as_ref()
            .map(crate::registry::Running::address);
        #[cfg(not(feature = "registry"))]
        None
    }

    /// The schema registry, if there is one.
    #[cfg(feature = "registry")]
    pub(crate) fn registry(&self) -> Option<&crate::registry::Schemas> {
        self.registry
            .as_ref()
            .map(crate::registry::Running::schemas)
    }

    /// Ends them, while the broker still serves.
    #[cfg_attr(
        not(any(feature = "relay", feature = "registry")),
        expect(clippy::unused_async, reason = "as with roles")
    )]
    pub(crate) async fn stop(self) {
        #[cfg(feature = "registry")]
        if let Some(registry) = self.registry {
            registry.stop().await;
        }
        #[cfg(feature = "relay")]
        if let Some(relays) = self.relays {
            relays.stop().await;
        }
    }
}

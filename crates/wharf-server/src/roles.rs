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
    #[cfg(feature = "choreography")]
    choreography: Option<crate::choreography::Running>,
    #[cfg(feature = "saga")]
    sagas: Option<crate::saga::Running>,
}

/// The sockets that roles have to do with.
#[derive(Debug, Default)]
pub(crate) struct RoleSockets {
    /// The socket of the schema registry.
    #[cfg_attr(not(feature = "registry"), expect(dead_code, reason = "as its role"))]
    pub(crate) registry: Option<TcpListener>,
    /// Where the node's HTTP listener listens.
    #[cfg_attr(not(feature = "saga"), expect(dead_code, reason = "as its role"))]
    pub(crate) http: Option<SocketAddr>,
}

impl Roles {
    /// Starts what is configured; what the roles measure goes to `metrics`, and their routes on the
    /// node's HTTP listener are returned. When one cannot be started, those that were are stopped.
    pub(crate) async fn start(
        config: &Config,
        cluster: &str,
        broker: &Broker,
        sockets: RoleSockets,
        metrics: &mut Registry,
    ) -> Result<(Self, axum::Router), Problem> {
        let mut roles = Self::default();
        let begun = roles.begin(config, cluster, broker, sockets, metrics).await;
        match begun {
            Ok(routes) => Ok((roles, routes)),
            Err(problem) => {
                roles.stop().await;
                Err(problem)
            }
        }
    }

    #[cfg_attr(
        not(any(feature = "registry", feature = "saga")),
        expect(clippy::unused_async, reason = "as with roles")
    )]
    #[cfg_attr(
        not(any(
            feature = "choreography",
            feature = "relay",
            feature = "registry",
            feature = "saga"
        )),
        expect(
            unused_variables,
            clippy::unused_self,
            clippy::needless_pass_by_ref_mut,
            reason = "as with roles"
        )
    )]
    async fn begin(
        &mut self,
        config: &Config,
        #[cfg_attr(
            not(feature = "registry"),
            expect(unused_variables, reason = "as its role")
        )]
        cluster: &str,
        broker: &Broker,
        #[cfg_attr(
            not(any(feature = "registry", feature = "saga")),
            expect(unused_variables, reason = "as its roles")
        )]
        sockets: RoleSockets,
        metrics: &mut Registry,
    ) -> Result<axum::Router, Problem> {
        #[cfg_attr(
            not(any(
                feature = "choreography",
                feature = "relay",
                feature = "registry",
                feature = "saga"
            )),
            expect(unused_mut, reason = "as with roles")
        )]
        let mut routes = axum::Router::new();
        // Before the relays: they may write to topics that ask for schemas.
        #[cfg(feature = "registry")]
        if let Some(socket) = sockets.registry {
            let ledger = std::sync::Arc::new(broker.ledger("registry"));
            let running =
                crate::registry::start(&config.registry, cluster, ledger, socket, metrics);
            let running = running.await?;
            running.check_records_of(broker, metrics);
            let catalogue = config.registry.catalogue.clone();
            let schemas = running.schemas().clone();
            let impact = crate::registry::impact::routes(schemas, broker.clone(), catalogue);
            routes = routes.merge(impact);
            self.registry = Some(running);
        }
        #[cfg(feature = "relay")]
        {
            let (relays, tasks) = crate::relay::Relays::start(config, broker)?;
            let relays = std::sync::Arc::new(relays);
            let collector = crate::metrics::RelayCollector(std::sync::Arc::clone(&relays));
            metrics.register_collector(Box::new(collector));
            self.relays = Some(tasks);
            routes = routes.merge(crate::relay::api::routes(relays));
        }
        #[cfg(feature = "saga")]
        if config.saga.enabled {
            let place = crate::saga::Place {
                config: &config.saga,
                partitions: config.topics.default_partitions,
                ledger: std::sync::Arc::new(broker.ledger("sagas")),
                make: make_topic(broker.clone()),
                http: sockets.http,
                claims: Some(config.node.data.join(crate::saga::claims::FOLDER)),
            };
            let running = crate::saga::start(place, metrics).await?;
            routes = routes.merge(crate::saga::routes(running.engine().clone()));
            let ledger = std::sync::Arc::new(broker.ledger("step-functions"));
            routes = routes.merge(running.step_functions(&config.saga, ledger));
            self.sagas = Some(running);
        }
        #[cfg(feature = "choreography")]
        if config.choreography.enabled {
            let (running, api) = crate::choreography::start(&config.choreography, broker, metrics)?;
            self.choreography = Some(running);
            routes = routes.merge(api);
        }
        Ok(routes)
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

    /// The orchestrator of sagas, if there is one.
    #[cfg(feature = "saga")]
    pub(crate) fn sagas(&self) -> Option<&crate::saga::Engine> {
        self.sagas.as_ref().map(crate::saga::Running::engine)
    }

    /// Ends them, while the broker still serves.
    #[cfg_attr(
        not(any(
            feature = "choreography",
            feature = "relay",
            feature = "registry",
            feature = "saga"
        )),
        expect(clippy::unused_async, reason = "as with roles")
    )]
    pub(crate) async fn stop(self) {
        #[cfg(feature = "saga")]
        if let Some(sagas) = self.sagas {
            sagas.stop().await;
        }
        #[cfg(feature = "choreography")]
        if let Some(choreography) = self.choreography {
            choreography.stop().await;
        }
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

/// Makes topics with the node's defaults.
#[cfg(feature = "saga")]
fn make_topic(broker: Broker) -> crate::saga::MakeTopic {
    use wharf_broker::{Context, CreateTopic, ErrorKind};
    std::sync::Arc::new(move |name, partitions| {
        let broker = broker.clone();
        Box::pin(async move {
            let request = CreateTopic {
                name: name.as_str().to_owned(),
                partitions: Some(partitions),
                replication: None,
                assignment: Vec::new(),
                configs: Vec::new(),
            };
            let cx = Context::internal("sagas");
            let created = broker.create_topic(&cx, request, false);
            match created.await {
                Ok(_) => Ok(()),
                Err(error) if error.kind == ErrorKind::TopicAlreadyExists => Ok(()),
                Err(error) => Err(error.message),
            }
        })
    })
}

//! The role as the simulator runs it: the same parts, without HTTP, over a ledger that breaks.
//!
//! Dropping it, and the runtime it runs in, is the death of the process: nothing is finished first.

use std::fmt;
use std::sync::Arc;

use prometheus_client::registry::Registry as Metrics;
use tokio::sync::watch;
use wharf_message::ledger::{Ledger, TopicSpec};
use wharf_saga::machine::Saga;

use super::engine::Engine;
use super::view::Row;
use super::{Assembled, Place, Running, assemble, reporting};
use crate::Problem;
use crate::config::Sagas;

/// An orchestrator.
pub struct Orchestrator {
    engine: Engine,
    stop: watch::Sender<bool>,
}

impl fmt::Debug for Orchestrator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Orchestrator")
            .finish_non_exhaustive()
    }
}

impl Orchestrator {
    /// What would be started on a node; it does nothing yet. Command topics get so many partitions.
    pub fn new(
        config: &Sagas,
        partitions: u32,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Self, Box<Problem>> {
        let maker = Arc::clone(&ledger);
        let place = Place {
            config,
            partitions,
            ledger,
            make: Arc::new(move |name, partitions| {
                let maker = Arc::clone(&maker);
                Box::pin(async move {
                    let spec = TopicSpec {
                        name,
                        partitions,
                        compacted: false,
                    };
                    let created = maker.create_topic(spec).await;
                    created.map_err(|error| error.to_string())
                })
            }),
            http: None,
            claims: None,
        };
        let Assembled { engine, stop, .. } = assemble(place, &mut Metrics::default())?;
        engine.shared().handlers.report_to(reporting(&engine));
        Ok(Self { engine, stop })
    }

    /// Makes the topics, reads every saga and goes on with them, as a node does when it starts.
    pub async fn begin(&self) -> Result<(), super::Refused> {
        self.engine.begin().await
    }

    /// Its handle.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Ends it in good order.
    pub async fn stop(&self) {
        let running = Running {
            engine: self.engine.clone(),
            stop: self.stop.clone(),
            tasks: Vec::new(),
        };
        running.stop().await;
    }
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        // Handlers report to the engine that holds them; a process that dies does not mind.
        self.engine.handlers().report_to(Arc::new(|_, _| {}));
    }
}

/// What is listed of a saga.
pub fn row(saga: &Saga) -> Option<Row> {
    Row::of(saga, &mut super::view::Names::default())
}

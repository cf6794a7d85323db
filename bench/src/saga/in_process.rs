//! Wharf in the process of its caller: a node without a listener, with handlers in Rust; and what its
//! engine can do when nobody has to be waited for.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::sleep;
use wharf_saga::machine::{Outcome, SagaId};
use wharf_server::saga::{Engine as Sagas, NewSaga};
use wharf_server::{Config, EmbeddedNode, Listeners};

use super::Options;
use super::figures::{Figure, Report, Who};
use super::load::{Engine, Load, Pace, STEPS, Taken, check};
use super::wharf::five_steps;
use super::worker::{Work, lock};
use crate::http::wait_until;
use crate::report::Unit;

/// The row that only this one has.
pub(super) const ALONE: &str = "transitions";
/// How many sagas are turned at once: what a group commit has to share.
const TURNED: usize = 1_000;
/// How often it is looked whether sagas have ended.
const LOOK: Duration = Duration::from_millis(1);
/// How long sagas may take to end after the last one was started.
const ENDED_WITHIN: Duration = Duration::from_secs(60);
const SAGA: &str = "bench";
/// The saga that only takes signals.
const TURNING: &str = "turning";

/// A node in this process with the handlers of the five steps.
pub(super) struct Inside {
    runtime: Runtime,
    node: Option<EmbeddedNode>,
    sagas: Sagas,
    work: Arc<Mutex<Work>>,
    /// Makes the keys of every load new.
    loads: u64,
}

impl Inside {
    pub(super) fn start(options: &Options) -> Result<Self> {
        let runtime = Runtime::new()?;
        let mut config = Config::default();
        config.node.data = options.scratch.join(Who::WharfRust.key());
        // Nothing that ended is forgotten while it is counted.
        config.saga.keep_max = 100_000_000;
        config.saga.open_max = 100_000_000;
        let start = EmbeddedNode::start(config, Listeners::default());
        let node = runtime
            .block_on(start)
            .map_err(|problem| anyhow!("{problem}"))?;
        let sagas = node.sagas().context("the node has no sagas")?.clone();
        let work: Arc<Mutex<Work>> = Arc::default();
        let inside = Self {
            runtime,
            node: Some(node),
            sagas,
            work,
            loads: 0,
        };
        inside.runtime.block_on(async {
            for step in STEPS {
                inside.register(step);
            }
            let handler = |step: &str| format!("wharf:handler:{step}");
            inside.deploy(SAGA, &five_steps(handler)).await?;
            inside.deploy(TURNING, &turning()).await
        })?;
        Ok(inside)
    }

    fn register(&self, step: &'static str) {
        let work = Arc::clone(&self.work);
        self.sagas.handlers().register(step, move |command| {
            let result = lock(&work).act(&command.saga.to_string(), step, command.undo);
            async move { Outcome::Success(result.into()) }
        });
    }

    async fn deploy(&self, name: &str, definition: &Value) -> Result<()> {
        let text = definition.to_string();
        let deployed = self.sagas.deploy(name, &text, "bench");
        deployed.await.map_err(|refused| anyhow!("{refused}"))?;
        Ok(())
    }

    async fn begin(&self, saga_type: &str, number: u64, input: Value) -> Result<SagaId> {
        let started = self.sagas.start(NewSaga {
            saga_type: saga_type.to_owned(),
            key: Some(format!("{}-{number}", self.loads)),
            input,
            ..NewSaga::default()
        });
        Ok(started.await.map_err(|refused| anyhow!("{refused}"))?.id)
    }

    /// How many sagas stand so. None may be parked: nothing of the load should be.
    fn count(&self, wanted: &str) -> Result<u64> {
        let counts = self.sagas.counts();
        let of = |wanted: &str| -> usize {
            let counts = counts
                .iter()
                .filter(|(name, status, _)| name == SAGA && *status == wanted);
            counts.map(|(_, _, count)| count).sum()
        };
        let parked = of("PARKED");
        ensure!(parked == 0, "{parked} sagas are parked");
        Ok(u64::try_from(of(wanted))?)
    }

    /// As many sagas at once as wanted: the next one begins when one has ended.
    async fn at_once(&self, at_once: usize, load: Load) -> Result<(u64, Taken)> {
        let ends = match load.fails {
            true => "COMPENSATED",
            false => "COMPLETED",
        };
        let (before, began) = (self.count(ends)?, Instant::now());
        let (mut started, at_once) = (0, u64::try_from(at_once)?);
        loop {
            let ended = self.count(ends)? - before;
            let room = at_once - (started - ended);
            if began.elapsed() < load.length {
                let next = (started..started + room).map(|number| {
                    self.begin(SAGA, number, json!({ "id": number, "fails": load.fails }))
                });
                started += room;
                try_join_all(next).await?;
            } else if ended == started {
                break;
            }
            let late = began.elapsed().saturating_sub(load.length);
            ensure!(
                late < ENDED_WITHIN,
                "{ended} of {started} sagas have ended after {late:?} more"
            );
            sleep(LOOK).await;
        }
        let taken = Taken {
            rate: started as f64 / began.elapsed().as_secs_f64(),
            ..Taken::default()
        };
        Ok((started, taken))
    }

    /// So many a second; each is watched until it has ended.
    async fn paced(&self, rate: u32, load: Load) -> Result<(u64, Taken)> {
        let began = Instant::now();
        let due = |number: u64| began + Duration::from_secs_f64(number as f64 / f64::from(rate));
        let numbers = (0..).take_while(|number| due(*number) - began <= load.length);
        let all = numbers.map(|number| async move {
            let due = due(number);
            wait_until(due).await;
            let input = json!({ "id": number, "fails": load.fails });
            let id = self.begin(SAGA, number, input).await?;
            while self.sagas.row(id).is_none_or(|row| row.ended.is_none()) {
                ensure!(due.elapsed() < ENDED_WITHIN, "the saga {id} does not end");
                sleep(LOOK).await;
            }
            Ok(u64::try_from(due.elapsed().as_nanos())?)
        });
        let times = try_join_all(all.collect::<Vec<_>>()).await?;
        let mut histogram = Histogram::<u64>::new(3)?;
        for time in &times {
            histogram.record(*time)?;
        }
        let millis = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        let taken = Taken {
            rate: times.len() as f64 / began.elapsed().as_secs_f64(),
            p50: millis(0.5),
            p99: millis(0.99),
            ..Taken::default()
        };
        Ok((u64::try_from(times.len())?, taken))
    }

    /// How many sagas a second are taken to their next state by a signal, each known to be durable.
    pub(super) fn transitions(&mut self, options: &Options) -> Result<Figure> {
        self.loads += 1;
        let count = if options.is_quick() { 20 } else { TURNED };
        let length = options.length();
        let (turned, took) = self.runtime.block_on(async {
            let all =
                (0..u64::try_from(count)?).map(|number| self.begin(TURNING, number, json!({})));
            let all = try_join_all(all).await?;
            let began = Instant::now();
            let turning = all.into_iter().map(|id| {
                let sagas = self.sagas.clone();
                tokio::spawn(async move {
                    let mut turned = 0_u64;
                    while began.elapsed() < length {
                        let signal = sagas.signal(id, "go", Value::Null);
                        signal.await.map_err(|refused| anyhow!("{refused}"))?;
                        turned += 1;
                    }
                    anyhow::Ok(turned)
                })
            });
            let mut turned = 0;
            for one in turning.collect::<Vec<_>>() {
                turned += one.await??;
            }
            anyhow::Ok((turned, began.elapsed()))
        })?;
        let rate = turned as f64 / took.as_secs_f64();
        Ok(Figure::new(rate, Unit::PerSecond).noting(format!("{count} sagas at once")))
    }
}

/// Two states, each left by a signal for the other one. Only an error would end it.
fn turning() -> Value {
    let state = |next: &str| {
        json!({
            "Type": "Task",
            "Resource": "wharf:signal:go",
            "ResultPath": null,
            "Catch": [{ "ErrorEquals": ["States.ALL"], "Next": "end" }],
            "Next": next,
        })
    };
    json!({
        "StartAt": "here",
        "States": {
            "here": state("there"),
            "there": state("here"),
            "end": { "Type": "Succeed" },
        },
    })
}

impl Engine for Inside {
    fn load(&mut self, load: Load) -> Result<Taken> {
        self.loads += 1;
        lock(&self.work).take();
        let (sagas, mut taken) = self.runtime.block_on(async {
            match load.pace {
                Pace::AtOnce(count) => self.at_once(count, load).await,
                Pace::Rate(rate) => self.paced(rate, load).await,
            }
        })?;
        let answer = lock(&self.work).take();
        check(&answer, sagas as f64, load.fails)?;
        taken.step_p50 = answer["step_p50"].as_f64().unwrap_or(f64::NAN);
        taken.step_p99 = answer["step_p99"].as_f64().unwrap_or(f64::NAN);
        Ok(taken)
    }

    fn more(&mut self, options: &Options, report: &mut Report) {
        if options.wants(ALONE) {
            let figure = self.transitions(options);
            report.add(ALONE, Who::WharfRust, figure);
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            // What it says now, nobody asked.
            drop(self.runtime.block_on(node.shutdown()));
        }
    }
}

#[cfg(test)]
mod tests {
    use wharf_saga::definition::Definition;

    use super::*;

    #[test]
    fn the_sagas_of_this_process_are_ones_that_can_be_deployed() {
        for definition in [
            turning(),
            five_steps(|step| format!("wharf:handler:{step}")),
        ] {
            let read = Definition::read(&definition.to_string());
            assert!(read.is_ok(), "{:?}", read.map(|accepted| accepted.remarks));
        }
    }
}

//! Functions in the process of the embedded node that do tasks: `wharf:handler:NAME`.

use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wharf_saga::machine::{Command, Data, Failure, Outcome};

use super::error::SagaError;
use super::reply::{What, named};
use super::sagas::Sagas;
use super::task::Task;
use crate::failure::{Failed, IntoFailed};

impl Sagas {
    /// Does the tasks of `wharf:handler:NAME` in this process, those that undo as well
    /// ([`Task::undo`]). Tasks that wait for it begin at once; one may come again with the same
    /// idempotency key, after a crash and after a failure that is retried.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use wharf::embedded::Embedded;
    /// use wharf::saga::{Saga, Start, Status, Step, Task};
    /// use wharf_message::transport::Transport;
    ///
    /// let node = Embedded::open("embedded://temporary", "shop").await?;
    /// let sagas = node.sagas().ok_or("the node is stopped")?;
    /// sagas.handle("double", async |task: Task<u64>| match task.arguments.checked_mul(2) {
    ///     Some(doubled) => Ok(doubled),
    ///     None => Err(wharf::Error::declared("TooLarge", "twice that is too large")),
    /// })?;
    /// sagas.deploy(&Saga::define("doubling").step("Double", Step::handler("double"))).await?;
    /// let started = sagas.start(Start::of("doubling", &21)).await?;
    /// let ended = sagas.ended(started.id, Duration::from_secs(30)).await?;
    /// assert_eq!((ended.status, ended.output), (Status::Completed, Some(42.into())));
    /// node.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Where the node is another process: its tasks go to topics.
    pub fn handle<T, R, E, F, Fut>(&self, name: &str, handler: F) -> Result<(), SagaError>
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize,
        E: IntoFailed,
        F: Fn(Task<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        let Some(engine) = self.engine() else {
            return Err(SagaError::Invalid(format!(
                "the node is another process, which has no function {name:?} of this one; give the \
                 step a topic, and serve that with a router"
            )));
        };
        let handler = Arc::new(handler);
        engine.handlers().register(name, move |command: Command| {
            let handler = Arc::clone(&handler);
            async move {
                let task = match Task::within(&command) {
                    Ok(task) => task,
                    Err(failed) => return of_failed(&failed),
                };
                match handler(task).await {
                    Ok(result) => of_result(&result),
                    Err(error) => of_failed(&error.into_failed()),
                }
            }
        });
        Ok(())
    }
}

fn of_result(result: &impl Serialize) -> Outcome {
    match serde_json::to_value(result) {
        Ok(value) => Outcome::Success(Data::from(value)),
        Err(error) => Outcome::Failure(Failure {
            error: "Rejected".to_owned(),
            cause: format!("the result cannot be written: {error}"),
            declared: false,
        }),
    }
}

fn of_failed(failed: &Failed) -> Outcome {
    if failed.disposition == crate::Disposition::Skip {
        return Outcome::Success(Data::default());
    }
    let (error, declared) = named(failed);
    Outcome::Failure(Failure {
        error: error.to_owned(),
        cause: failed.error.clone(),
        declared,
    })
}

/// An answer as the engine takes it.
pub(super) fn outcome(what: What) -> Result<Outcome, String> {
    Ok(match what {
        What::Done(value) => Outcome::Success(Data::from(value?)),
        What::Failed {
            error,
            cause,
            declared,
        } => Outcome::Failure(Failure {
            error,
            cause,
            declared,
        }),
        What::Heartbeat => Outcome::Heartbeat,
    })
}

//! The orchestrator as a program sees it: that of the embedded node, or of a node behind HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use wharf_saga::definition::Saga;
use wharf_saga::machine::{Action, Order};
use wharf_saga::machine::{ParkReason, SagaId, Status};

use super::error::SagaError;
use super::http::Http;
use super::reply::Answer;
use super::start::Start;

/// How often a saga is looked at that is waited for: at first, and at most.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_LAST: Duration = Duration::from_millis(500);

/// An orchestrator. Cheap to clone.
///
/// [`Embedded::sagas`](crate::embedded::Embedded::sagas) gives that of the node in this program,
/// [`Sagas::connect`] that of another one; everything but [`Sagas::handle`] is the same.
///
/// ```no_run
/// # async fn example() -> Result<(), wharf::saga::SagaError> {
/// use wharf::saga::{Sagas, Start, Status};
///
/// let sagas = Sagas::connect("http://127.0.0.1:8080")?;
/// let order = serde_json::json!({ "article": "teapot" });
/// let started = sagas.start(Start::of("checkout", &order).key("order-1")).await?;
/// let again = sagas.start(Start::of("checkout", &order).key("order-1")).await?;
/// assert_eq!((again.id, again.is_new), (started.id, false));
/// for parked in sagas.parked("checkout").await? {
///     sagas.retry(parked.id, "ada", "the bank is back").await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sagas {
    place: Place,
    by: Arc<str>,
}

#[derive(Clone, Debug)]
enum Place {
    #[cfg(feature = "embedded")]
    Here(wharf_server::saga::Engine),
    There(Arc<Http>),
}

/// A saga that was started, now or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its id.
    pub id: SagaId,
    /// Whether this request started it.
    #[serde(rename = "new")]
    pub is_new: bool,
}

/// A definition that was deployed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Deployment {
    /// Which version of its name it is.
    pub version: u32,
    /// The hash of what it says.
    pub hash: String,
    /// Whether it says something new.
    #[serde(rename = "new")]
    pub is_new: bool,
    /// Warnings and notes, as `path: message`.
    #[serde(default, deserialize_with = "remarks")]
    pub remarks: Vec<String>,
}

/// Where a saga stands.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct State {
    /// Its id.
    pub id: SagaId,
    /// Its type.
    #[serde(rename = "type")]
    pub saga_type: String,
    /// Its idempotency key.
    pub key: String,
    /// Where it stands.
    pub status: Status,
    /// Whether an operator paused it.
    pub paused: bool,
    /// The steps that a person is to decide about.
    #[serde(default, rename = "parked_steps")]
    pub parked: Vec<Parked>,
    /// The error it ended with, or is undone for.
    #[serde(default)]
    pub error: Option<String>,
    /// The explanation of the error.
    #[serde(default)]
    pub cause: Option<String>,
    /// Its output, once it is done.
    #[serde(default)]
    pub output: Option<Value>,
    /// What people search by.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// A step that a person is to decide about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Parked {
    /// The visit of the state.
    pub step: u32,
    /// The state's name.
    pub name: String,
    /// Whether it is its undo that failed.
    pub undo: bool,
    /// Why.
    pub reason: ParkReason,
    /// The error's name.
    pub error: String,
    /// Its explanation.
    pub cause: String,
}

/// Remarks are objects over HTTP; a program shows them.
fn remarks<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let told = Vec::<Value>::deserialize(from)?;
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let lines = told
        .iter()
        .map(|remark| format!("{}: {}", text(remark, "path"), text(remark, "message")));
    Ok(lines.collect())
}

#[cfg(feature = "embedded")]
fn shown(problems: &[wharf_saga::definition::Problem]) -> Vec<String> {
    let lines = problems.iter();
    lines
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect()
}

impl Sagas {
    /// That of a node behind this address of its HTTP listener, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// When it is no address. Whether anybody answers there is not asked.
    pub fn connect(address: &str) -> Result<Self, SagaError> {
        let place = Place::There(Arc::new(Http::new(address)?));
        Ok(Self::at(place))
    }

    #[cfg(feature = "embedded")]
    pub(crate) fn of(engine: wharf_server::saga::Engine) -> Self {
        Self::at(Place::Here(engine))
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            by: "wharf".into(),
        }
    }

    /// Who deploys, for the history of a definition; `wharf` unless set.
    #[must_use]
    pub fn by(self, who: &str) -> Self {
        Self {
            by: who.into(),
            ..self
        }
    }

    /// Deploys a definition under its name. From now on it is what is started by that name; sagas that
    /// run stay with theirs. What says the same as the current version is no new one.
    ///
    /// # Errors
    /// [`SagaError`]; a definition with errors is not sent.
    pub async fn deploy(&self, saga: &Saga) -> Result<Deployment, SagaError> {
        saga.build()?;
        self.deploy_text(saga.name(), &saga.to_value().to_string())
            .await
    }

    /// The same for a text: Amazon States Language in JSON or YAML.
    ///
    /// # Errors
    /// [`SagaError`].
    pub async fn deploy_text(&self, name: &str, text: &str) -> Result<Deployment, SagaError> {
        match &self.place {
            #[cfg(feature = "embedded")]
            Place::Here(engine) => {
                let deployed = engine.deploy(name, text, &self.by).await?;
                Ok(Deployment {
                    version: deployed.version.version,
                    hash: deployed.version.hash.to_string(),
                    is_new: deployed.is_new,
                    remarks: shown(&deployed.remarks),
                })
            }
            Place::There(http) => http.deploy(name, text, &self.by).await,
        }
    }

    /// Starts a saga, once for each key: when it returns, that it began is durable.
    ///
    /// # Errors
    /// [`SagaError`]; a key that started a saga with another input is refused.
    pub async fn start(&self, start: Start) -> Result<Started, SagaError> {
        let input = start.input.clone();
        let input = input.map_err(|error| SagaError::Invalid(format!("the input: {error}")))?;
        match &self.place {
            #[cfg(feature = "embedded")]
            Place::Here(engine) => {
                let new = wharf_server::saga::NewSaga {
                    saga_type: start.saga_type,
                    version: start.version,
                    key: start.key,
                    input,
                    correlation_id: start.correlation,
                    attributes: start.attributes,
                    traceparent: None,
                };
                let started = engine.start(new).await?;
                Ok(Started {
                    id: started.id,
                    is_new: started.is_new,
                })
            }
            Place::There(http) => http.start(start, input).await,
        }
    }

    /// Where a saga stands.
    ///
    /// # Errors
    /// [`SagaError`]; one that ended may have been forgotten since.
    pub async fn look(&self, id: SagaId) -> Result<State, SagaError> {
        match &self.place {
            #[cfg(feature = "embedded")]
            Place::Here(engine) => {
                let state = engine.look(id, State::of).await?;
                state.ok_or_else(|| SagaError::Unavailable(format!("saga {id} is being read")))
            }
            Place::There(http) => http.look(id).await,
        }
    }

    /// Waits until a saga ended or is parked.
    ///
    /// # Errors
    /// [`SagaError::Late`] when that takes longer, and as [`Sagas::look`].
    pub async fn ended(&self, id: SagaId, patience: Duration) -> Result<State, SagaError> {
        let begun = Instant::now();
        let mut pause = LOOK_FIRST;
        loop {
            let state = self.look(id).await?;
            if state.status.is_end() || state.status == Status::Parked {
                return Ok(state);
            }
            let waited = begun.elapsed();
            if waited >= patience {
                let status = state.status;
                return Err(SagaError::Late { id, status, waited });
            }
            sleep(pause.min(patience.saturating_sub(waited))).await;
            pause = (pause * 2).min(LOOK_LAST);
        }
    }

    /// The ids of the sagas of a type that stand so, newest first.
    ///
    /// # Errors
    /// [`SagaError`].
    pub async fn list(&self, saga_type: &str, status: Status) -> Result<Vec<SagaId>, SagaError> {
        match &self.place {
            #[cfg(feature = "embedded")]
            Place::Here(engine) => {
                let filter = wharf_server::saga::Filter {
                    saga_type: Some(saga_type.to_owned()),
                    status: Some(status),
                    ..wharf_server::saga::Filter::default()
                };
                let (rows, _) = engine.list(&filter, None, usize::MAX);
                Ok(rows.iter().map(|row| row.id).collect())
            }
            Place::There(http) => http.list(saga_type, status).await,
        }
    }

    /// The sagas of a type that wait for a person, with the steps to decide about.
    ///
    /// # Errors
    /// [`SagaError`].
    pub async fn parked(&self, saga_type: &str) -> Result<Vec<State>, SagaError> {
        let mut parked = Vec::new();
        for id in self.list(saga_type, Status::Parked).await? {
            let state = self.look(id).await?;
            // It may have been repaired since.
            if state.status == Status::Parked {
                parked.push(state);
            }
        }
        Ok(parked)
    }

    /// Sends a signal to a saga that waits for one, or will.
    ///
    /// # Errors
    /// [`SagaError`].
    pub async fn signal(
        &self,
        id: SagaId,
        name: &str,
        payload: impl Serialize,
    ) -> Result<(), SagaError> {
        let payload = serde_json::to_value(payload)
            .map_err(|error| SagaError::Invalid(format!("the payload: {error}")))?;
        match &self.place {
            #[cfg(feature = "embedded")]
            Place::Here(engine) => Ok(engine.signal(id, name, payload).await?),
            Place::There(http) => http.signal(id, name, payload).await,
        }
    }

    /// Answers a task that was taken [`Later`](super::Later), or sends a sign of life for it.
    ///
    /// # Errors
    /// [`SagaError`]; nobody may wait for it any more.
    pub async fn answer(&self, answer: Answer) -> Result<(), SagaError> {
        match &self.place {
            #[cfg(feature = "embedded")]
            Place::Here(engine) => {
                let token = answer.token;
                let outcome = super::handler::outcome(answer.what).map_err(SagaError::Invalid)?;
                Ok(engine.reply(token, outcome).await?)
            }
            Place::There(http) => http.answer(answer).await,
        }
    }

    /// Does what a person decided about a saga. Who and why is kept with it.
    ///
    /// # Errors
    /// [`SagaError`]; refused where the saga stands otherwise.
    pub async fn operate(&self, id: SagaId, order: Order) -> Result<(), SagaError> {
        match &self.place {
            #[cfg(feature = "embedded")]
            Place::Here(engine) => Ok(engine.operate(id, order).await?),
            Place::There(http) => http.operate(id, order).await,
        }
    }

    /// Tries the parked step, or its undo, again. Right when what it needs works again.
    ///
    /// # Errors
    /// As [`Sagas::operate`].
    pub async fn retry(&self, id: SagaId, by: &str, reason: &str) -> Result<(), SagaError> {
        let order = Order {
            action: Action::Retry { step: None },
            by: by.to_owned(),
            reason: reason.to_owned(),
        };
        self.operate(id, order).await
    }

    #[cfg(feature = "embedded")]
    pub(super) fn engine(&self) -> Option<&wharf_server::saga::Engine> {
        match &self.place {
            Place::Here(engine) => Some(engine),
            Place::There(_) => None,
        }
    }
}

#[cfg(feature = "embedded")]
impl State {
    fn of(saga: &wharf_saga::machine::Saga) -> Option<Self> {
        let start = saga.start()?;
        let parked = saga.parked().into_iter().map(|step| Parked {
            step: step.step,
            name: step.name,
            undo: step.undo,
            reason: step.reason,
            error: step.error,
            cause: step.cause,
        });
        let error = saga.error();
        Some(Self {
            id: start.id,
            saga_type: start.saga_type.clone(),
            key: start.key.clone(),
            status: saga.status(),
            paused: saga.is_paused(),
            parked: parked.collect(),
            error: error.map(|(error, _)| error.to_owned()),
            cause: error.map(|(_, cause)| cause.to_owned()),
            output: saga.output().map(|output| Value::clone(output)),
            attributes: start.attributes.clone(),
        })
    }
}

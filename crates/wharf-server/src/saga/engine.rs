//! The handle of the orchestrator: what the API, the library and other roles ask of it.
//!
//! Nothing is decided here. A request goes to the partition of its saga and is answered when what came
//! of it is durable; what is listed comes from the published rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use wharf_message::Code;
use wharf_saga::definition::{Definition, Hash, Problem};
use wharf_saga::machine::{
    Command, Data, Input, Order, Outcome, Saga, SagaId, Start, TaskToken, UndoStep,
};

use super::claims::is_larger;
use super::definitions::{Named, Version};
use super::refusal::Refused;
use super::resources::{Worker, tasks};
use super::shard::{Answer, Look, Looked, Work};
use super::shared::Shared;
use super::view::{Cursor, Filter, Row};
use super::workers::handler::Handlers;

/// How long a request may take; whether it happened is then not known.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many attributes a saga may have, and how long what names it may be.
const ATTRIBUTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 1_024;

/// A saga to be started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSaga {
    /// The name of its definition.
    pub saga_type: String,
    /// The version or alias; without it the current one.
    pub version: Option<String>,
    /// The idempotency key; without it every request starts another saga.
    pub key: Option<String>,
    /// Its input.
    pub input: Value,
    /// The business case.
    pub correlation_id: Option<String>,
    /// What people search by.
    pub attributes: BTreeMap<String, String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// A saga that was started, now or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its id.
    pub id: SagaId,
    /// Whether this request started it.
    pub is_new: bool,
}

/// A definition that was deployed.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployed {
    /// Its version of the name.
    pub version: Version,
    /// Whether it is new, and not what the current version said already.
    pub is_new: bool,
    /// Warnings and notes.
    pub remarks: Vec<Problem>,
}

/// A start on its way: the saga, what is to be done, and who answers.
type Starting = (SagaId, Work, oneshot::Receiver<Result<bool, Refused>>);

/// The orchestrator of a node. Cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(super) Arc<Shared>);

impl fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// The handlers in this process.
    pub fn handlers(&self) -> &Handlers {
        &self.0.handlers
    }

    /// Why sagas cannot be worked on, if they cannot.
    pub fn trouble(&self) -> Option<String> {
        let all = self
            .0
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.values().next().cloned()
    }

    /// Reads and checks a definition, its resources included; every problem at once.
    pub fn check(&self, text: &str) -> Result<(Definition, Vec<Problem>), Refused> {
        let invalid = |problems: &[Problem], message: String| {
            let details = serde_json::to_value(problems).unwrap_or_default();
            Refused::new(Code::SAGA_DEFINITION_INVALID, message).with(details)
        };
        let accepted = Definition::read(text);
        let accepted = accepted.map_err(|problems| invalid(&problems.0, problems.to_string()))?;
        let unmapped = self.0.resources.unmapped(&accepted.definition.machine);
        if unmapped.is_empty() {
            return Ok((accepted.definition, accepted.remarks));
        }
        let problems = unmapped.iter().map(|found| {
            serde_json::json!({
                "code": "RESOURCE_UNMAPPED",
                "severity": "error",
                "path": found.state,
                "message": found.why,
                "resource": found.resource,
            })
        });
        let problems: Value = problems.collect();
        let names: Vec<_> = unmapped
            .iter()
            .map(|found| found.resource.as_str())
            .collect();
        let message = format!("nobody does the work of {}", names.join(", "));
        Err(Refused::new(Code::SAGA_RESOURCE_UNMAPPED, message).with(problems))
    }

    /// Deploys a definition under a name; from now on it is what is started by that name.
    pub async fn deploy(&self, name: &str, text: &str, by: &str) -> Result<Deployed, Refused> {
        let (definition, remarks) = self.check(text)?;
        if let Err(refused) = self.begin().await {
            if self.0.topics.partitions(&self.0.names.sagas).is_some() {
                // Known now, and not read: told to everybody until it is deployed again.
                self.0.in_trouble(0, Some(&refused.message));
            }
            return Err(refused);
        }
        for (_, task) in tasks(&definition.machine) {
            self.prepare(&task.resource).await?;
        }
        for (_, resource) in super::resources::undos(&definition.machine) {
            self.prepare(resource).await?;
        }
        let (version, is_new) = self.0.definitions.deploy(name, definition, by).await?;
        Ok(Deployed {
            version,
            is_new,
            remarks,
        })
    }

    /// Makes the command topic of a resource that has one.
    async fn prepare(&self, resource: &str) -> Result<(), Refused> {
        if let Ok(resolved) = self.0.resources.resolve(resource, &Value::Null)
            && let Worker::Topic(topic) = resolved.worker
        {
            let made = self.0.topics.passing(&topic, self.0.partitions).await;
            made.map_err(|reason| Refused::unavailable(format!("the topic {topic}: {reason}")))?;
        }
        Ok(())
    }

    /// Every name with its versions.
    pub fn definitions(&self) -> Vec<(String, Named)> {
        self.0.definitions.names()
    }

    /// A name's version, or its current one.
    pub fn definition(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<(Version, Arc<Definition>), Refused> {
        self.check_begun()?;
        self.0.definitions.find(name, version)
    }

    /// A definition by its hash.
    pub fn definition_by_hash(&self, hash: &Hash) -> Option<Arc<Definition>> {
        self.0.definitions.by_hash(hash)
    }

    /// Gives a version another name; `None` removes the alias.
    pub async fn alias(
        &self,
        name: &str,
        alias: &str,
        version: Option<u32>,
    ) -> Result<Named, Refused> {
        self.0.definitions.alias(name, alias, version).await
    }

    /// Removes a name. Refused while a saga that has not ended is of one of its versions.
    pub async fn remove(&self, name: &str) -> Result<Named, Refused> {
        let definitions = &self.0.definitions;
        let versions = definitions.named(name).unwrap_or_default().versions;
        let of_name = versions
            .iter()
            .map(|known| definitions.by_hash(&known.hash));
        let of_name: Vec<_> = of_name.flatten().collect();
        let in_use = |hashes: &[Hash]| hashes.iter().map(|hash| self.users(hash)).sum();
        let removed = definitions.remove(name, in_use).await?;
        // A saga may have begun in between; its definition stays, without a name.
        self.settled().await?;
        for definition in of_name {
            if self.users(&definition.hash) > 0 {
                definitions.keep(definition).await?;
            }
        }
        Ok(removed)
    }

    /// How many sagas that have not ended are pinned to a definition, as far as they are listed.
    fn users(&self, hash: &Hash) -> usize {
        let needs = |row: &Row| row.ended.is_none() && row.definition == *hash;
        self.0.index.page(&needs, None, usize::MAX).0.len()
    }

    /// Returns when what was sent to every partition before is decided, durable and listed.
    async fn settled(&self) -> Result<(), Refused> {
        let mut left: BTreeSet<usize> = (0..self.0.requests.len()).collect();
        for number in 0_u32.. {
            let id = SagaId::of("", &number.to_string());
            if left.remove(&self.0.at(id))
                && let Err(refused) = self.look(id, |_| ()).await
                && refused.code != Code::SAGA_UNKNOWN
            {
                return Err(refused);
            }
            if left.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Starts a saga, once for each key. Refused at once when too many requests wait.
    pub async fn start(&self, new: NewSaga) -> Result<Started, Refused> {
        let new = self.start_checked_in(new).await?;
        let (id, work, answer) = self.starting(new)?;
        self.request(id, work)?;
        let is_new = answered(answer).await?;
        Ok(Started { id, is_new })
    }

    /// The same, waiting for its turn.
    pub(super) async fn start_in_turn(&self, new: NewSaga) -> Result<Started, Refused> {
        let new = self.start_checked_in(new).await?;
        let (id, work, answer) = self.starting(new)?;
        self.in_turn(id, work).await?;
        let is_new = answered(answer).await?;
        Ok(Started { id, is_new })
    }

    fn starting(&self, new: NewSaga) -> Result<Starting, Refused> {
        self.check_start(&new)?;
        self.check_begun()?;
        let found = self
            .0
            .definitions
            .find(&new.saga_type, new.version.as_deref());
        let (version, definition) = found?;
        let key = new.key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let id = SagaId::of(&new.saga_type, &key);
        let start = Start {
            id,
            saga_type: new.saga_type,
            definition: version.hash,
            key,
            input: Data::from(new.input),
            correlation: new.correlation_id,
            traceparent: new.traceparent,
            attributes: new.attributes,
            parent: None,
        };
        let (answer, receiver) = oneshot::channel();
        let work = Work::Start {
            start: Box::new(start),
            definition,
            answer: Some(answer),
        };
        Ok((id, work, receiver))
    }

    fn check_start(&self, new: &NewSaga) -> Result<(), Refused> {
        if is_larger(&new.input, self.0.payload_max) {
            let (max, what) = self.payload_limit();
            let message = format!(
                "States.DataLimitExceeded: the input has more than the {max} bytes allowed by {what}"
            );
            return Err(Refused::new(Code::SAGA_PAYLOAD_TOO_LARGE, message));
        }
        let attributes = new
            .attributes
            .iter()
            .flat_map(|(name, value)| [name, value]);
        let texts = [&new.key, &new.correlation_id, &new.traceparent];
        let mut texts = texts.into_iter().flatten().chain(attributes);
        if new.attributes.len() > ATTRIBUTES_MAX || texts.any(|text| text.len() > TEXT_BYTES_MAX) {
            let message = format!(
                "a saga has at most {ATTRIBUTES_MAX} attributes, and its key, its correlation id and \
                 each of them at most {TEXT_BYTES_MAX} bytes"
            );
            return Err(Refused::new(Code::SAGA_REQUEST_INVALID, message));
        }
        if new.key.as_deref() == Some("") {
            let message = "the key is empty; leave it out, or say what makes this saga the same";
            return Err(Refused::new(Code::SAGA_REQUEST_INVALID, message));
        }
        Ok(())
    }

    /// Refuses while there are sagas that are not read yet. Where nothing was ever deployed, it is
    /// certain that nothing is there.
    pub(super) fn check_begun(&self) -> Result<(), Refused> {
        if self.0.begun.get().is_some() {
            return Ok(());
        }
        if let Some(reason) = self.trouble() {
            return Err(Refused::unavailable(reason));
        }
        match self.0.had_sagas {
            true => Err(Refused::unavailable("its sagas are being read")),
            false => Ok(()),
        }
    }

    /// The queue of a saga's partition. Where nothing was ever deployed, there is none.
    fn queue(&self, id: SagaId) -> Result<&mpsc::Sender<Work>, Refused> {
        self.check_begun()?;
        if self.0.begun.get().is_none() {
            return Err(Refused::unknown(id));
        }
        let queue = self.0.requests.get(self.0.at(id));
        queue.ok_or_else(|| Refused::unavailable("it has no partitions"))
    }

    fn request(&self, id: SagaId, work: Work) -> Result<(), Refused> {
        let queue = self.queue(id)?;
        queue.try_send(work).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                let message =
                    "more requests wait than saga.waiting-max allows; send it again later";
                Refused::new(Code::SAGA_BUSY, message)
            }
            mpsc::error::TrySendError::Closed(_) => Refused::unavailable("the node is stopping"),
        })
    }

    async fn in_turn(&self, id: SagaId, work: Work) -> Result<(), Refused> {
        let queue = self.queue(id)?;
        let sent = queue.send(work).await;
        sent.map_err(|_closed| Refused::unavailable("the node is stopping"))
    }

    async fn input(&self, saga: SagaId, input: Input) -> Result<(), Refused> {
        let (answer, receiver): (Answer<()>, _) = oneshot::channel();
        let answer = Some(answer);
        self.request(
            saga,
            Work::Input {
                saga,
                input: Box::new(input),
                answer,
            },
        )?;
        answered(receiver).await
    }

    /// A worker's answer to one dispatch; waits for its turn.
    pub async fn reply(&self, token: TaskToken, outcome: Outcome) -> Result<(), Refused> {
        let outcome = self.outcome_checked_in(outcome).await?;
        let (answer, receiver): (Answer<()>, _) = oneshot::channel();
        let input = Input::Reply {
            step: token.step,
            generation: token.generation,
            outcome,
        };
        let work = Work::Input {
            saga: token.saga,
            input: Box::new(input),
            answer: Some(answer),
        };
        self.in_turn(token.saga, work).await?;
        let outcome = answered(receiver).await;
        if let Err(refused) = &outcome
            && !refused.is_unknown()
        {
            self.0.metrics.stale();
            self.0
                .noise("a worker's answer changes nothing", &refused.message);
        }
        outcome
    }

    /// A signal for a saga.
    pub async fn signal(&self, id: SagaId, name: &str, payload: Value) -> Result<(), Refused> {
        let payload = self.data_checked_in(Data::from(payload)).await?;
        let name = name.to_owned();
        self.input(id, Input::Signal { name, payload }).await
    }

    /// A person decides something about a saga. Who and why must be said.
    pub async fn operate(&self, id: SagaId, mut order: Order) -> Result<(), Refused> {
        if order.by.trim().is_empty() || order.reason.trim().is_empty() {
            let message = "every action says who decided it (`by`) and why (`reason`)";
            return Err(Refused::new(Code::SAGA_REQUEST_INVALID, message));
        }
        self.action_checked_in(&mut order.action).await?;
        self.input(id, Input::Operator(order)).await
    }

    /// Looks at a saga as it is on disk.
    pub async fn look<T: Send + 'static>(
        &self,
        id: SagaId,
        look: impl FnOnce(&Saga) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        self.look_at(id, |looked| look(looked.saga)).await
    }

    pub(super) async fn look_at<T: Send + 'static>(
        &self,
        id: SagaId,
        look: impl FnOnce(Looked<'_>) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let (look, receiver) = looking(look);
        self.request(id, Work::Look(id, look))?;
        answered(receiver).await
    }

    /// Looks at a saga, waiting for its turn.
    pub(super) async fn look_in_turn<T: Send + 'static>(
        &self,
        id: SagaId,
        look: impl FnOnce(&Saga) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let (look, receiver) = looking(|looked| look(looked.saga));
        self.in_turn(id, Work::Look(id, look)).await?;
        answered(receiver).await
    }

    /// What would be undone if it were aborted now, in order.
    pub async fn undo_preview(&self, id: SagaId) -> Result<Vec<UndoStep>, Refused> {
        let hash = self.look(id, |saga| saga.start().map(|start| start.definition));
        let hash = hash.await?.ok_or_else(|| Refused::unknown(id))?;
        let definition = self.0.definitions.by_hash(&hash).ok_or_else(|| {
            let message = format!("the definition of saga {id} is not kept any more");
            Refused::new(Code::SAGA_DEFINITION_UNKNOWN, message)
        })?;
        self.look(id, move |saga| saga.undo_preview(&definition.machine))
            .await
    }

    /// A saga at a glance.
    pub fn row(&self, id: SagaId) -> Option<Arc<Row>> {
        self.0.index.get(id)
    }

    /// The sub-sagas of a saga that have not ended, those that wait for a person first, so many of
    /// them; and how many there are in all.
    pub fn sub_sagas(&self, id: SagaId, limit: usize) -> (Vec<Arc<Row>>, usize) {
        self.0.index.sub_sagas(id, limit)
    }

    /// The sagas that are meant, newest first.
    pub fn list(
        &self,
        filter: &Filter,
        after: Option<Cursor>,
        limit: usize,
    ) -> (Vec<Arc<Row>>, Option<Cursor>) {
        self.0.index.page(&|row| filter.fits(row), after, limit)
    }

    /// How many sagas there are of each type and status.
    pub fn counts(&self) -> Vec<(String, &'static str, usize)> {
        self.0.index.counts()
    }

    /// How many sagas sleep: nothing happened to them for a while, and they take little memory.
    pub fn asleep(&self) -> usize {
        let all = self.0.asleep.iter();
        all.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The next task of an activity, waiting for one as long as it may. That somebody has it is
    /// durable when this returns.
    pub async fn poll_activity(&self, name: &str, patience: Duration) -> Option<Command> {
        let until = tokio::time::Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let taken = self.0.activities.take(name, left).await?;
            let mut command = taken.command()?.clone();
            let token = command.token();
            if let Some(claims) = &self.0.claims {
                command = match claims.filled(command).await {
                    Ok(filled) => filled,
                    Err(failure) => {
                        drop(taken.keep());
                        // It failed, or nobody waits for it any more.
                        drop(self.reply(token, Outcome::Failure(failure)).await);
                        continue;
                    }
                };
            }
            match self.reply(token, Outcome::Accepted).await {
                Ok(()) => return taken.keep().map(|_| command),
                // It waits again, and when it did happen, it happens again.
                Err(refused) if refused.is_unknown() => return None,
                // Nobody waits for it any more.
                Err(_stale) => drop(taken.keep()),
            }
        }
    }
}

/// What looks at a saga, and where what it saw comes.
fn looking<T: Send + 'static>(
    look: impl FnOnce(Looked<'_>) -> T + Send + 'static,
) -> (Look, oneshot::Receiver<Result<T, Refused>>) {
    let (answer, receiver) = oneshot::channel();
    let look = move |looked: Result<Looked<'_>, Refused>| {
        // Whoever asked may be gone.
        drop(answer.send(looked.map(look)));
    };
    (Box::new(look), receiver)
}

async fn answered<T>(answer: oneshot::Receiver<Result<T, Refused>>) -> Result<T, Refused> {
    match timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_closed)) => Err(Refused::unavailable("the node is stopping")),
        Err(_late) => Err(Refused::unavailable(
            "the answer took too long; whether it happened is not known, so ask again",
        )),
    }
}

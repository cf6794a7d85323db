//! The state of one saga: what its facts add up to, and what may be asked of it.
//!
//! Nothing here decides. Steps that are over and left nothing to undo are forgotten, so that a saga
//! may loop for ever in constant space.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wharf_message::Timestamp;

use super::data::{Data, SagaId, is_false, is_zero, millis, some};
use super::fact::{Kept, Trigger};
use super::input::{Failure, Start};
use super::status::{ParkReason, Status};

/// One saga. Empty until [`super::Input::Start`]; serialises as its snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saga {
    pub(super) state: State,
    /// The moments at which something is due, by step. Derived from the steps.
    pub(super) timers: BTreeSet<(i64, u32)>,
}

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) start: Option<Arc<Start>>,
    #[serde(with = "millis", default)]
    pub(super) started: Timestamp,
    #[serde(with = "millis", default)]
    pub(super) updated: Timestamp,
    /// The last visit, dispatch, branch and completion that were counted.
    #[serde(default)]
    pub(super) steps_last: u32,
    #[serde(default)]
    pub(super) generation: u32,
    #[serde(default)]
    pub(super) scopes_last: u32,
    #[serde(default)]
    pub(super) completions: u32,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "millis::option"
    )]
    pub(super) timeout: Option<Timestamp>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "millis::option"
    )]
    pub(super) deadline: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) paused: bool,
    /// The deadline passed and a person is to decide.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) overdue: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) pivoted: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) yielded: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) compensating: Option<Compensating>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ended: Option<Ended>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) redrives: u32,
    #[serde(default)]
    pub(super) scopes: BTreeMap<u32, Box<Scope>>,
    /// In boxes, like the scopes: a map has room for eleven in the smallest of its parts, and a saga
    /// that waits has one of each.
    #[serde(default)]
    pub(super) steps: BTreeMap<u32, Box<Step>>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) parked: BTreeSet<u32>,
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(super) signals: VecDeque<(String, Data)>,
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(super) kept: VecDeque<Kept>,
    /// The dispatches of which a stale answer was recorded.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) stale: BTreeSet<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Compensating {
    pub(super) trigger: Trigger,
    pub(super) error: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) cause: String,
    #[serde(with = "millis")]
    pub(super) since: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) status: Status,
    #[serde(with = "millis")]
    pub(super) at: Timestamp,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "some"
    )]
    pub(super) output: Option<Data>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<String>,
}

/// A flow on its way: the top level (0), a branch, an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scope {
    /// The Parallel or Map it belongs to; 0 for the top level.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) parent: u32,
    /// Which branch or item it is.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) index: u32,
    /// Which attempt of the Parallel or Map it belongs to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) round: u32,
    /// The variables that were set in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) variables: BTreeMap<String, Data>,
    pub(super) cursor: Cursor,
    /// What may have to be undone, in the order of completion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) nodes: Vec<u32>,
}

/// Where a flow is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cursor {
    /// Before this state, with this input.
    Before { state: String, input: Data },
    /// In this visit.
    At(u32),
    /// At its end, with this output.
    Ended(Data),
    /// At a failure that is tolerated.
    Failed(Failure),
    /// Not continued.
    Stopped,
}

/// A visit of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Step {
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) scope: u32,
    pub(super) state: String,
    #[serde(with = "millis")]
    pub(super) entered: Timestamp,
    pub(super) input: Data,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) attempt: u32,
    /// How often each retrier was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) retries: Vec<u32>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) undoable: bool,
    /// Whether it is the undo that is under way.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) undo: bool,
    #[serde(default)]
    pub(super) outcome: Known,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "some"
    )]
    pub(super) result: Option<Data>,
    /// Its last dispatch: the only one whose answer may still count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) generation: u32,
    /// The dispatch of a sub-saga that has not told its end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) child: u32,
    /// Whether that sub-saga is the undo of the step.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) child_undo: bool,
    /// Which attempt started it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) child_attempt: u32,
    /// Where it is in the order of completion, once it is a node.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) completion: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fork: Option<Box<Fork>>,
    pub(super) phase: Phase,
}

/// What is known of the effect of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Known {
    /// There is none.
    #[default]
    Nothing,
    /// There may be one.
    Unknown,
    /// There is one.
    Done,
    /// What is inside says it: a Parallel or Map.
    Inside,
}

/// What a visit is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// To be run.
    Ready,
    /// Waits for a slot.
    Held { resource: String, admitted: bool },
    /// A worker or a sub-saga has it.
    Open(Box<Open>),
    /// Waits for its next attempt.
    Backoff {
        #[serde(with = "millis")]
        until: Timestamp,
        retrier: u32,
    },
    /// A Wait.
    Waiting {
        #[serde(with = "millis")]
        until: Timestamp,
    },
    /// Waits for a signal.
    Listening {
        signal: String,
        #[serde(with = "millis::option", default)]
        until: Option<Timestamp>,
    },
    /// Its branches run, or are being undone.
    Inside,
    /// Has its result; what is to be done with it comes next.
    Answered,
    /// Waits for a person.
    Parked {
        reason: ParkReason,
        error: String,
        cause: String,
    },
    /// Was left, or stopped: a node.
    Node,
    /// A node that is undone as a whole although it has branches.
    Whole,
    /// A node whose undo was skipped because nobody knew whether it was done.
    Skipped,
}

/// A dispatch that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) generation: u32,
    #[serde(with = "millis")]
    pub(super) at: Timestamp,
    pub(super) resource: String,
    pub(super) arguments: Data,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) accepted: bool,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "millis::option"
    )]
    pub(super) timeout: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) heartbeat: Option<u64>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "millis::option"
    )]
    pub(super) beat: Option<Timestamp>,
}

/// A Parallel or Map that went into its branches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fork {
    pub(super) round: u32,
    pub(super) width: u32,
    pub(super) input: Data,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) items: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) limit: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tolerated: Option<u32>,
    /// How many branches began, ended, failed in this round.
    #[serde(default)]
    pub(super) begun: u32,
    #[serde(default)]
    pub(super) ended: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) failed: u32,
    /// Every branch that is still known, of all rounds.
    #[serde(default)]
    pub(super) scopes: Vec<u32>,
}

impl Step {
    /// Whether the sub-saga that has not told its end is not what the step waits for as its answer:
    /// it took too long, or the step was stopped.
    pub(super) fn gave_up_its_child(&self) -> bool {
        let waits = matches!(self.phase, Phase::Open(_)) && self.undo == self.child_undo;
        self.child != 0 && !waits
    }

    /// When something is due, if nothing happens before.
    pub(super) fn due(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Open(open) => match (open.timeout, open.beat) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
            // Nothing follows a sub-saga that was given up before it has ended.
            Phase::Backoff { .. } if self.child != 0 => None,
            Phase::Backoff { until, .. } | Phase::Waiting { until } => Some(*until),
            Phase::Listening { until, .. } => *until,
            _ => None,
        }
    }
}

impl Saga {
    /// The saga that these facts add up to.
    pub fn replay<'a>(facts: impl IntoIterator<Item = &'a super::Fact>) -> Self {
        let mut saga = Self::default();
        for fact in facts {
            saga.apply(fact);
        }
        saga
    }

    /// Its identity; `None` before it started.
    pub fn id(&self) -> Option<SagaId> {
        self.state.start.as_ref().map(|start| start.id)
    }

    /// What it began with; `None` before it started.
    pub fn start(&self) -> Option<&Start> {
        self.state.start.as_deref()
    }

    /// When it began.
    pub fn started(&self) -> Timestamp {
        self.state.started
    }

    /// When the last fact came.
    pub fn updated(&self) -> Timestamp {
        self.state.updated
    }

    /// When it ended.
    pub fn ended(&self) -> Option<Timestamp> {
        self.state.ended.as_ref().map(|ended| ended.at)
    }

    /// Where it stands.
    pub fn status(&self) -> Status {
        let state = &self.state;
        if let Some(ended) = &state.ended {
            ended.status
        } else if state.overdue || !state.parked.is_empty() {
            Status::Parked
        } else if state.compensating.is_some() {
            Status::Compensating
        } else {
            Status::Running
        }
    }

    /// Whether an operator paused it.
    pub fn is_paused(&self) -> bool {
        self.state.paused
    }

    /// Whether the pivot is behind it.
    pub fn is_past_pivot(&self) -> bool {
        self.state.pivoted
    }

    /// Whether its undo was begun, also after its end.
    pub fn is_undoing(&self) -> bool {
        self.state.compensating.is_some()
    }

    /// How often it was taken up again after its end.
    pub fn redrives(&self) -> u32 {
        self.state.redrives
    }

    /// Its output, once it completed.
    pub fn output(&self) -> Option<&Data> {
        self.state.ended.as_ref()?.output.as_ref()
    }

    /// The error that ended it or that it is undone for, with its explanation.
    pub fn error(&self) -> Option<(&str, &str)> {
        if let Some(ended) = &self.state.ended {
            let error = ended.error.as_deref()?;
            return Some((error, ended.cause.as_deref().unwrap_or_default()));
        }
        let undo = self.state.compensating.as_ref()?;
        Some((&undo.error, &undo.cause))
    }

    /// A step under way, or one that may have to be undone.
    pub(super) fn step(&self, number: u32) -> Option<&Step> {
        self.state.steps.get(&number).map(AsRef::as_ref)
    }

    /// The branches of a step that has some.
    pub(super) fn fork(&self, number: u32) -> Option<&Fork> {
        self.step(number)?.fork.as_deref()
    }

    /// Whether nothing goes on until a person says so.
    pub(super) fn is_halted(&self) -> bool {
        self.state.paused || self.state.overdue
    }

    /// The earliest moment at which [`super::Input::Tick`] is wanted; it may lie in the past.
    pub fn due(&self) -> Option<Timestamp> {
        let state = &self.state;
        if state.start.is_none() || state.ended.is_some() || self.is_halted() {
            return None;
        }
        if state.yielded {
            return Some(state.updated);
        }
        let first = self.timers.first().map(|(at, _)| *at);
        let limits = [state.timeout, state.deadline].map(|time| time.map(Timestamp::as_millis));
        let forward = state.compensating.is_none();
        let limit = limits.into_iter().flatten().min().filter(|_| forward);
        [first, limit]
            .into_iter()
            .flatten()
            .min()
            .map(Timestamp::from_millis)
    }

    /// The states it is in, for search: every step under way, its undo included.
    pub fn current(&self) -> Vec<CurrentStep> {
        let state = &self.state;
        if state.ended.is_some() {
            return Vec::new();
        }
        let active = state
            .steps
            .iter()
            .filter(|(_, step)| !matches!(step.phase, Phase::Node | Phase::Whole | Phase::Skipped));
        active
            .map(|(number, step)| CurrentStep {
                step: *number,
                name: step.state.clone(),
                attempt: step.attempt,
                undo: step.undo,
                since: step.entered,
                doing: match step.phase {
                    Phase::Answered if step.child != 0 => "aborting",
                    _ => step.phase.word(),
                },
                until: step.due(),
            })
            .collect()
    }

    /// The steps that wait for a person, and why.
    pub fn parked(&self) -> Vec<ParkedStep> {
        let state = &self.state;
        let steps = state.parked.iter().filter_map(|number| {
            let step = state.steps.get(number)?;
            let Phase::Parked {
                reason,
                error,
                cause,
            } = &step.phase
            else {
                return None;
            };
            Some(ParkedStep {
                step: *number,
                name: step.state.clone(),
                undo: step.undo,
                reason: *reason,
                error: error.clone(),
                cause: cause.clone(),
                input: step.input.clone(),
            })
        });
        steps.collect()
    }

    /// Whether the deadline passed and a person is to decide.
    pub fn is_overdue(&self) -> bool {
        self.state.overdue
    }

    /// How many answers wait for the end of a pause.
    pub fn kept(&self) -> usize {
        self.state.kept.len()
    }
}

/// A step under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentStep {
    /// The visit.
    pub step: u32,
    /// The state's name.
    pub name: String,
    /// Which attempt.
    pub attempt: u32,
    /// Whether its undo is under way.
    pub undo: bool,
    /// When the state was entered.
    pub since: Timestamp,
    /// What it does, in one word: `ready`, `held`, `open`, `backoff`, `waiting`, `listening`,
    /// `inside`, `answered`, `parked`, `aborting`.
    pub doing: &'static str,
    /// When that ends, if nothing happens before.
    pub until: Option<Timestamp>,
}

/// A step that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedStep {
    /// The visit.
    pub step: u32,
    /// The state's name.
    pub name: String,
    /// Whether it is its undo.
    pub undo: bool,
    /// Why it is parked.
    pub reason: ParkReason,
    /// The error's name.
    pub error: String,
    /// The explanation.
    pub cause: String,
    /// Its input, which may be edited.
    pub input: Data,
}

impl Phase {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Held {
                admitted: false, ..
            } => "held",
            // One that is held and was admitted has its slot, and only waits to go out.
            Self::Ready | Self::Held { .. } => "ready",
            Self::Open(_) => "open",
            Self::Backoff { .. } => "backoff",
            Self::Waiting { .. } => "waiting",
            Self::Listening { .. } => "listening",
            Self::Inside => "inside",
            Self::Answered => "answered",
            Self::Parked { .. } => "parked",
            Self::Node | Self::Whole => "done",
            Self::Skipped => "skipped",
        }
    }
}

impl Serialize for Saga {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.state.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Saga {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let state = State::deserialize(deserializer)?;
        let steps = state.steps.iter();
        let timers = steps.filter_map(|(number, step)| Some((step.due()?.as_millis(), *number)));
        let timers = timers.collect();
        Ok(Self { state, timers })
    }
}

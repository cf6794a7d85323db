//! The judge: runs the plan, compares every run with the golden one, shrinks what fails.
//!
//! The golden run delivers each message once, in order. It is made twice, because effects that
//! differ by themselves (times, random ids) could not be judged. While shrinking, what is expected
//! of some of the messages is a golden run of those.

use std::collections::HashMap;
use std::fmt;

use wharf_message::Message;

use super::effects::{Diff, Ignored, Normal};
use super::fault::{Fault, Faults};
use super::plan::{NEAR, Trial, permits, plan};
use super::report::{Case, Failure, Outcome, Report, Verdict};
use super::run::run;
use super::schedule::{Schedule, Step};
use super::shrink::{Shrunk, shrink};
use super::subject::Subject;

/// How to judge.
#[derive(Clone, Debug)]
pub struct Options {
    /// The consumer's name in reports.
    pub name: String,
    /// Which faults it has to bear, if the subject can have them at all.
    pub faults: Faults,
    /// What the mixtures come from.
    pub seed: u64,
    /// How many mixtures are tried.
    pub runs: usize,
    /// In how many places in the middle of a delivery the consumer is killed.
    pub waits: u32,
    /// How often the consumer is killed in one schedule, at most. Each time costs a start of it.
    pub crashes_max: usize,
    /// How many schedules are tried at most to find the shortest.
    pub shrink_runs_max: usize,
    /// Which fields are not compared.
    pub ignored: Ignored,
    /// Duplicates need to be recognised after at most so many different other messages; `None`
    /// means always.
    pub window: Option<usize>,
    /// Only this schedule is run.
    pub replay: Option<Schedule>,
}

impl Options {
    /// Every fault but reordering within a key, 50 mixtures of seed 1.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            faults: Faults::all().without(Fault::ReorderWithinKey),
            seed: 1,
            runs: 50,
            waits: 8,
            crashes_max: usize::MAX,
            shrink_runs_max: 500,
            ignored: Ignored::nothing(),
            window: None,
            replay: None,
        }
    }
}

/// What the judge is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Each message is delivered once, in order.
    Golden,
    /// A schedule is run.
    Trial {
        /// Which, from 1.
        number: usize,
        /// How many there are.
        of: usize,
        /// What it is to show.
        class: &'a str,
        /// The schedule.
        schedule: &'a Schedule,
    },
    /// A schedule failed and is made shorter.
    Failed {
        /// The schedule.
        schedule: &'a Schedule,
    },
    /// A shorter one is tried.
    Shrinking {
        /// The schedule.
        schedule: &'a Schedule,
    },
}

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The consumer could not be run.
    Subject(E),
    /// There is no message to deliver.
    NoMessages,
    /// A consumer without effects cannot be judged by them.
    NoEffects,
    /// It does not handle messages that are delivered once, in order.
    GivenUp(String),
    /// Two golden runs have different effects.
    Unstable {
        /// How they differ.
        diff: Diff,
        /// The fields that do.
        fields: Vec<String>,
    },
    /// The schedule to replay names a message that there is not.
    UnknownMessage {
        /// Its number, from 1.
        number: usize,
        /// How many there are.
        messages: usize,
    },
    /// The schedule to replay needs a fault that this consumer cannot have here.
    Impossible(Fault),
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(error) => write!(formatter, "the consumer could not be run: {error}"),
            Self::NoMessages => formatter.write_str("there is no message to deliver"),
            Self::NoEffects => formatter.write_str(
                "delivering each message once has no effect that can be seen: nothing can be \
                 judged. Show the rows, messages or calls that come of them",
            ),
            Self::GivenUp(which) => write!(
                formatter,
                "delivered once, in order, these messages are not handled: {which}"
            ),
            Self::Unstable { diff, fields } => {
                writeln!(
                    formatter,
                    "delivering each message once has other effects every time: nothing can be judged"
                )?;
                write!(formatter, "{diff}")?;
                match fields.as_slice() {
                    [] => formatter.write_str(
                        "Does every run begin with a clean state (rows of an earlier run removed)?",
                    ),
                    fields => write!(
                        formatter,
                        "Ignore what differs by itself: {}",
                        fields.join(", ")
                    ),
                }
            }
            Self::UnknownMessage { number, messages } => {
                write!(
                    formatter,
                    "the schedule names message {number} of {messages}"
                )
            }
            Self::Impossible(fault) => {
                write!(
                    formatter,
                    "the schedule needs a fault that cannot be made here: {fault}"
                )
            }
        }
    }
}

impl<E: fmt::Display + fmt::Debug> std::error::Error for Error<E> {}

/// Judges a consumer by its effects.
///
/// ```
/// use std::convert::Infallible;
/// use wharf::Message;
/// use wharf::testing::duplicates::{
///     Effects, Fault, Faults, Given, How, Options, Subject, Verdict, judge,
/// };
///
/// /// A consumer that cannot be killed and counts everything it gets.
/// #[derive(Default)]
/// struct Counter(u64);
///
/// impl Subject for Counter {
///     type Error = Infallible;
///
///     fn faults(&self) -> Faults {
///         Faults::NONE.with(Fault::Copy)
///     }
///
///     async fn reset(&mut self) -> Result<(), Infallible> {
///         self.0 = 0;
///         Ok(())
///     }
///
///     async fn deliver(&mut self, _: &Given, _: How) -> Result<(), Infallible> {
///         self.0 += 1;
///         Ok(())
///     }
///
///     async fn effects(&mut self) -> Result<Effects, Infallible> {
///         Ok(Effects::new().row("count", self.0))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), wharf::testing::duplicates::Error<Infallible>> {
/// let messages = [Message::new("one"), Message::new("two")];
/// let options = Options::new("counter");
/// let report = judge(&mut Counter::default(), &messages, &options, &mut |_| {}).await?;
/// assert_eq!(report.verdict, Verdict::NotIdempotent);
/// assert!(report.to_junit(std::time::Duration::ZERO).contains("1 1+"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// When there can be no verdict; see [`Error`].
pub async fn judge<S: Subject>(
    subject: &mut S,
    messages: &[Message],
    options: &Options,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, Error<S::Error>> {
    if messages.is_empty() {
        return Err(Error::NoMessages);
    }
    let faults = options.faults.and(subject.faults());
    let trials = match &options.replay {
        Some(schedule) => vec![replay(schedule, messages, subject.faults())?],
        None => plan(messages, faults, options),
    };
    let mut judge = Judge {
        subject,
        messages,
        options,
        faults,
        golden: HashMap::new(),
        runs: 0,
        watch,
    };
    judge.stable().await?;
    let mut report = Report::begin(options, messages, faults);
    let number = trials.len();
    for (at, trial) in trials.iter().enumerate() {
        let case = report.case(trial.class);
        if report.verdict == Verdict::NotIdempotent || report.tolerates(&trial.schedule) {
            continue;
        }
        (judge.watch)(Progress::Trial {
            number: at + 1,
            of: number,
            class: trial.class,
            schedule: &trial.schedule,
        });
        let diff = judge.diff(&trial.schedule).await.map_err(Error::Subject)?;
        report.cases[case].schedules += 1;
        if diff.is_empty() {
            report.farthest = report.farthest.max(trial.schedule.distance());
            continue;
        }
        (judge.watch)(Progress::Failed {
            schedule: &trial.schedule,
        });
        let failure = judge
            .explain(&trial.schedule, diff)
            .await
            .map_err(Error::Subject)?;
        report.fail(case, failure);
    }
    report.runs = judge.runs;
    Ok(report)
}

fn replay<E>(schedule: &Schedule, messages: &[Message], faults: Faults) -> Result<Trial, Error<E>> {
    let unknown = schedule
        .messages()
        .into_iter()
        .find(|one| *one >= messages.len());
    if let Some(unknown) = unknown {
        return Err(Error::UnknownMessage {
            number: unknown + 1,
            messages: messages.len(),
        });
    }
    let schedule = schedule.clone().repair();
    match schedule
        .needs()
        .into_iter()
        .find(|fault| !faults.has(*fault))
    {
        Some(fault) => Err(Error::Impossible(fault)),
        None => Ok(Trial {
            class: "replay",
            schedule,
        }),
    }
}

struct Judge<'a, S> {
    subject: &'a mut S,
    messages: &'a [Message],
    options: &'a Options,
    faults: Faults,
    /// What comes of some of the messages, each delivered once.
    golden: HashMap<Vec<usize>, Normal>,
    runs: usize,
    watch: &'a mut dyn FnMut(Progress<'_>),
}

impl<S: Subject> Judge<'_, S> {
    async fn run(&mut self, schedule: &Schedule) -> Result<Normal, S::Error> {
        self.runs += 1;
        run(self.subject, self.messages, schedule, &self.options.ignored).await
    }

    /// Makes sure that there are effects and that they are the same every time.
    async fn stable(&mut self) -> Result<(), Error<S::Error>> {
        let all: Vec<usize> = (0..self.messages.len()).collect();
        (self.watch)(Progress::Golden);
        let first = self.golden(&all).await.map_err(Error::Subject)?;
        if let Some(which) = first.given_up() {
            return Err(Error::GivenUp(which));
        }
        let second = self
            .run(&Schedule::golden(&all))
            .await
            .map_err(Error::Subject)?;
        if first.is_empty() {
            return Err(Error::NoEffects);
        }
        let diff = first.diff(&second);
        if diff.is_empty() {
            return Ok(());
        }
        let fields = volatile(&diff);
        Err(Error::Unstable { diff, fields })
    }

    async fn golden(&mut self, messages: &[usize]) -> Result<Normal, S::Error> {
        if let Some(known) = self.golden.get(messages) {
            return Ok(known.clone());
        }
        let effects = self.run(&Schedule::golden(messages)).await?;
        self.golden.insert(messages.to_vec(), effects.clone());
        Ok(effects)
    }

    async fn diff(&mut self, schedule: &Schedule) -> Result<Diff, S::Error> {
        let expected = self.golden(&schedule.messages()).await?;
        let found = self.run(schedule).await?;
        Ok(expected.diff(&found))
    }

    async fn explain(&mut self, schedule: &Schedule, diff: Diff) -> Result<Failure, S::Error> {
        let (messages, faults) = (self.messages, self.faults);
        let permits = |candidate: &Schedule| permits(messages, faults, candidate);
        let runs_max = self.options.shrink_runs_max;
        let mut last = diff;
        let shrunk = shrink(schedule.clone(), permits, runs_max, async |candidate| {
            (self.watch)(Progress::Shrinking {
                schedule: candidate,
            });
            let diff = self.diff(candidate).await?;
            let fails = !diff.is_empty();
            if fails {
                last = diff;
            }
            Ok(fails)
        });
        let Shrunk {
            schedule: minimal,
            runs,
        } = shrunk.await?;
        Ok(Failure {
            explained: minimal.explain(self.messages),
            found: schedule.clone(),
            minimal,
            shrink_runs: runs,
            diff: last,
        })
    }
}

/// The fields by which things differ that are the same otherwise.
fn volatile(diff: &Diff) -> Vec<String> {
    let things = |missing: bool| {
        let of = diff
            .0
            .iter()
            .filter(move |one| (one.expected > one.found) == missing);
        of.filter_map(|one| serde_json::from_str(&one.thing).ok())
            .collect::<Vec<_>>()
    };
    let (expected, found) = (things(true), things(false));
    let mut fields = Vec::new();
    if expected.len() == found.len() {
        expected
            .iter()
            .zip(&found)
            .for_each(|(one, other)| compare("", one, other, &mut fields));
    }
    fields.sort_unstable();
    fields.dedup();
    fields
}

fn compare(
    path: &str,
    one: &serde_json::Value,
    other: &serde_json::Value,
    fields: &mut Vec<String>,
) {
    use serde_json::Value::Object;
    match (one, other) {
        (Object(one), Object(other)) => {
            for (name, value) in one {
                let dot = if path.is_empty() { "" } else { "." };
                let other = other.get(name).unwrap_or(&serde_json::Value::Null);
                compare(&format!("{path}{dot}{name}"), value, other, fields);
            }
        }
        _ if one != other && !path.is_empty() => fields.push(path.to_owned()),
        _ => {}
    }
}

impl Report {
    fn begin(options: &Options, messages: &[Message], faults: Faults) -> Self {
        Self {
            name: options.name.clone(),
            seed: options.seed,
            messages: messages.len(),
            verdict: match options.window {
                Some(others) => Verdict::WithinWindow {
                    others,
                    declared: true,
                },
                None => Verdict::Idempotent,
            },
            untested: Fault::ALL
                .into_iter()
                .filter(|fault| !faults.has(*fault))
                .collect(),
            cases: Vec::new(),
            runs: 0,
            farthest: 0,
        }
    }

    fn case(&mut self, class: &str) -> usize {
        self.cases
            .iter()
            .position(|case| case.class == class)
            .unwrap_or_else(|| {
                let case = Case {
                    class: class.to_owned(),
                    schedules: 0,
                    outcome: Outcome::Passed,
                };
                self.cases.push(case);
                self.cases.len() - 1
            })
    }

    /// Whether it is known already that duplicates as late as in this schedule are not recognised.
    fn tolerates(&self, schedule: &Schedule) -> bool {
        match self.verdict {
            Verdict::WithinWindow { others, .. } => {
                schedule.distance() > others || schedule.steps.contains(&Step::Window)
            }
            Verdict::Idempotent | Verdict::NotIdempotent => false,
        }
    }

    fn fail(&mut self, case: usize, failure: Failure) {
        let distance = failure.minimal.distance();
        let window = failure.minimal.steps.contains(&Step::Window);
        let late = failure.minimal.twist.is_none() && (window || distance > NEAR);
        self.verdict = if late {
            let others = if window { self.farthest } else { distance - 1 };
            Verdict::WithinWindow {
                others,
                declared: false,
            }
        } else {
            Verdict::NotIdempotent
        };
        self.cases[case].outcome = Outcome::Failed(Box::new(failure));
    }
}

//! What came of it: the verdict, what was tried, the shortest schedule that fails.

use std::fmt;

use super::effects::Diff;
use super::fault::Fault;
use super::schedule::Schedule;

/// The judgement of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Whatever was tried, the effects were those of delivering each message once.
    Idempotent,
    /// The same, as long as duplicates come within a window.
    WithinWindow {
        /// After at most so many different other messages a duplicate was recognised.
        others: usize,
        /// Whether it was said that no more is needed; nothing later was tried then.
        declared: bool,
    },
    /// Duplicates, crashes or another order change its effects.
    NotIdempotent,
}

impl Verdict {
    /// Whether the consumer is as it should be: idempotent, or within the window that was declared.
    pub fn is_good(self) -> bool {
        matches!(
            self,
            Self::Idempotent | Self::WithinWindow { declared: true, .. }
        )
    }

    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idempotent => "idempotent",
            Self::WithinWindow { .. } => "idempotent-within-window",
            Self::NotIdempotent => "not-idempotent",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idempotent => formatter.write_str("idempotent"),
            Self::WithinWindow { others, .. } => {
                write!(
                    formatter,
                    "idempotent within a window of {others} other messages"
                )
            }
            Self::NotIdempotent => formatter.write_str("not idempotent"),
        }
    }
}

/// What came of the schedules of one kind.
#[derive(Clone, Debug)]
pub struct Case {
    /// The kind.
    pub class: String,
    /// How many of its schedules were run.
    pub schedules: usize,
    /// Whether they passed.
    pub outcome: Outcome,
}

/// Whether the schedules of a case passed.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All that were run did.
    Passed,
    /// One did not.
    Failed(Box<Failure>),
}

/// A schedule with other effects than it should have.
#[derive(Clone, Debug)]
pub struct Failure {
    /// As it was found.
    pub found: Schedule,
    /// The shortest that fails too.
    pub minimal: Schedule,
    /// What happens in it, for people.
    pub explained: Vec<String>,
    /// How many schedules were tried to find it.
    pub shrink_runs: usize,
    /// How the effects of the shortest differ.
    pub diff: Diff,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "The shortest schedule that shows it:\n\n    {}\n",
            self.minimal
        )?;
        for (at, line) in self.explained.iter().enumerate() {
            writeln!(formatter, "  {}. {line}", at + 1)?;
        }
        writeln!(
            formatter,
            "\nIts effects beside those of delivering each message once (- lacks, + has too much):\n"
        )?;
        self.diff
            .to_string()
            .lines()
            .try_for_each(|line| writeln!(formatter, "  {line}"))
    }
}

/// What came of it all.
#[derive(Clone, Debug)]
pub struct Report {
    /// The consumer's name.
    pub name: String,
    /// The seed of the mixtures.
    pub seed: u64,
    /// How many messages there were.
    pub messages: usize,
    /// The judgement.
    pub verdict: Verdict,
    /// What was tried.
    pub cases: Vec<Case>,
    /// The faults that were not tried: impossible here, or not asked for.
    pub untested: Vec<Fault>,
    /// How often the consumer was run, golden runs and shrinking included.
    pub runs: usize,
    /// After how many different other messages a duplicate was still recognised, at most.
    pub farthest: usize,
}

impl Report {
    /// The failures, in the order in which they were found.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.cases.iter().filter_map(|case| match &case.outcome {
            Outcome::Failed(failure) => Some(&**failure),
            Outcome::Passed => None,
        })
    }

    /// The failure that decided: the last one found.
    pub fn failure(&self) -> Option<&Failure> {
        let nearest = self
            .failures()
            .filter(|one| one.minimal.distance() <= super::plan::NEAR);
        nearest.last().or(self.failures().last())
    }

    /// As a document for programs.
    pub fn to_json(&self) -> serde_json::Value {
        let cases = self.cases.iter().map(|case| {
            let failure = match &case.outcome {
                Outcome::Passed => serde_json::Value::Null,
                Outcome::Failed(failure) => serde_json::json!({
                    "found": failure.found.to_string(),
                    "schedule": failure.minimal.to_string(),
                    "steps": failure.explained,
                    "shrink_runs": failure.shrink_runs,
                    "differences": failure.diff,
                }),
            };
            serde_json::json!({"name": case.class, "schedules": case.schedules, "failure": failure})
        });
        let window = match self.verdict {
            Verdict::WithinWindow { others, .. } => Some(others),
            Verdict::Idempotent | Verdict::NotIdempotent => None,
        };
        serde_json::json!({
            "consumer": self.name,
            "verdict": self.verdict.name(),
            "good": self.verdict.is_good(),
            "window": window,
            "messages": self.messages,
            "seed": self.seed,
            "runs": self.runs,
            "farthest_duplicate": self.farthest,
            "cases": cases.collect::<Vec<_>>(),
            "not_tried": self.untested.iter().map(|fault| fault.name()).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{} is {}.", self.name, self.verdict)?;
        if let Some(failure) = self.failure() {
            write!(formatter, "\n{failure}")?;
        }
        writeln!(formatter)?;
        for case in &self.cases {
            let mark = match (&case.outcome, case.schedules) {
                (Outcome::Failed(_), _) => "FAIL",
                (Outcome::Passed, 0) => "-",
                (Outcome::Passed, _) => "ok",
            };
            writeln!(
                formatter,
                "  {mark:<4}  {} ({})",
                case.class,
                schedules(case.schedules)
            )?;
        }
        let untested: Vec<&str> = self.untested.iter().map(|fault| fault.name()).collect();
        if !untested.is_empty() {
            writeln!(formatter, "  not tried: {}", untested.join(", "))?;
        }
        writeln!(
            formatter,
            "\n{} runs with {} messages, seed {}; duplicates came after up to {} other messages.",
            self.runs, self.messages, self.seed, self.farthest
        )
    }
}

fn schedules(count: usize) -> String {
    match count {
        0 => "not run".to_owned(),
        1 => "1 schedule".to_owned(),
        _ => format!("{count} schedules"),
    }
}

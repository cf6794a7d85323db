//! What must hold of sagas and of the books of the banks: pure, so that every way to break a promise
//! has a test.
//!
//! It knows the definitions, what clients and operators were told, what the API says, and the books;
//! it knows nothing of the orchestrator.

mod effects;
pub(super) mod moments;
mod served;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wharf_saga::machine::{Dispatched, Fact, Outcome, Undone, What};

use super::bank::Books;
use super::machines;

/// Type and key of a saga.
pub(super) type Name = (String, String);

/// What became of something that was asked for, as far as whoever asked knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Accepted,
    Refused,
    Unknown,
}

/// What clients and operators know.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Every saga that anybody ever asked for, with its input.
    pub(super) asked: BTreeMap<Name, Value>,
    /// The ids that were answered.
    pub(super) answered: BTreeMap<Name, String>,
    /// Sagas whose start is a record that was acknowledged.
    pub(super) recorded: BTreeSet<Name>,
    /// By its number, the saga that a signal was sent to, and what became of it.
    pub(super) signals: BTreeMap<u64, (String, Fate)>,
    /// By its reason, which is unique, what became of an operator's action.
    pub(super) acts: BTreeMap<String, Fate>,
    /// What was seen to be wrong meanwhile.
    pub(super) violations: Vec<String>,
}

/// A saga as it is served.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// As the list has it.
    pub(super) row: Value,
    /// As it is shown alone.
    pub(super) shown: Value,
    pub(super) facts: Vec<Fact>,
}

/// A command in a topic: saga, step, generation, and whether it is the undo.
pub(super) type Sent = (String, u32, u32, bool);
/// An alarm: saga, step and reason.
pub(super) type Alarm = (String, Option<u32>, String);

/// Everything that is looked at, with nothing under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    pub(super) known: Known,
    pub(super) sagas: BTreeMap<String, Seen>,
    pub(super) books: Vec<Books>,
    /// What was in the accounts at first.
    pub(super) opening: BTreeMap<String, i64>,
    pub(super) commands: Vec<Sent>,
    pub(super) alarms: Vec<Alarm>,
    /// The reasons of the actions in the audit topic.
    pub(super) audit: Vec<String>,
    /// The metric of parked sagas.
    pub(super) parked: u64,
}

/// What is known of whether a step was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Done {
    #[default]
    No,
    Perhaps,
    Yes,
}

/// A step with a worker, out of the facts.
#[derive(Clone, Debug, Default)]
struct Step {
    name: String,
    /// Generations that went out.
    sent: Vec<u32>,
    undo_sent: Vec<u32>,
    done: Done,
    /// What its worker answered.
    said: Option<Value>,
    undone: Option<Undone>,
    /// It was skipped or marked by an operator.
    by_hand: bool,
    /// Its work is a saga of its own.
    is_saga: bool,
}

/// A saga out of its facts.
#[derive(Clone, Debug, Default)]
struct Story {
    steps: BTreeMap<u32, Step>,
    turned: bool,
    ends: usize,
    redrives: usize,
    commands: Vec<Sent>,
    parked: Vec<Alarm>,
    acts: Vec<String>,
    wrong: Vec<String>,
}

impl Story {
    fn of(id: &str, seen: &Seen) -> Self {
        let mut story = Self::default();
        for fact in &seen.facts {
            story.take(id, &fact.what);
        }
        story.steps.retain(|_, step| !step.sent.is_empty());
        story
    }

    fn take(&mut self, id: &str, what: &What) {
        match what {
            What::Entered { step, state, .. } => {
                self.steps.entry(*step).or_default().name.clone_from(state);
            }
            What::Dispatched(sent) => self.sent(id, sent),
            What::Succeeded {
                step,
                generation,
                output,
            } => {
                let step = self.steps.entry(*step).or_default();
                step.done = Done::Yes;
                step.by_hand |= *generation == 0;
                step.said = Some(output.value().clone());
            }
            What::Failed(failed) if !failed.undo && failed.declared => {
                let step = self.steps.entry(failed.step).or_default();
                if step.done == Done::Perhaps {
                    step.done = Done::No;
                }
            }
            What::Late { step, outcome, .. } => {
                let step = self.steps.entry(*step).or_default();
                match outcome {
                    Outcome::Success(output) => {
                        step.done = Done::Yes;
                        step.said = Some(output.value().clone());
                    }
                    Outcome::Failure(failure) if failure.declared && step.done != Done::Yes => {
                        step.done = Done::No;
                    }
                    _ => {}
                }
            }
            What::Undone { step, how, .. } => {
                let step = self.steps.entry(*step).or_default();
                if step.undone.replace(*how).is_some() {
                    self.wrong.push(format!("{} is undone twice", step.name));
                }
            }
            What::Left(left) => {
                let step = self.steps.entry(left.step).or_default();
                step.by_hand |= step.done != Done::Yes;
            }
            What::Compensating { .. } => self.turned = true,
            What::Parked { step, reason, .. } => {
                self.parked.push((id.to_owned(), *step, reason.to_string()));
            }
            What::Acted(order) => self.acts.push(order.reason.clone()),
            What::Redriven { .. } => self.redrives += 1,
            What::Ended { .. } => self.ends += 1,
            _ => {}
        }
    }

    fn sent(&mut self, id: &str, sent: &Dispatched) {
        let Dispatched {
            step: number,
            generation,
            undo,
            ..
        } = *sent;
        if sent.resource == format!("wharf:topic:{}", machines::NORTH) {
            self.commands
                .push((id.to_owned(), number, generation, undo));
        }
        let step = self.steps.entry(number).or_default();
        step.is_saga |= sent.resource.starts_with("wharf:saga:");
        if undo {
            if step.done == Done::No {
                let text = format!("{} was declined, and is undone", step.name);
                self.wrong.push(text);
            }
            if machines::is_forward_only(&step.name) || !self.turned {
                self.wrong.push(format!("{} must not be undone", step.name));
            }
            step.undo_sent.push(generation);
            return;
        }
        if self.turned {
            self.wrong
                .push(format!("{} goes forward after the turn", step.name));
        }
        if step.done == Done::No {
            step.done = Done::Perhaps;
        }
        step.sent.push(generation);
    }
}

/// How a saga stands, by the API.
fn status(seen: &Seen) -> &str {
    seen.shown["status"].as_str().unwrap_or_default()
}

/// Everything, each check by its name with what it found.
pub(super) fn all(evidence: &Evidence) -> Vec<(&'static str, Vec<String>)> {
    let stories: BTreeMap<&str, Story> = evidence
        .sagas
        .iter()
        .map(|(id, seen)| (id.as_str(), Story::of(id, seen)))
        .collect();
    let wrong = stories.iter().flat_map(|(id, story)| {
        let wrong = story.wrong.iter();
        wrong.map(move |wrong| format!("{id}: {wrong}"))
    });
    vec![
        ("what was seen meanwhile", evidence.known.violations.clone()),
        ("every start is one saga", served::starts(evidence)),
        (
            "every saga ended or is parked",
            served::ends(evidence, &stories),
        ),
        ("no step is out of turn", wrong.collect()),
        (
            "lists and pages agree with the history",
            served::pages(evidence),
        ),
        (
            "every dispatch is one command",
            served::commands(evidence, &stories),
        ),
        (
            "every parking is one alarm",
            served::alarms(evidence, &stories),
        ),
        (
            "every action is recorded once",
            served::acts(evidence, &stories),
        ),
        (
            "every effect is there once",
            effects::once(evidence, &stories),
        ),
        (
            "exactly what was done is undone",
            effects::undone(evidence, &stories),
        ),
        (
            "sub-sagas are as their parents say",
            served::children(evidence, &stories),
        ),
        ("every signal is there", moments::signals(evidence)),
        (
            "deadlines and ends are in time",
            moments::deadlines(evidence),
        ),
        (
            "steps and undos are in order",
            effects::order(evidence, &stories),
        ),
        (
            "balances are the model's",
            effects::balances(evidence, &stories),
        ),
        ("the sum never changes", effects::sum(evidence, &stories)),
    ]
}

//! Random machines with random outcomes, duplicates, delays, pauses and people: what must hold of
//! every saga holds of each.

use proptest::prelude::*;
use serde_json::json;
use wharf_saga::definition::Definition;
use wharf_saga::machine::{Action, Command, Data, Input, Mark, Outcome, Status};
use wharf_saga::testing::{Draw, Oracle, machine};

use super::kit::{Kit, failure};

/// After so many inputs everything goes well, so that the saga must end.
const ROUGH: usize = 60;

struct World {
    kit: Kit,
    oracle: Oracle,
    draw: Draw,
    seed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let value = machine(seed);
        let accepted = Definition::of(&value)
            .unwrap_or_else(|problems| panic!("seed {seed}: {problems}\n{value}"));
        let oracle = Oracle::new(&accepted.definition.machine);
        Self {
            kit: Kit::of(accepted.definition),
            oracle,
            draw: Draw::new(seed ^ 0xabcd),
            seed,
        }
    }

    fn give(&mut self, input: &Input) -> bool {
        let Ok(decision) = self.kit.give(input.clone()) else {
            return false;
        };
        if let Err(broken) = self.oracle.observe(input, &decision) {
            panic!("seed {}: {}\n{}", self.seed, broken.0, self.kit.told);
        }
        true
    }

    fn reply(&mut self, command: &Command, outcome: Outcome) -> bool {
        self.give(&Input::Reply {
            step: command.step,
            generation: command.generation,
            outcome,
        })
    }

    fn outcome(&mut self, rough: bool) -> Outcome {
        if !rough {
            return Outcome::Success(Data::from(json!({ "ok": true })));
        }
        match self.draw.below(10) {
            0 => failure("Declined", true),
            1 | 2 => failure("Broken", false),
            3 => Outcome::Heartbeat,
            _ => Outcome::Success(Data::from(json!([1, 2.5, { "x": null }]))),
        }
    }

    /// One thing happens.
    fn happen(&mut self, rough: bool) {
        let open = self.kit.saga.open();
        let held: Vec<u32> = open
            .iter()
            .filter(|task| task.held)
            .map(|task| task.command.step)
            .collect();
        let sent: Vec<Command> = open
            .into_iter()
            .filter(|task| !task.held)
            .map(|task| task.command)
            .collect();
        let kind = if rough { self.draw.below(14) } else { 14 };
        match kind {
            0 if !self.kit.commands.is_empty() => {
                // An old answer again.
                let at = self.draw.below(self.kit.commands.len());
                let (old, outcome) = (self.kit.commands[at].clone(), self.outcome(true));
                self.reply(&old, outcome);
            }
            1 if self.draw.chance(30) => {
                self.act(Action::Pause);
            }
            2 => {
                self.act(Action::Resume);
            }
            3 if self.draw.chance(10) => {
                self.act(Action::Abort);
            }
            4 | 5 => self.tick(),
            _ => {
                let parked = self.kit.saga.parked();
                if !rough && (self.kit.saga.is_paused() || self.kit.saga.is_overdue()) {
                    self.act(Action::Resume);
                } else if let Some(step) = held.first() {
                    self.give(&Input::Admit { step: *step });
                } else if !parked.is_empty() && (sent.is_empty() || self.draw.chance(50)) {
                    self.repair(&parked[0], rough);
                } else if sent.is_empty() {
                    self.tick();
                } else {
                    let at = self.draw.below(sent.len());
                    let outcome = self.outcome(rough);
                    self.reply(&sent[at], outcome);
                }
            }
        }
    }

    fn repair(&mut self, parked: &wharf_saga::machine::ParkedStep, rough: bool) {
        let step = Some(parked.step);
        let done = Mark::Completed {
            output: Data::from(json!({ "by": "hand" })),
        };
        let unknown = parked.error == "Saga.OutcomeUnknown";
        let action = match self.draw.below(if rough { 4 } else { 2 }) {
            0 if !unknown => Action::Retry { step },
            2 if parked.undo => Action::Mark {
                step,
                mark: Mark::Compensated,
            },
            3 if !parked.undo => Action::Skip {
                step,
                output: Data::from(json!({})),
            },
            _ => Action::Mark { step, mark: done },
        };
        if !self.act(action) {
            self.act(Action::Retry { step });
        }
    }

    fn act(&mut self, action: Action) -> bool {
        self.give(&Input::Operator(wharf_saga::machine::Order {
            action,
            by: "ann".to_owned(),
            reason: String::new(),
        }))
    }

    fn tick(&mut self) {
        if let Some(due) = self.kit.saga.due() {
            self.kit.now = self.kit.now.max(due.as_millis());
            self.give(&Input::Tick);
        }
    }

    fn run(&mut self) {
        self.kit.start(json!({ "n": 1 }));
        let facts = self.kit.facts.clone();
        let input = Input::Tick;
        let decision = wharf_saga::machine::Decision { facts };
        self.oracle
            .observe(&input, &decision)
            .expect("the start breaks nothing");
        for turn in 0..2_000 {
            if self.oracle.ended().is_some() {
                break;
            }
            self.happen(turn < ROUGH);
        }
        assert!(
            self.oracle.ended().is_some(),
            "seed {}: it does not end; it is {:?} and {}\n{}",
            self.seed,
            self.kit.saga.current(),
            self.kit.status(),
            self.kit.told,
        );
        assert_eq!(self.oracle.ended(), Some(self.kit.status()));
        assert!(self.kit.saga.open().is_empty() && self.kit.saga.due().is_none());
        let completed = self.kit.status() == Status::Completed;
        assert_eq!(completed, self.kit.saga.output().is_some());
        let rows = wharf_saga::machine::timeline(&self.kit.facts);
        let attempts = rows
            .iter()
            .filter(|row| row.generation != 0 && row.what == "attempt");
        assert_eq!(
            attempts.count(),
            self.kit.commands.len(),
            "every attempt has its row"
        );
    }
}

proptest! {
    #[test]
    fn every_saga_ends_with_exactly_the_right_steps_undone_in_the_right_order(seed: u64) {
        World::new(seed).run();
    }
}

#[test]
fn seeds_that_once_broke_a_promise_keep_it() {
    for seed in [
        14_049_154_493_074_752_725,
        17_289_835_810_150_996_036,
        17_289_910_010_457_891_132,
    ] {
        World::new(seed).run();
    }
}

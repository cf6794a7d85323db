//! A saga under test: every input is checked for replay equivalence, and what comes of it is told
//! in lines that people read.

use serde_json::{Value, json};
use wharf_message::Timestamp;
use wharf_saga::definition::Definition;
use wharf_saga::machine::{
    Action, Command, Data, Decision, Effect, Env, Failure, Input, Order, Outcome, Refusal, Saga,
    SagaId, Start, Status, decide, step,
};

pub(super) struct Kit {
    pub(super) definition: Definition,
    pub(super) saga: Saga,
    pub(super) facts: Vec<wharf_saga::machine::Fact>,
    pub(super) now: i64,
    pub(super) seed: u64,
    pub(super) told: String,
    pub(super) commands: Vec<Command>,
    pub(super) effects: Vec<Effect>,
    pub(super) payload_max: usize,
}

impl Kit {
    pub(super) fn new(definition: &Value) -> Self {
        let accepted = Definition::of(definition).unwrap_or_else(|problems| panic!("{problems}"));
        Self::of(accepted.definition)
    }

    pub(super) fn of(definition: Definition) -> Self {
        Self {
            definition,
            saga: Saga::default(),
            facts: Vec::new(),
            now: 1_795_320_000_000,
            seed: 7,
            told: String::new(),
            commands: Vec::new(),
            effects: Vec::new(),
            payload_max: 256 * 1024,
        }
    }

    pub(super) fn begin(definition: &Value, input: Value) -> Self {
        let mut kit = Self::new(definition);
        kit.start(input);
        kit
    }

    pub(super) fn start(&mut self, input: Value) {
        let start = Start {
            id: SagaId::of("test", "one"),
            saga_type: "test".to_owned(),
            definition: self.definition.hash,
            key: "one".to_owned(),
            input: input.into(),
            correlation: None,
            traceparent: None,
            attributes: std::collections::BTreeMap::new(),
            parent: None,
        };
        self.give(Input::Start(start)).expect("it is well");
    }

    /// Gives an input; the state must come out the same however it is made.
    pub(super) fn give(&mut self, input: Input) -> Result<Decision, Refusal> {
        self.tell(&format!("> {}", line_of(&input)));
        self.seed += 1;
        let env = Env {
            payload_max: self.payload_max,
            ..Env::at(Timestamp::from_millis(self.now), self.seed)
        };
        let before = self.saga.clone();
        let pure = decide(&self.definition, &self.saga, input.clone(), &env);
        let decided = step(&self.definition, &mut self.saga, input, &env);
        assert_eq!(pure, decided, "in place and pure decide the same");
        let decision = match decided {
            Ok(decision) => decision,
            Err(refusal) => {
                assert_eq!(before, self.saga, "a refusal changes nothing");
                self.tell(&format!("  refused: {refusal}"));
                return Err(refusal);
            }
        };
        for fact in &decision.facts {
            let text = serde_json::to_string(fact).expect("it is well");
            assert_eq!(
                &serde_json::from_str::<wharf_saga::machine::Fact>(&text).expect("it is well"),
                fact
            );
            let what = serde_json::to_string(&fact.what).expect("it is well");
            self.tell(&format!("  {what}"));
        }
        self.facts.extend(decision.facts.iter().cloned());
        let effects = decision.effects(&self.saga);
        for effect in &effects {
            if let Effect::Command(command) | Effect::StartChild(command) = effect {
                self.commands.push((**command).clone());
            }
        }
        self.effects.extend(effects);
        self.check_replay(&before, &decision);
        Ok(decision)
    }

    fn tell(&mut self, line: &str) {
        self.told.push_str(line);
        self.told.push('\n');
    }

    fn check_replay(&self, before: &Saga, decision: &Decision) {
        let snapshot = serde_json::to_string(&self.saga).expect("it is well");
        if self.facts.len() < 400 {
            assert_eq!(
                Saga::replay(&self.facts),
                self.saga,
                "replay from the first fact"
            );
        }
        let mut from: Saga =
            serde_json::from_str(&serde_json::to_string(before).expect("it is well"))
                .expect("it is well");
        assert_eq!(&from, before, "a snapshot is the state");
        for fact in &decision.facts {
            from.apply(
                &serde_json::from_str(&serde_json::to_string(fact).expect("it is well"))
                    .expect("it is well"),
            );
        }
        assert_eq!(from, self.saga, "snapshot and the facts behind it");
        assert_eq!(
            serde_json::to_string(&from).expect("it is well"),
            snapshot,
            "byte for byte"
        );
    }

    /// The last command for a state.
    pub(super) fn command(&self, state: &str, undo: bool) -> Command {
        let mut found = self.commands.iter().rev();
        found
            .find(|command| command.step_name == state && command.undo == undo)
            .unwrap_or_else(|| panic!("no command for {state}:\n{}", self.told))
            .clone()
    }

    pub(super) fn reply(&mut self, state: &str, undo: bool, outcome: Outcome) {
        let command = self.command(state, undo);
        // A stale one is refused, and told.
        drop(self.give(Input::Reply {
            step: command.step,
            generation: command.generation,
            outcome,
        }));
    }

    pub(super) fn succeed(&mut self, state: &str, output: Value) {
        self.reply(state, false, Outcome::Success(output.into()));
    }

    pub(super) fn fail(&mut self, state: &str, error: &str, declared: bool) {
        self.reply(state, false, failure(error, declared));
    }

    pub(super) fn undone(&mut self, state: &str) {
        self.reply(state, true, Outcome::Success(Data::null()));
    }

    pub(super) fn tick(&mut self) {
        let due = self.saga.due().expect("something is due");
        self.now = self.now.max(due.as_millis());
        self.give(Input::Tick).expect("it is well");
    }

    pub(super) fn act(&mut self, action: Action) -> Result<Decision, Refusal> {
        self.give(Input::Operator(Order {
            action,
            by: "ann".to_owned(),
            reason: "test".to_owned(),
        }))
    }

    pub(super) fn status(&self) -> Status {
        self.saga.status()
    }

    /// The states whose commands went out, in order; an undo has a minus before it.
    pub(super) fn sent(&self) -> Vec<String> {
        let name = |command: &Command| {
            let sign = if command.undo { "-" } else { "" };
            format!("{sign}{}", command.step_name)
        };
        self.commands.iter().map(name).collect()
    }
}

pub(super) fn failure(error: &str, declared: bool) -> Outcome {
    Outcome::Failure(Failure {
        error: error.to_owned(),
        cause: "because".to_owned(),
        declared,
    })
}

fn line_of(input: &Input) -> String {
    match input {
        Input::Start(start) => format!("start {:?}", start.input),
        Input::Reply {
            step,
            generation,
            outcome,
        } => format!(
            "reply {step}/{generation} {}",
            serde_json::to_string(outcome).expect("it is well")
        ),
        Input::ChildEnded { step, end, .. } => {
            format!(
                "child of {step} {}",
                serde_json::to_string(end).expect("it is well")
            )
        }
        Input::Admit { step } => format!("admit {step}"),
        Input::Tick => "tick".to_owned(),
        Input::Signal { name, payload } => format!("signal {name} {payload:?}"),
        Input::Operator(order) => format!("{}", json!(order.action)),
    }
}

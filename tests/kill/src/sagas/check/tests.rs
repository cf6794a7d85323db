//! Doctored evidence: for each way to break a promise there is a finding.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wharf_message::Timestamp;
use wharf_saga::definition::Definition;
use wharf_saga::machine::{
    Action, Data, Env, Fact, Failure, Input, OpenTask, Order, Outcome, Saga, SagaId, Start, What,
    step,
};

use super::super::bank::{Books, Entry};
use super::super::machines;
use super::{Evidence, Fate, Seen, all};

/// A saga that really ran, with a bank that did what it was told.
struct Run {
    saga: Saga,
    facts: Vec<Fact>,
    definition: Definition,
    ledger: Vec<Entry>,
    now: i64,
}

fn input() -> Value {
    json!({ "from": "north-0", "to": "south-0", "amount": 100, "mood": "fine" })
}

impl Run {
    fn new(key: &str) -> Self {
        let machine = machines::definition("north-south", ["a:1", "a:2"]);
        let definition = Definition::of(&machine).unwrap().definition;
        let start = Start {
            id: SagaId::of("north-south", key),
            saga_type: "north-south".to_owned(),
            definition: definition.hash,
            key: key.to_owned(),
            input: Data::from(input()),
            correlation: None,
            traceparent: None,
            attributes: BTreeMap::new(),
            parent: None,
        };
        let mut run = Self {
            saga: Saga::default(),
            facts: Vec::new(),
            definition,
            ledger: Vec::new(),
            now: 1_000,
        };
        run.take(Input::Start(start));
        run
    }

    fn take(&mut self, input: Input) {
        self.now += 10;
        let env = Env::at(Timestamp::from_millis(self.now), 1);
        let decision = step(&self.definition, &mut self.saga, input, &env).unwrap();
        self.facts.extend(decision.facts);
    }

    fn open(&self) -> OpenTask {
        self.saga.open().remove(0)
    }

    fn reply(&mut self, outcome: Outcome) {
        let command = self.open().command;
        self.take(Input::Reply {
            step: command.step,
            generation: command.generation,
            outcome,
        });
    }

    /// The open task is done.
    fn done(&mut self) {
        let command = self.open().command;
        let key = format!("{}/{}", command.saga, command.step);
        let said = json!({ "receipt": format!("{key}#{}", self.now) });
        self.ledger.push(Entry {
            key,
            undo: command.undo,
            generation: command.generation.into(),
            step: command.step_name.clone(),
            nothing: false,
            at: self.now,
            told: command.arguments.value().clone(),
            said: said.clone(),
        });
        self.reply(Outcome::Success(Data::from(said)));
    }

    fn declined(&mut self, error: &str) {
        self.reply(Outcome::Failure(Failure {
            error: error.to_owned(),
            cause: String::new(),
            declared: true,
        }));
    }

    fn act(&mut self, action: Action, reason: &str) {
        self.take(Input::Operator(Order {
            action,
            by: "ada".to_owned(),
            reason: reason.to_owned(),
        }));
    }

    fn seen(&self) -> Seen {
        let saga = &self.saga;
        let start = saga.start().unwrap();
        let mut row = json!({
            "id": start.id.to_string(),
            "type": start.saga_type,
            "key": start.key,
            "status": saga.status(),
            "paused": saga.is_paused(),
            "steps": saga.current().into_iter().map(|step| step.name).collect::<Vec<_>>(),
            "started": saga.started().to_rfc3339(),
            "updated": saga.updated().to_rfc3339(),
        });
        if let Some((error, _)) = saga.error() {
            row["error"] = error.into();
        }
        if let Some(ended) = saga.ended() {
            row["ended"] = ended.to_rfc3339().into();
        }
        let mut shown = row.clone();
        shown["input"] = json!(start.input);
        shown["output"] = json!(saga.output());
        let parked = saga.parked().into_iter();
        let parked = parked.map(|step| json!({ "step": step.step, "reason": step.reason }));
        shown["parked_steps"] = parked.collect();
        Seen {
            row,
            shown,
            facts: self.facts.clone(),
        }
    }
}

/// One saga that completed, one that was undone, one that is parked with its undo.
fn evidence() -> Evidence {
    let mut completed = Run::new("a");
    completed.done();
    completed.done();
    let mut undone = Run::new("b");
    undone.act(Action::Pause, "order-of-operator-1");
    undone.act(Action::Resume, "order-of-operator-2");
    undone.done();
    undone.declined("AccountClosed");
    undone.done();
    let mut parked = Run::new("c");
    parked.done();
    parked.declined("AccountClosed");
    parked.declined("Sour");
    let mut evidence = Evidence::default();
    let mut balances: BTreeMap<String, i64> =
        BTreeMap::from([("north-0".to_owned(), 1_000), ("south-0".to_owned(), 500)]);
    evidence.opening = balances.clone();
    *balances.get_mut("north-0").unwrap() -= 200;
    *balances.get_mut("south-0").unwrap() += 100;
    let mut books = Books {
        accounts: balances.into_iter().collect(),
        ..Books::default()
    };
    for run in [completed, undone, parked] {
        let seen = run.seen();
        let id = run.saga.id().unwrap().to_string();
        let key = run.saga.start().unwrap().key.clone();
        let name = ("north-south".to_owned(), key);
        evidence.known.asked.insert(name.clone(), input());
        evidence.known.answered.insert(name, id.clone());
        for fact in &run.facts {
            match &fact.what {
                What::Dispatched(sent) if sent.resource == "wharf:topic:north" => {
                    let sent = (id.clone(), sent.step, sent.generation, sent.undo);
                    evidence.commands.push(sent);
                }
                What::Parked { step, reason, .. } => {
                    evidence
                        .alarms
                        .push((id.clone(), *step, reason.to_string()));
                }
                _ => {}
            }
        }
        books.ledger.extend(run.ledger);
        evidence.sagas.insert(id, seen);
    }
    evidence.books = vec![books];
    for reason in ["order-of-operator-1", "order-of-operator-2"] {
        evidence.audit.push(reason.to_owned());
        evidence
            .known
            .acts
            .insert(reason.to_owned(), Fate::Accepted);
    }
    evidence.parked = 1;
    evidence
}

/// The checks that found something once this was done to the evidence.
fn after(doctor: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
    let mut evidence = evidence();
    doctor(&mut evidence);
    let found = all(&evidence).into_iter();
    found
        .filter(|(_, findings)| !findings.is_empty())
        .map(|(what, _)| what)
        .collect()
}

fn saga<'a>(evidence: &'a mut Evidence, key: &str) -> &'a mut Seen {
    let id = SagaId::of("north-south", key).to_string();
    evidence.sagas.get_mut(&id).unwrap()
}

fn entry<'a>(evidence: &'a mut Evidence, key: &str, undo: bool) -> &'a mut Entry {
    let id = SagaId::of("north-south", key).to_string();
    let mut ledger = evidence.books[0].ledger.iter_mut();
    let found = ledger.find(|entry| entry.key.starts_with(&id) && entry.undo == undo);
    found.unwrap()
}

#[test]
fn what_really_happened_is_right() {
    let found: Vec<_> = all(&evidence())
        .into_iter()
        .filter(|(_, findings)| !findings.is_empty())
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn money_that_is_lost_or_made_or_in_the_wrong_account_is_found() {
    let found = after(|evidence| evidence.books[0].accounts[0].1 -= 1);
    assert_eq!(found, ["balances are the model's", "the sum never changes"]);
    let found = after(|evidence| {
        evidence.books[0].accounts[0].1 -= 1;
        evidence.books[0].accounts[1].1 += 1;
    });
    assert_eq!(found, ["balances are the model's"]);
    let found = after(|evidence| {
        let held = ("x/1".to_owned(), "north-0".to_owned(), 5);
        evidence.books[0].holds.push(held);
    });
    assert_eq!(found, ["balances are the model's", "the sum never changes"]);
}

#[test]
fn an_effect_that_is_there_twice_or_missing_or_unasked_for_is_found() {
    let found = after(|evidence| {
        let again = entry(evidence, "a", false).clone();
        evidence.books[0].ledger.push(again);
    });
    assert_eq!(found, ["every effect is there once"]);
    let missing = after(|evidence| {
        evidence.books[0].ledger.remove(0);
    });
    assert!(
        missing.contains(&"every effect is there once"),
        "{missing:?}"
    );
    let found = after(|evidence| entry(evidence, "a", false).generation = 9);
    assert_eq!(found, ["every effect is there once"]);
    let found = after(|evidence| entry(evidence, "c", false).said = json!("else"));
    assert_eq!(found, ["every effect is there once"]);
    let found = after(|evidence| {
        let mut unasked = entry(evidence, "a", false).clone();
        unasked.key = "nobody/1".to_owned();
        evidence.books[0].ledger.push(unasked);
    });
    assert_eq!(found, ["every effect is there once"]);
}

#[test]
fn an_undo_that_is_missing_too_early_or_needless_is_found() {
    let undone = "exactly what was done is undone";
    let found = after(|evidence| {
        let id = SagaId::of("north-south", "b").to_string();
        let ledger = &mut evidence.books[0].ledger;
        ledger.retain(|entry| !entry.undo || !entry.key.starts_with(&id));
    });
    assert!(found.contains(&undone), "{found:?}");
    let found = after(|evidence| entry(evidence, "b", true).at = 0);
    assert_eq!(found, [undone]);
    let found = after(|evidence| entry(evidence, "b", true).nothing = true);
    assert_eq!(found, [undone]);
    let found = after(|evidence| entry(evidence, "b", true).told["result"] = json!("other"));
    assert_eq!(found, [undone]);
    // A completed saga of which something is undone.
    let found = after(|evidence| {
        let mut undo = entry(evidence, "a", false).clone();
        (undo.undo, undo.at) = (true, undo.at + 1);
        evidence.books[0].ledger.push(undo);
    });
    assert!(found.contains(&undone), "{found:?}");
}

#[test]
fn steps_in_the_wrong_order_and_steps_out_of_turn_are_found() {
    let found = after(|evidence| entry(evidence, "a", false).at = i64::MAX);
    assert_eq!(found, ["steps and undos are in order"]);
    let found = after(|evidence| {
        // A step goes out behind the turn.
        let facts = &mut saga(evidence, "b").facts;
        let first = facts
            .iter()
            .find(|fact| matches!(fact.what, What::Dispatched(_)));
        let first = first.unwrap().clone();
        facts.push(first);
    });
    assert!(found.contains(&"no step is out of turn"), "{found:?}");
}

#[test]
fn a_saga_that_hangs_ends_twice_or_tells_nobody_is_found() {
    let ends = "every saga ended or is parked";
    let found = after(|evidence| saga(evidence, "a").shown["status"] = json!("RUNNING"));
    assert!(found.contains(&ends), "{found:?}");
    let found = after(|evidence| {
        let facts = &mut saga(evidence, "a").facts;
        let last = facts.last().unwrap().clone();
        facts.push(last);
    });
    assert_eq!(found, [ends, "deadlines and ends are in time"]);
    let found = after(|evidence| evidence.alarms.clear());
    assert_eq!(found, [ends, "every parking is one alarm"]);
    let found = after(|evidence| evidence.parked = 0);
    assert_eq!(found, [ends]);
}

#[test]
fn a_start_that_is_lost_doubled_or_made_up_is_found() {
    let starts = "every start is one saga";
    let lost = after(|evidence| {
        let id = SagaId::of("north-south", "a").to_string();
        evidence.sagas.remove(&id);
    });
    assert!(lost.contains(&starts), "{lost:?}");
    let found = after(|evidence| {
        let name = ("north-south".to_owned(), "a".to_owned());
        evidence.known.asked.remove(&name);
    });
    assert_eq!(found, [starts]);
    let found = after(|evidence| {
        let name = ("north-south".to_owned(), "d".to_owned());
        evidence.known.recorded.insert(name);
    });
    assert_eq!(found, [starts]);
}

#[test]
fn a_page_that_differs_from_the_history_is_found() {
    let pages = "lists and pages agree with the history";
    let found = after(|evidence| saga(evidence, "a").row["paused"] = json!(true));
    assert_eq!(found, [pages]);
    let found = after(|evidence| saga(evidence, "a").shown["output"] = json!(1));
    assert_eq!(found, [pages]);
}

#[test]
fn a_dispatch_without_its_command_and_a_command_without_its_dispatch_are_found() {
    let commands = "every dispatch is one command";
    let found = after(|evidence| {
        evidence.commands.pop();
    });
    assert_eq!(found, [commands]);
    let found = after(|evidence| {
        let again = evidence.commands[0].clone();
        evidence.commands.push(again);
    });
    assert_eq!(found, [commands]);
}

#[test]
fn an_action_that_is_lost_doubled_or_refused_and_done_is_found() {
    let acts = "every action is recorded once";
    let found = after(|evidence| {
        evidence.audit.pop();
    });
    assert_eq!(found, [acts]);
    let found = after(|evidence| {
        let lost = ("order-of-operator-3".to_owned(), Fate::Accepted);
        evidence.known.acts.extend([lost]);
    });
    assert_eq!(found, [acts]);
    let found = after(|evidence| {
        let refused = ("order-of-operator-1".to_owned(), Fate::Refused);
        evidence.known.acts.extend([refused]);
    });
    assert_eq!(found, [acts]);
}

#[test]
fn a_signal_that_is_lost_or_that_nobody_sent_is_found() {
    let kept = |number: u64| Fact {
        at: Timestamp::from_millis(1_500),
        what: What::SignalKept {
            signal: machines::SIGNAL.to_owned(),
            payload: Data::from(json!({ "signature": number })),
        },
    };
    // Before its end, and as what was accepted.
    let receive = |evidence: &mut Evidence, number: u64| {
        saga(evidence, "a").facts.insert(1, kept(number));
    };
    let known = |evidence: &mut Evidence, number: u64, fate: Fate| {
        let id = SagaId::of("north-south", "a").to_string();
        evidence.known.signals.insert(number, (id, fate));
    };
    let found = after(|evidence| {
        receive(evidence, 1);
        known(evidence, 1, Fate::Accepted);
        known(evidence, 2, Fate::Refused);
        known(evidence, 3, Fate::Unknown);
    });
    assert!(found.is_empty(), "{found:?}");
    let lost = after(|evidence| known(evidence, 1, Fate::Accepted));
    assert_eq!(lost, ["every signal is there"]);
    let strange = after(|evidence| receive(evidence, 7));
    assert_eq!(strange, ["every signal is there"]);
}

#[test]
fn a_deadline_before_its_time_and_what_follows_an_end_are_found() {
    let passed = |at: i64| Fact {
        at: Timestamp::from_millis(at),
        what: What::DeadlinePassed,
    };
    let early = after(|evidence| {
        let facts = &mut saga(evidence, "b").facts;
        if let What::Started { deadline, .. } = &mut facts[0].what {
            *deadline = Some(Timestamp::from_millis(2_000));
        }
        facts.insert(1, passed(1_999));
    });
    assert_eq!(early, ["deadlines and ends are in time"]);
    let late = after(|evidence| {
        let facts = &mut saga(evidence, "a").facts;
        let at = facts.last().unwrap().at;
        facts.push(Fact {
            at,
            what: What::Yielded,
        });
    });
    assert_eq!(late, ["deadlines and ends are in time"]);
}

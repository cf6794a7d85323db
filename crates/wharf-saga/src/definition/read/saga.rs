//! `Saga` of the machine, and what a saga as a whole may lack.

use std::collections::HashSet;

use super::super::text::clip;
use super::super::{Code, Flow, Kind, Machine, Next, OnDeadline, Order, Policy, State, escape};
use super::fields::Fields;
use super::outline::Outline;
use super::{Reader, SECONDS_MAX, nearest};

/// The policy, and whether somebody wrote one.
pub(super) struct Declared {
    pub(super) policy: Policy,
    pub(super) declared: bool,
}

impl Reader<'_> {
    pub(super) fn policy(&mut self, fields: &mut Fields<'_>, top: Option<&Outline>) -> Declared {
        let mut policy = Policy::default();
        let Some(value) = fields.get("Saga") else {
            return Declared {
                policy,
                declared: false,
            };
        };
        let at = fields.at("Saga");
        let Some(mut fields) = Fields::of(self, value, at, "`Saga`") else {
            return Declared {
                policy,
                declared: true,
            };
        };
        policy.pivot = fields.text(self, "Pivot");
        if let (Some(pivot), Some(top)) = (&policy.pivot, top) {
            self.pivot(pivot, top, &fields.at("Pivot"));
        }
        let orders = [
            ("ReverseCompletion", Order::ReverseCompletion),
            ("Unordered", Order::Unordered),
        ];
        policy.order = fields.word(self, "Order", &orders).unwrap_or_default();
        if fields.has("CompensateOn") {
            policy.compensate_on = self.errors_of(&mut fields, "CompensateOn", "saga", true);
        } else {
            let _none = fields.get("CompensateOn");
        }
        policy.deadline_seconds = fields.whole(self, "DeadlineSeconds", (1, SECONDS_MAX));
        let deadlines = [
            ("Compensate", OnDeadline::Compensate),
            ("Park", OnDeadline::Park),
        ];
        if fields.has("OnDeadline") && !fields.has("DeadlineSeconds") {
            let message = "`OnDeadline` says what to do at a deadline, and there is none; write DeadlineSeconds";
            self.add(Code::MISSING_FIELD, fields.here(), message);
        }
        policy.on_deadline = fields
            .word(self, "OnDeadline", &deadlines)
            .unwrap_or_default();
        fields.finish(self, None, "Saga");
        Declared {
            policy,
            declared: true,
        }
    }

    fn pivot(&mut self, pivot: &str, top: &Outline, at: &str) {
        match top.node(pivot) {
            None => {
                let message = match self.names.get(pivot) {
                    Some(place) => format!(
                        "the state `{}` is inside another, at {place}, and the pivot is a state of the saga as a whole; name one at the top level",
                        clip(pivot)
                    ),
                    None => format!(
                        "there is no state `{}`; name the state after which nothing is undone any more{}",
                        clip(pivot),
                        nearest(pivot, top.states.iter().map(|node| node.name.as_str())),
                    ),
                };
                self.add(Code::PIVOT_UNKNOWN, at, message);
            }
            Some(node) if node.kind == "Fail" => {
                let message = "a Fail state never completes, so the pivot would never be passed; name the state that decides";
                self.add(Code::PIVOT_UNFIT, at, message);
            }
            Some(_) => {}
        }
    }

    /// What a machine that is right may still lack.
    pub(super) fn remarks(&mut self, machine: &Machine, declared: bool) {
        let after = after_pivot(machine);
        for state in &machine.flow.states {
            let standing = Standing {
                undoes: declared || self.compensates,
                passed: after.contains(state.name.as_str()),
                pivot: machine.saga.pivot.as_deref() == Some(state.name.as_str()),
                covered: false,
            };
            self.remark(state, "/States", standing);
        }
    }

    fn remark(&mut self, state: &State, above: &str, standing: Standing) {
        let at = format!("{above}/{}", escape(&state.name));
        let Standing {
            undoes,
            passed,
            pivot,
            covered,
        } = standing;
        let undone = state.compensate.is_some();
        let inside = Standing {
            passed: passed || pivot,
            pivot: false,
            covered: covered || undone,
            ..standing
        };
        match &state.kind {
            Kind::Task(task) => {
                if task.timeout_seconds.is_none() && task.heartbeat_seconds.is_none() {
                    let message = "the step may wait for its worker for ever, and the saga with it; write TimeoutSeconds or HeartbeatSeconds";
                    self.add(Code::STEP_WITHOUT_TIMEOUT, &at, message);
                }
                // To wait for a signal leaves nothing behind.
                let leaves = !task.resource.starts_with("wharf:signal:");
                if undoes && leaves && !passed && !pivot && !undone && !covered {
                    let message = "the step is before the pivot and nothing undoes it, so what it did stays when the saga is undone; write Compensate, or put the pivot before it";
                    self.add(Code::STEP_WITHOUT_UNDO, &at, message);
                }
            }
            Kind::Fail(_) if passed => {
                let message = "after the pivot nothing is undone, so a saga that fails here is parked until a person comes; go on forward instead";
                self.add(Code::FAIL_AFTER_PIVOT, &at, message);
            }
            Kind::Parallel(parallel) => {
                for (index, branch) in parallel.branches.iter().enumerate() {
                    self.inside(branch, &format!("{at}/Branches/{index}/States"), inside);
                }
            }
            Kind::Map(map) => {
                self.inside(
                    &map.processor,
                    &format!("{at}/ItemProcessor/States"),
                    inside,
                );
            }
            _ => {}
        }
        if passed && undone {
            let message = "the step is after the pivot, where nothing is undone; take Compensate away, or move the pivot";
            self.add(Code::UNDO_AFTER_PIVOT, format!("{at}/Compensate"), message);
        }
    }

    fn inside(&mut self, flow: &Flow, at: &str, standing: Standing) {
        for state in &flow.states {
            self.remark(state, at, standing);
        }
    }
}

/// How a state stands in its saga.
#[derive(Clone, Copy)]
struct Standing {
    /// Whether the machine undoes anything at all.
    undoes: bool,
    /// Whether it is only entered after the pivot.
    passed: bool,
    /// Whether it is the pivot.
    pivot: bool,
    /// Whether a state around it is undone as a whole.
    covered: bool,
}

/// The states at the top level that are only entered when the pivot has completed.
pub(in super::super) fn after_pivot(machine: &Machine) -> HashSet<&str> {
    let states = &machine.flow.states;
    let Some(pivot) = machine.saga.pivot.as_deref() else {
        return HashSet::new();
    };
    let mut before = HashSet::new();
    let mut open = vec![machine.flow.start_at.as_str()];
    while let Some(name) = open.pop() {
        let Some(state) = states.get(name) else {
            continue;
        };
        if before.insert(state.name.as_str()) {
            // The pivot leads on only by its Catch while it has not completed.
            open.extend(if name == pivot {
                caught(state)
            } else {
                leads_on(state)
            });
        }
    }
    states
        .iter()
        .map(|state| state.name.as_str())
        .filter(|name| !before.contains(name))
        .collect()
}

fn caught(state: &State) -> Vec<&str> {
    state
        .catch
        .iter()
        .map(|catcher| catcher.next.as_str())
        .collect()
}

/// Where a state may go on: its Catch first, then Next, or the rules and the default.
pub(in super::super) fn leads_on(state: &State) -> Vec<&str> {
    let mut all = caught(state);
    if let Next::To(next) = &state.next {
        all.push(next);
    }
    if let Kind::Choice(choice) = &state.kind {
        all.extend(choice.rules.iter().map(|rule| rule.next.as_str()));
        all.extend(choice.default.as_deref());
    }
    all
}

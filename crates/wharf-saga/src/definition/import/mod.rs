//! Hand-made sagas: chains of Catch and undo states become the undo of their steps.
//!
//! What is recognised is a step whose Catch leads, by Next alone, over Tasks to a Fail state. Which
//! Task undoes which step is told by the words their names share, and is said to be a guess where
//! they share none. Whatever the extension does otherwise than the chain did is reported; nothing
//! is changed in silence.

mod chain;
mod own;
mod report;
mod words;

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::read::{self, leads_on};
use super::text;
use super::{
    Accepted, Code, Compensation, Data, Definition, Flow, Format, Given, Kind, Limits, Machine,
    OnUnknown, PathData, Problem, Problems, Retrier, Selection, State, States, escape,
};
use chain::Chain;
pub(super) use chain::{forward, onward};
pub use report::{Standing, Verdict, report};
pub(super) use words::rebased;

impl Definition {
    /// Reads a saga made by hand for Step Functions and gives it the form with Compensate. The
    /// remarks say what was recognised, what was guessed and what is otherwise now.
    ///
    /// # Errors
    /// Every problem of the text, when one of them is an error; states that nothing leads to are
    /// left out and reported instead.
    pub fn import(text: &str) -> Result<Accepted, Problems> {
        let (limits, mut problems) = (Limits::default(), Vec::new());
        let Some(value) = text::value(text, Format::of(text), &limits, &mut problems) else {
            return Err(Problems(problems));
        };
        let (machine, found) = read::machine(&value, &limits);
        problems.extend(found);
        let unreachable = |p: &Problem| p.code == Code::UNREACHABLE_STATE;
        let refused = Problems(
            problems
                .iter()
                .filter(|p| !unreachable(p))
                .cloned()
                .collect(),
        );
        let Some(machine) = machine.filter(|_| !refused.refuse()) else {
            return Err(Problems(problems));
        };
        let mut remarks: Vec<Problem> = problems
            .iter()
            .filter(|p| unreachable(p))
            .map(|p| {
                let message = "nothing led to this state, and it was left out";
                Problem::new(Code::STATE_LEFT_OUT, p.path.clone(), message)
            })
            .collect();
        let machine = own::without_helpers(machine);
        let machine = own::without_variables(Import::of(&machine, &mut remarks).run());
        let mut accepted = Self::of(&machine.to_value())?;
        remarks.append(&mut accepted.remarks);
        accepted.remarks = remarks;
        Ok(accepted)
    }
}

struct Import<'m> {
    machine: &'m Machine,
    remarks: &'m mut Vec<Problem>,
    /// The states that are reached without any error, in the order of a walk.
    forward: Vec<&'m str>,
    /// By step: the chain that its Catch leads into.
    chains: Vec<(&'m str, Chain<'m>)>,
}

impl<'m> Import<'m> {
    fn of(machine: &'m Machine, remarks: &'m mut Vec<Problem>) -> Self {
        let forward = forward(machine);
        let set: HashSet<&str> = forward.iter().copied().collect();
        let mut chains = Vec::new();
        for name in &forward {
            let Some(state) = machine.flow.states.get(name) else {
                continue;
            };
            for (index, catcher) in state.catch.iter().enumerate() {
                if set.contains(catcher.next.as_str()) {
                    continue;
                }
                match chain::walk(machine, index, &catcher.next, &set) {
                    Some(chain) if chain.tasks.is_empty() => {}
                    Some(chain) => chains.push((*name, chain)),
                    None => {
                        let at = format!("/States/{}/Catch/{index}", escape(name));
                        let message = "this Catch does not lead over Tasks to a Fail state, so it is taken as recovery forward and left as it is";
                        remarks.push(Problem::new(Code::CATCH_KEPT, at, message));
                    }
                }
            }
        }
        Self {
            machine,
            remarks,
            forward,
            chains,
        }
    }

    fn remark(&mut self, code: Code, state: &str, message: String) {
        self.remarks.push(Problem::new(
            code,
            format!("/States/{}", escape(state)),
            message,
        ));
    }

    fn run(mut self) -> Machine {
        self.cut_tails();
        let undo_of = self.pair();
        let mut machine = self.machine.clone();
        for (step, undo) in &undo_of {
            let compensation = self.compensation(step, undo);
            if let Some(state) = machine.flow.states.get_mut(step) {
                state.compensate = Some(compensation);
            }
        }
        if undo_of.is_empty() {
            let message =
                "no chain of Catch and undo states was recognised; the machine is as it was"
                    .to_owned();
            self.remarks
                .push(Problem::new(Code::UNDO_NOT_RECOGNISED, "", message));
            return machine;
        }
        for (step, chain) in &self.chains {
            if let Some(state) = machine.flow.states.get_mut(step) {
                let next = &self.machine.flow.states[step].catch[chain.catcher].next;
                state.catch.retain(|catcher| &catcher.next != next);
            }
        }
        self.compare(&undo_of);
        machine.saga.pivot = self.pivot();
        machine.flow = self.reachable(&machine.flow);
        machine
    }

    /// Takes from the chains what runs after the last undo: telling people, cleaning up.
    fn cut_tails(&mut self) {
        let is_undo = |name: &str| words::looks_like_undo(name);
        if !self
            .chains
            .iter()
            .any(|(_, chain)| chain.tasks.iter().any(|task| is_undo(task)))
        {
            return;
        }
        let mut after = Vec::new();
        for (_, chain) in &mut self.chains {
            while let Some(last) = chain.tasks.pop_if(|task| !is_undo(task)) {
                if !after.contains(&last) {
                    after.push(last);
                }
            }
        }
        for name in after {
            let message = "this ran after the undo, where the extension has no states; let whoever needs it follow the ends of sagas".to_owned();
            self.remark(Code::AFTER_UNDO_LOST, name, message);
        }
    }

    /// Which Task undoes which step.
    fn pair(&mut self) -> Vec<(&'m str, &'m str)> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for (entry, chain) in self.chains.clone() {
            let until = self
                .forward
                .iter()
                .position(|name| *name == entry)
                .unwrap_or_default();
            for undo in chain.tasks.iter().rev() {
                if pairs.iter().any(|(_, taken)| taken == undo) {
                    continue;
                }
                let free: Vec<&str> = self.forward[..=until]
                    .iter()
                    .copied()
                    .filter(|name| self.does(name) && !pairs.iter().any(|(step, _)| step == name))
                    .collect();
                let Some(step) = words::nearest(undo, &free).or_else(|| free.last().copied())
                else {
                    let message =
                        "no step is left that this could undo; it was left out".to_owned();
                    self.remark(Code::UNDO_NOT_RECOGNISED, undo, message);
                    continue;
                };
                let (code, how) = if words::shared(undo, step) > 0 {
                    (Code::UNDO_RECOGNISED, "")
                } else {
                    (
                        Code::UNDO_GUESSED,
                        "; their names share no word, so look at it",
                    )
                };
                self.remark(code, step, format!("`{undo}` is its undo{how}"));
                pairs.push((step, undo));
            }
        }
        pairs
    }

    fn does(&self, name: &str) -> bool {
        let kind = self.machine.flow.states.get(name).map(|state| &state.kind);
        matches!(kind, Some(Kind::Task(_) | Kind::Parallel(_) | Kind::Map(_)))
    }

    fn compensation(&mut self, step: &str, undo: &str) -> Compensation {
        let (step, undo) = (
            &self.machine.flow.states[step],
            &self.machine.flow.states[undo],
        );
        let (resource, timeout) = match &undo.kind {
            Kind::Task(task) => (task.resource.clone(), task.timeout_seconds.clone()),
            _ => (String::new(), None),
        };
        let own = self.chains.iter().find(|(name, _)| *name == step.name);
        let unknown = own.is_some_and(|(_, chain)| chain.tasks.contains(&undo.name.as_str()));
        let arguments = self.arguments(step, undo);
        if undo.retry.is_empty() {
            let message = format!(
                "`{}` has no Retry; as an undo it is tried again and then parked",
                undo.name
            );
            self.remark(Code::UNDO_GETS_RETRY, &step.name, message);
        }
        let retry: Vec<Retrier> = undo.retry.clone();
        Compensation {
            resource,
            arguments,
            retry: if retry.is_empty() {
                Compensation::default_retry()
            } else {
                retry
            },
            timeout_seconds: timeout.filter(|given| matches!(given, Given::Fixed(_))),
            on_unknown: if unknown {
                OnUnknown::Compensate
            } else {
                OnUnknown::Skip
            },
            on_failure: super::OnFailure::Park,
        }
    }

    /// What goes to the undo. In a chain that was made of all the data so far; here it is made of
    /// the step's own input and result.
    fn arguments(&mut self, step: &State, undo: &State) -> Option<Value> {
        if step.language() != undo.language() {
            let message = format!(
                "`{}` is in the other query language; write its arguments anew",
                undo.name
            );
            self.remark(Code::UNDO_DATA_DIFFERS, &step.name, message);
            return None;
        }
        match (&step.data, &undo.data) {
            (Data::Path(of_step), Data::Path(of_undo)) => {
                let mut whole = of_undo.input_path != Selection::All;
                let template = of_undo.parameters.clone().unwrap_or_else(|| {
                    whole = true;
                    Value::Object(
                        [("input.$".to_owned(), Value::from("$"))]
                            .into_iter()
                            .collect(),
                    )
                });
                let template = rebased(template, &mut |path| {
                    whole |= path == "$";
                    rebase(path, of_step)
                });
                if whole {
                    self.whole(&step.name, &undo.name);
                }
                Some(template)
            }
            (_, Data::Jsonata(of_undo)) => {
                let message = format!(
                    "`$states.input` of `{}` was all the data there was; as an undo it is the step's input, and its result is `$states.result`",
                    undo.name
                );
                self.remark(Code::UNDO_DATA_DIFFERS, &step.name, message);
                of_undo.arguments.clone()
            }
            _ => None,
        }
    }

    fn whole(&mut self, step: &str, undo: &str) {
        let message = format!(
            "`{undo}` saw all the data there was; as an undo it sees the step's input at `$.input` and its result at `$.result`, and not what later steps added"
        );
        self.remark(Code::UNDO_DATA_DIFFERS, step, message);
    }

    /// What the chains did otherwise than the extension does.
    fn compare(&mut self, pairs: &[(&'m str, &'m str)]) {
        let undo: HashMap<&str, &str> = pairs.iter().copied().collect();
        let mut remarks = Vec::new();
        for (at, name) in self.forward.iter().enumerate() {
            if !self.does(name) {
                continue;
            }
            let before: Vec<&str> = self.forward[..at]
                .iter()
                .rev()
                .filter_map(|step| undo.get(step).copied())
                .collect();
            let Some((_, chain)) = self.chains.iter().find(|(step, _)| step == name) else {
                continue;
            };
            let others: Vec<&str> = chain
                .tasks
                .iter()
                .copied()
                .filter(|task| undo.get(name) != Some(task))
                .collect();
            if others != before {
                let message = format!(
                    "when it failed, the chain ran {}; now every step that was done is undone, the last first: {}",
                    words::list(&others),
                    words::list(&before),
                );
                remarks.push((Code::UNDO_SET_DIFFERS, *name, message));
            }
            let all = &self.machine.flow.states[name].catch[chain.catcher].errors;
            if all.iter().all(|error| error != "States.ALL") {
                let message = "only some of its errors led to the undo; now every error that no Catch takes does".to_owned();
                remarks.push((Code::UNDO_SET_DIFFERS, *name, message));
            }
        }
        for (code, name, message) in remarks {
            self.remark(code, name, message);
        }
    }

    /// The last step whose failure was undone, when more is done after it: what failed there was
    /// never undone.
    fn pivot(&self) -> Option<String> {
        let last = self
            .forward
            .iter()
            .rposition(|name| self.chains.iter().any(|(s, _)| s == name))?;
        let more = self.forward[last + 1..].iter().any(|name| self.does(name));
        more.then(|| self.forward[last].to_owned())
    }

    fn reachable(&self, flow: &Flow) -> Flow {
        let mut reached = HashSet::new();
        let mut open = vec![flow.start_at.as_str()];
        while let Some(name) = open.pop() {
            if let Some(state) = flow.states.get(name)
                && reached.insert(name)
            {
                open.extend(leads_on(state));
            }
        }
        let mut states = States::default();
        for state in flow
            .states
            .iter()
            .filter(|state| reached.contains(state.name.as_str()))
        {
            let _taken = states.push(state.clone()).is_err();
        }
        Flow {
            comment: flow.comment.clone(),
            start_at: flow.start_at.clone(),
            states,
        }
    }
}

/// A path of the undo state, as the undo of the step says it.
fn rebase(path: &str, step: &PathData) -> String {
    if let Selection::At(place) = &step.result_path
        && step.result_selector.is_none()
        && let Some(rest) = path.strip_prefix(place.as_str())
        && (rest.is_empty() || rest.starts_with(['.', '[']))
    {
        return format!("$.result{rest}");
    }
    match path.strip_prefix('$') {
        Some(rest) if rest.is_empty() || rest.starts_with(['.', '[']) => format!("$.input{rest}"),
        _ => path.to_owned(),
    }
}

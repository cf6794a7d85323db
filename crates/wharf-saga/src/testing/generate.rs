//! Random machines: every kind of state, with undo, retries, catches, loops and branches.

use serde_json::{Map, Value, json};

/// A source of numbers that its seed determines.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below this one, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(1);
        usize::try_from(self.number() % end).unwrap_or(0)
    }

    /// True so many times in a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A machine that its seed determines; it is a valid definition.
pub fn machine(seed: u64) -> Value {
    let mut make = Make {
        draw: Draw::new(seed),
        names: 0,
        top: Vec::new(),
    };
    let steps = 1 + make.draw.below(5);
    let flow = make.flow(steps, 0);
    let mut machine = flow;
    let mut policy = Map::new();
    if make.draw.chance(30) && !make.top.is_empty() {
        let at = make.draw.below(make.top.len());
        policy.insert("Pivot".to_owned(), json!(make.top[at]));
    }
    if make.draw.chance(15) {
        policy.insert("Order".to_owned(), json!("Unordered"));
    }
    if make.draw.chance(10) {
        policy.insert("DeadlineSeconds".to_owned(), json!(1 + make.draw.below(60)));
    }
    if !policy.is_empty() {
        machine["Saga"] = Value::Object(policy);
    }
    machine
}

struct Make {
    draw: Draw,
    names: usize,
    /// The tasks at the top level, of which one may be the pivot.
    top: Vec<String>,
}

impl Make {
    fn name(&mut self, of: &str) -> String {
        self.names += 1;
        format!("{of}{}", self.names)
    }

    /// A flow of so many blocks, one after the other.
    fn flow(&mut self, blocks: usize, depth: usize) -> Value {
        let mut states: Vec<(String, Value)> = Vec::new();
        let mut firsts = Vec::new();
        for _ in 0..blocks {
            firsts.push(states.len());
            self.block(depth, &mut states);
        }
        // Every block goes on at the next one: its last state has no `Next` yet.
        let mut next: Option<String> = None;
        for (name, state) in states.iter_mut().rev() {
            let open = state.get("Next").is_none() && state.get("End").is_none();
            if open && state["Type"] != "Choice" {
                match &next {
                    Some(next) => state["Next"] = json!(next),
                    None => state["End"] = json!(true),
                }
            } else if open && let Some(next) = &next {
                state["Default"] = json!(next);
            }
            let catch = state.get_mut("Catch").and_then(Value::as_array_mut);
            for catcher in catch.into_iter().flatten() {
                catcher["Next"] = json!(next.clone().unwrap_or_else(|| name.clone()));
            }
            if state.get("Catch").is_some()
                && next.is_none()
                && let Some(state) = state.as_object_mut()
            {
                state.remove("Catch");
            }
            next = Some(name.clone());
        }
        let start = next.unwrap_or_default();
        json!({ "StartAt": start, "States": states.into_iter().collect::<Map<String, Value>>() })
    }

    fn block(&mut self, depth: usize, states: &mut Vec<(String, Value)>) {
        let kind = self.draw.below(if depth < 2 { 12 } else { 8 });
        match kind {
            0 => {
                let name = self.name("Pass");
                states.push((name, json!({ "Type": "Pass" })));
            }
            1 => {
                let name = self.name("Wait");
                let seconds = self.draw.below(5);
                states.push((name, json!({ "Type": "Wait", "Seconds": seconds })));
            }
            2 => self.looped(depth, states),
            8 | 9 => self.parallel(depth, states),
            10 | 11 => self.map(depth, states),
            _ => {
                let (name, state) = self.task(depth);
                states.push((name, state));
            }
        }
    }

    fn task(&mut self, depth: usize) -> (String, Value) {
        let name = self.name("Task");
        if depth == 0 {
            self.top.push(name.clone());
        }
        let mut task = json!({ "Type": "Task", "Resource": format!("wharf:topic:{name}") });
        if self.draw.chance(80) {
            let mut undo = json!({ "Resource": format!("wharf:topic:undo-{name}") });
            let on_unknown = ["Compensate", "Compensate", "Skip", "Park"][self.draw.below(4)];
            undo["OnUnknown"] = json!(on_unknown);
            if self.draw.chance(20) {
                undo["OnFailure"] = json!("Continue");
            }
            if self.draw.chance(50) {
                undo["Retry"] = json!([{ "ErrorEquals": ["States.ALL"], "MaxAttempts": 1 }]);
            }
            task["Compensate"] = undo;
        }
        if self.draw.chance(30) {
            let attempts = self.draw.below(3);
            task["Retry"] = json!([{ "ErrorEquals": ["States.ALL"], "MaxAttempts": attempts,
                                     "JitterStrategy": "FULL" }]);
        }
        if self.draw.chance(20) {
            task["Catch"] = json!([{ "ErrorEquals": ["States.ALL"] }]);
        }
        if self.draw.chance(30) {
            task["TimeoutSeconds"] = json!(2 + self.draw.below(20));
        }
        if self.draw.chance(10) {
            task["ConcurrencyLimit"] = json!(1);
        }
        (name, task)
    }

    /// A task that is visited several times.
    fn looped(&mut self, depth: usize, states: &mut Vec<(String, Value)>) {
        let (body, mut task) = self.task(depth);
        // The pivot of a loop would be passed in the first round of it.
        self.top.retain(|name| *name != body);
        let (begin, more, choose) = (self.name("Begin"), self.name("More"), self.name("Choose"));
        let variable = format!("n{}", self.names);
        let times = 1 + self.draw.below(3);
        let counted =
            |value: Value, key: String| json!({ "Type": "Pass", "Assign": { key: value } });
        let mut first = counted(json!(0), variable.clone());
        first["Next"] = json!(body);
        let add = format!("States.MathAdd(${variable}, 1)");
        let mut second = counted(json!(add), format!("{variable}.$"));
        second["Next"] = json!(choose);
        task["Next"] = json!(more);
        let choice = json!({ "Type": "Choice", "Choices": [{
            "Variable": format!("${variable}"), "NumericLessThan": times, "Next": body,
        }] });
        states.push((begin, first));
        states.push((body, task));
        states.push((more, second));
        states.push((choose, choice));
        let name = self.name("After");
        states.push((name, json!({ "Type": "Pass" })));
    }

    fn parallel(&mut self, depth: usize, states: &mut Vec<(String, Value)>) {
        let name = self.name("Both");
        let count = 1 + self.draw.below(3);
        let mut branches = Vec::new();
        for _ in 0..count {
            let steps = 1 + self.draw.below(3);
            branches.push(self.flow(steps, depth + 1));
        }
        let mut state = json!({ "Type": "Parallel", "Branches": branches });
        self.around(&mut state);
        states.push((name, state));
    }

    fn map(&mut self, depth: usize, states: &mut Vec<(String, Value)>) {
        let items: Vec<usize> = (0..self.draw.below(4)).collect();
        let (given, name) = (self.name("Items"), self.name("Each"));
        states.push((given, json!({ "Type": "Pass", "Result": items })));
        let steps = 1 + self.draw.below(2);
        let mut state = json!({
            "Type": "Map", "MaxConcurrency": self.draw.below(3),
            "ItemProcessor": self.flow(steps, depth + 1),
        });
        if self.draw.chance(30) {
            state["ToleratedFailureCount"] = json!(1);
        }
        self.around(&mut state);
        states.push((name, state));
    }

    /// What may be around branches.
    fn around(&mut self, state: &mut Value) {
        if self.draw.chance(20) {
            state["Retry"] = json!([{ "ErrorEquals": ["States.ALL"], "MaxAttempts": 1 }]);
        }
        if self.draw.chance(20) {
            state["Catch"] = json!([{ "ErrorEquals": ["States.ALL"] }]);
        }
    }
}

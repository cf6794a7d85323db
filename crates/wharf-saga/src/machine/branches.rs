//! Parallel and Map: into the branches, and out of them.

use serde_json::{Value, json};

use super::data::Data;
use super::decide::{Run, Todo};
use super::fact::What;
use super::input::Failure;
use super::saga::{Cursor, Phase};
use super::values::Values;
use crate::definition::{Given, Items, Kind, Map, State};

/// What a Parallel or Map goes into.
struct Fork {
    input: Data,
    width: u32,
    items: bool,
    limit: u32,
    tolerated: Option<u32>,
}

impl Run<'_> {
    /// Runs a Parallel or Map: into its branches first, then whenever one of them ended.
    pub(super) fn run_fork(&mut self, number: u32, state: &State) -> Result<(), Failure> {
        let inside = self
            .saga
            .step(number)
            .is_some_and(|step| matches!(step.phase, Phase::Inside));
        if !inside {
            let fork = self.fork_of(number, state)?;
            self.emit(What::Forked {
                step: number,
                width: fork.width,
                input: fork.input,
                items: fork.items,
                limit: fork.limit,
                tolerated: fork.tolerated,
            });
        }
        self.begin_branches(number, state)?;
        let Some(fork) = self.saga.fork(number) else {
            return Ok(());
        };
        if fork.ended == fork.width {
            let result = self.results(number);
            if state.compensate.is_some() {
                // Its undo may read the result.
                self.emit(What::Succeeded {
                    step: number,
                    generation: 0,
                    output: result.clone(),
                });
            }
            self.complete(number, &result);
        }
        Ok(())
    }

    fn fork_of(&self, number: u32, state: &State) -> Result<Fork, Failure> {
        match &state.kind {
            Kind::Map(map) => {
                let mut texts = Vec::new();
                if let Given::From(text) = &map.concurrency_max {
                    texts.push(text.as_str());
                }
                if let Items::Path(path) = &map.items {
                    texts.push(path.as_str());
                }
                if let Items::Jsonata(Some(Value::String(text))) = &map.items {
                    texts.push(text.as_str());
                }
                self.evaluate(number, state, &texts, |values, input| {
                    items(values, map, input)
                })
            }
            Kind::Parallel(parallel) => {
                let input = self.evaluate(number, state, &[], |values, input| {
                    let input = values.arguments(input)?;
                    values.fits(&input).map(|()| input)
                })?;
                Ok(Fork {
                    input,
                    width: u32::try_from(parallel.branches.len()).unwrap_or(u32::MAX),
                    items: false,
                    limit: 0,
                    tolerated: None,
                })
            }
            _ => Err(Failure::new("States.Runtime", "the state has no branches")),
        }
    }

    /// Begins as many branches as may run at once.
    fn begin_branches(&mut self, number: u32, state: &State) -> Result<(), Failure> {
        loop {
            let Some(fork) = self.saga.fork(number) else {
                return Ok(());
            };
            let running = fork.begun.saturating_sub(fork.ended);
            if fork.begun >= fork.width || (fork.limit != 0 && running >= fork.limit) {
                return Ok(());
            }
            let index = fork.begun;
            let (first, input) = match &state.kind {
                Kind::Map(map) => {
                    let item = fork.input_of(index);
                    let input = match &map.selector {
                        Some(selector) => {
                            Some(self.selected(number, state, selector, index, &item)?)
                        }
                        None => None,
                    };
                    (map.processor.start_at.clone(), input)
                }
                Kind::Parallel(parallel) => match parallel.branches.get(index as usize) {
                    Some(branch) => (branch.start_at.clone(), None),
                    None => return Ok(()),
                },
                _ => return Ok(()),
            };
            let scope = self.saga.state.scopes_last.saturating_add(1);
            self.emit(What::Branched {
                scope,
                step: number,
                index,
                first,
                input,
            });
            self.todo.push_back(Todo::Scope(scope));
        }
    }

    /// `ItemSelector` for one item.
    fn selected(
        &self,
        number: u32,
        state: &State,
        selector: &Value,
        index: u32,
        item: &Data,
    ) -> Result<Data, Failure> {
        let input = match self.saga.step(number) {
            Some(step) => step.input.clone(),
            None => Data::null(),
        };
        let around = self.surroundings(number, state, &["$$"], Some((index, item.value())));
        let visit = self.visit(number) ^ (u64::from(index) << 40);
        let values = Values::new(state, self.env, &around, visit);
        let effective = values.effective(&input)?;
        let selected = values.fill(selector, &effective, 11)?;
        values.fits(&selected).map(|()| selected)
    }

    /// The outputs of the branches, in their order. An item that failed and was tolerated stands
    /// there as its error.
    fn results(&self, number: u32) -> Data {
        let saga = &self.saga.state;
        let Some(fork) = saga.steps.get(&number).and_then(|step| step.fork.as_ref()) else {
            return Data::null();
        };
        let mut results = vec![Value::Null; fork.width as usize];
        for scope in &fork.scopes {
            let Some(place) = saga
                .scopes
                .get(scope)
                .filter(|place| place.round == fork.round)
            else {
                continue;
            };
            let result = match &place.cursor {
                Cursor::Ended(output) => output.value().clone(),
                Cursor::Failed(failure) => {
                    json!({ "Error": failure.error, "Cause": failure.cause })
                }
                _ => Value::Null,
            };
            if let Some(slot) = results.get_mut(place.index as usize) {
                *slot = result;
            }
        }
        Value::Array(results).into()
    }
}

/// What a Map goes over.
fn items(values: &Values<'_>, map: &Map, input: &Data) -> Result<Fork, Failure> {
    let effective = values.effective(input)?;
    let items = match &map.items {
        Items::Path(path) => values.path(path, &effective)?,
        Items::Jsonata(Some(items)) => values.fill(items, &effective, 12)?,
        Items::Jsonata(None) => effective,
    };
    let Some(width) = items.as_array().map(Vec::len) else {
        return Err(Failure::new(
            "States.Runtime",
            format!(
                "the items of a Map must be an array, not {}",
                kind_of(&items)
            ),
        ));
    };
    let width = u32::try_from(width).unwrap_or(u32::MAX);
    values.fits(&items)?;
    let limit = values.number(&map.concurrency_max, input, "MaxConcurrency")?;
    let mut tolerated = None;
    if let Some(given) = &map.tolerated_failures {
        tolerated = Some(values.number(given, input, "ToleratedFailureCount")?);
    }
    if let Some(given) = &map.tolerated_percentage {
        let percentage = values.fraction(given, input, "ToleratedFailurePercentage")?;
        let share = (percentage.clamp(0.0, 100.0) * f64::from(width) / 100.0).floor() as u64;
        tolerated = Some(tolerated.map_or(share, |count| count.min(share)));
    }
    let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(Fork {
        input: items,
        width,
        items: true,
        limit: short(limit),
        tolerated: tolerated.map(short),
    })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

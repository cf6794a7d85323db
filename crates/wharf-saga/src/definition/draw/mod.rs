//! A machine as a picture: Mermaid, DOT, SVG.
//!
//! The same machine gives the same bytes. Names and resources are texts of strangers and are
//! escaped in every form; nothing of a definition can become markup. The undo of a step stands
//! beside it, at the end of a dashed line; flows inside a Parallel or a Map stand inside its box.

mod dot;
mod layout;
mod mermaid;
mod svg;

use std::collections::BTreeMap;

use super::read::leads_on;
use super::{Flow, Kind, Machine};

/// Where an instance stands with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It is under way.
    Running,
    /// It was done.
    Done,
    /// It failed.
    Failed,
    /// It was done and undone.
    Undone,
    /// A person has to decide about it.
    Parked,
}

impl Mark {
    /// `running`, `done`, `failed`, `undone` or `parked`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Undone => "undone",
            Self::Parked => "parked",
        }
    }

    const ALL: [Self; 5] = [
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Undone,
        Self::Parked,
    ];

    /// The colours of a box: inside and border.
    fn colours(self) -> (&'static str, &'static str) {
        match self {
            Self::Running => ("#dbeafe", "#1d4ed8"),
            Self::Done => ("#dcfce7", "#15803d"),
            Self::Failed => ("#fee2e2", "#b91c1c"),
            Self::Undone => ("#fef3c7", "#b45309"),
            Self::Parked => ("#f3e8ff", "#7e22ce"),
        }
    }
}

/// Marks of an instance, by the names of states; a machine as such has none.
pub type Marks = BTreeMap<String, Mark>;

/// How a machine is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawing {
    /// A flowchart of Mermaid.
    Mermaid,
    /// A graph for Graphviz.
    Dot,
    /// A picture of its own.
    Svg,
}

impl Machine {
    /// Draws the machine, with the marks of an instance if there is one.
    pub fn draw(&self, form: Drawing, marks: &Marks) -> String {
        let mut count = 0;
        let top = chart(&self.flow, self.saga.pivot.as_deref(), marks, &mut count);
        match form {
            Drawing::Mermaid => mermaid::draw(&top),
            Drawing::Dot => dot::draw(&top),
            Drawing::Svg => svg::draw(&top),
        }
    }
}

/// A flow to draw.
struct Chart {
    /// The place of the first state in `nodes`.
    start: usize,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

/// A state to draw.
struct Node {
    /// A number of its own in the whole picture.
    id: usize,
    name: String,
    kind: &'static str,
    /// What its kind does not say: a resource.
    detail: String,
    undo: Option<String>,
    pivot: bool,
    mark: Option<Mark>,
    inside: Vec<Chart>,
}

impl Node {
    /// Name, kind and mark, as the lines of a label.
    fn lines(&self) -> Vec<String> {
        let mut second = self.kind.to_owned();
        if self.pivot {
            second.push_str(" · pivot");
        }
        if let Some(mark) = self.mark {
            second.push_str(" · ");
            second.push_str(mark.as_str());
        }
        let mut lines = vec![short(&self.name), second];
        if !self.detail.is_empty() {
            lines.push(short(&self.detail));
        }
        lines
    }
}

/// A line from one state to another.
struct Edge {
    from: usize,
    to: usize,
    way: Way,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Next,
    Rule,
    Error,
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Self::Next => "",
            Self::Rule => "if",
            Self::Error => "error",
        }
    }
}

fn chart(flow: &Flow, pivot: Option<&str>, marks: &Marks, count: &mut usize) -> Chart {
    let at: BTreeMap<&str, usize> = flow
        .states
        .iter()
        .enumerate()
        .map(|(at, state)| (state.name.as_str(), at))
        .collect();
    let mut nodes = Vec::with_capacity(flow.states.len());
    let mut edges: Vec<Edge> = Vec::new();
    for (from, state) in flow.states.iter().enumerate() {
        let id = *count;
        *count += 1;
        let inside = match &state.kind {
            Kind::Parallel(parallel) => parallel.branches.iter().collect(),
            Kind::Map(map) => vec![&map.processor],
            _ => Vec::new(),
        };
        let detail = match &state.kind {
            Kind::Task(task) => task.resource.clone(),
            _ => String::new(),
        };
        nodes.push(Node {
            id,
            name: state.name.clone(),
            kind: state.kind.name(),
            detail,
            undo: state.compensate.as_ref().map(|undo| undo.resource.clone()),
            pivot: pivot == Some(state.name.as_str()),
            mark: marks.get(&state.name).copied(),
            inside: inside
                .into_iter()
                .map(|flow| chart(flow, None, marks, count))
                .collect(),
        });
        let errors = state.catch.len();
        for (index, target) in leads_on(state).into_iter().enumerate() {
            let way = match &state.kind {
                _ if index < errors => Way::Error,
                Kind::Choice(choice) if index < choice.rules.len() => Way::Rule,
                _ => Way::Next,
            };
            let Some(to) = at.get(target).copied() else {
                continue;
            };
            if !edges
                .iter()
                .any(|e| e.from == from && e.to == to && e.way == way)
            {
                edges.push(Edge { from, to, way });
            }
        }
    }
    let start = at.get(flow.start_at.as_str()).copied().unwrap_or_default();
    Chart {
        start,
        nodes,
        edges,
    }
}

/// A text short enough for a box, without characters that control.
fn short(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(40)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}

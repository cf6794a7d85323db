//! A contract as a drawing: Mermaid for documents, DOT for Graphviz.

use serde::Serialize;

use super::{Contract, End, Expect};

/// An arrow of a drawing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Arrow {
    /// From this event.
    pub from: String,
    /// To that one.
    pub to: String,
    /// What is written at it.
    pub label: String,
    /// Whether it is dashed: an undo, or something rare.
    pub is_dashed: bool,
}

/// A node of a drawing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The event.
    pub name: String,
    /// What is written below it.
    pub note: String,
    /// Whether instances end there.
    pub is_end: bool,
}

/// Something to draw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drawing {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The arrows.
    pub arrows: Vec<Arrow>,
}

impl Drawing {
    /// What a contract says.
    pub fn of(contract: &Contract) -> Self {
        let node = |event: &super::Event| Node {
            name: event.name.clone(),
            note: match event.end {
                Some(End::Completed) => "ends completed".to_owned(),
                Some(End::Compensated) => "ends compensated".to_owned(),
                None => event.from.clone().unwrap_or_default(),
            },
            is_end: event.end.is_some(),
        };
        let name = |event: usize| contract.event(event).to_owned();
        let mut arrows = Vec::new();
        for rule in &contract.rules {
            let how = match &rule.expect {
                Expect::OneOf(events) if events.len() > 1 => "one within",
                _ => "within",
            };
            let within = humantime::format_duration(rule.within);
            arrows.extend(rule.events().iter().map(|event| Arrow {
                from: name(rule.on),
                to: name(*event),
                label: format!("{how} {within}"),
                is_dashed: false,
            }));
        }
        for (number, event) in contract.events.iter().enumerate() {
            if let Some(undo) = event.undo {
                arrows.push(Arrow {
                    from: name(number),
                    to: name(undo),
                    label: "undone by".to_owned(),
                    is_dashed: true,
                });
            }
        }
        Self {
            nodes: contract.events.iter().map(node).collect(),
            arrows,
        }
    }

    /// What was mined from traffic.
    pub fn of_graph(graph: &crate::choreography::lens::Graph) -> Self {
        let node = |event: &crate::choreography::lens::Event| Node {
            name: event.event.clone(),
            note: format!("{} times", event.count),
            is_end: event.ends > 0,
        };
        let arrow = |edge: &crate::choreography::lens::Edge| Arrow {
            from: edge.from.clone(),
            to: edge.to.clone(),
            label: format!(
                "{}, p50 {} ms, p99 {} ms",
                edge.count, edge.p50_ms, edge.p99_ms
            ),
            is_dashed: edge.is_rare,
        };
        Self {
            nodes: graph.events.iter().map(node).collect(),
            arrows: graph.edges.iter().map(arrow).collect(),
        }
    }

    /// As a flow chart for Mermaid.
    pub fn mermaid(&self) -> String {
        let mut text = "flowchart TD\n".to_owned();
        for (index, node) in self.nodes.iter().enumerate() {
            let label = escaped(&lines(node, "<br/>"));
            let (open, close) = if node.is_end {
                ("([", "])")
            } else {
                ("[", "]")
            };
            text.push_str(&format!("  n{index}{open}\"{label}\"{close}\n"));
        }
        for arrow in &self.arrows {
            let (Some(from), Some(to)) = (self.index(&arrow.from), self.index(&arrow.to)) else {
                continue;
            };
            let line = if arrow.is_dashed { "-.->" } else { "-->" };
            text.push_str(&format!(
                "  n{from} {line}|\"{}\"| n{to}\n",
                escaped(&arrow.label)
            ));
        }
        text
    }

    /// As a graph for Graphviz.
    pub fn dot(&self) -> String {
        let quoted = |text: &str| {
            format!(
                "\"{}\"",
                text.replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\n', "\\n")
            )
        };
        let mut text = "digraph choreography {\n  node [shape=box];\n".to_owned();
        for node in &self.nodes {
            let shape = if node.is_end { ", style=rounded" } else { "" };
            let label = quoted(&lines(node, "\n"));
            text.push_str(&format!(
                "  {} [label={label}{shape}];\n",
                quoted(&node.name)
            ));
        }
        for arrow in &self.arrows {
            let style = if arrow.is_dashed {
                ", style=dashed"
            } else {
                ""
            };
            let (from, to) = (quoted(&arrow.from), quoted(&arrow.to));
            text.push_str(&format!(
                "  {from} -> {to} [label={}{style}];\n",
                quoted(&arrow.label)
            ));
        }
        text.push_str("}\n");
        text
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }
}

fn lines(node: &Node, end: &str) -> String {
    match node.note.is_empty() {
        true => node.name.clone(),
        false => format!("{}{end}{}", node.name, node.note),
    }
}

/// Mermaid's own signs as its entities; what breaks a line is only our own.
fn escaped(text: &str) -> String {
    let text = text.replace("<br/>", "\u{1}");
    let mut out = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '\u{1}' => out.push_str("<br/>"),
            '"' => out.push_str("#quot;"),
            '#' => out.push_str("#35;"),
            '<' => out.push_str("#lt;"),
            '>' => out.push_str("#gt;"),
            sign if sign.is_control() => out.push(' '),
            sign => out.push(sign),
        }
    }
    out
}

//! A graph for Graphviz. A state with flows inside is a cluster with a node of its own at its head.

use std::fmt::Write as _;

use super::{Chart, Node, Way, short};

pub(super) fn draw(top: &Chart) -> String {
    let mut out = "digraph saga {\n".to_owned();
    out.push_str("  rankdir=TB; compound=true;\n");
    out.push_str(
        "  node [shape=box style=\"rounded,filled\" fillcolor=white fontname=\"sans-serif\"];\n",
    );
    out.push_str("  start [shape=circle label=\"\" width=0.2 fillcolor=black];\n");
    let _infallible = write(&mut out, top);
    out.push_str("}\n");
    out
}

fn write(out: &mut String, top: &Chart) -> std::fmt::Result {
    if let Some(first) = top.nodes.get(top.start) {
        writeln!(out, "  start -> n{};", first.id)?;
    }
    chart(out, top, 1)
}

fn chart(out: &mut String, chart: &Chart, depth: usize) -> std::fmt::Result {
    let indent = "  ".repeat(depth);
    for one in &chart.nodes {
        if one.inside.is_empty() {
            node(out, one, &indent)?;
        } else {
            cluster(out, one, depth)?;
        }
        if let Some(undo) = &one.undo {
            let label = escape(&short(undo));
            writeln!(
                out,
                "{indent}u{} [label=\"undo: {label}\" style=\"rounded,dashed\"];",
                one.id
            )?;
            writeln!(
                out,
                "{indent}n{0} -> u{0} [style=dashed constraint=false];",
                one.id
            )?;
        }
    }
    for edge in &chart.edges {
        let (Some(from), Some(to)) = (chart.nodes.get(edge.from), chart.nodes.get(edge.to)) else {
            continue;
        };
        let mut with = Vec::new();
        if edge.way != Way::Next {
            with.push(format!("label=\"{}\"", edge.way.label()));
        }
        if !from.inside.is_empty() {
            with.push(format!("ltail=cluster_{}", from.id));
        }
        if !to.inside.is_empty() {
            with.push(format!("lhead=cluster_{}", to.id));
        }
        let with = if with.is_empty() {
            String::new()
        } else {
            format!(" [{}]", with.join(" "))
        };
        writeln!(out, "{indent}n{} -> n{}{with};", from.id, to.id)?;
    }
    Ok(())
}

fn cluster(out: &mut String, one: &Node, depth: usize) -> std::fmt::Result {
    let indent = "  ".repeat(depth);
    writeln!(out, "{indent}subgraph cluster_{} {{", one.id)?;
    node(out, one, &format!("{indent}  "))?;
    for (index, flow) in one.inside.iter().enumerate() {
        writeln!(out, "{indent}  subgraph cluster_{}_{index} {{", one.id)?;
        writeln!(out, "{indent}    style=dotted;")?;
        chart(out, flow, depth + 2)?;
        writeln!(out, "{indent}  }}")?;
        if let Some(first) = flow.nodes.get(flow.start) {
            writeln!(
                out,
                "{indent}  n{} -> n{} [style=dotted];",
                one.id, first.id
            )?;
        }
    }
    writeln!(out, "{indent}}}")
}

fn node(out: &mut String, node: &Node, indent: &str) -> std::fmt::Result {
    let label = node
        .lines()
        .iter()
        .map(|line| escape(line))
        .collect::<Vec<_>>()
        .join("\\n");
    let mut with = format!("label=\"{label}\"");
    if node.kind == "Choice" {
        with.push_str(" shape=diamond style=filled");
    }
    if let Some(mark) = node.mark {
        let (fill, border) = mark.colours();
        let _infallible = write!(with, " fillcolor=\"{fill}\" color=\"{border}\"");
    }
    if node.pivot {
        with.push_str(" penwidth=3");
    }
    writeln!(out, "{indent}n{} [{with}];", node.id)
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

//! A flowchart of Mermaid. Every character that could mean something to it is written as a number.

use std::fmt::Write as _;

use super::{Chart, Mark, Node, short};

pub(super) fn draw(top: &Chart) -> String {
    let mut out = "flowchart TD\n".to_owned();
    let _infallible = write(&mut out, top);
    out
}

fn write(out: &mut String, top: &Chart) -> std::fmt::Result {
    writeln!(out, "  start((\" \"))")?;
    if let Some(first) = top.nodes.get(top.start) {
        writeln!(out, "  start --> n{}", first.id)?;
    }
    chart(out, top, 1)?;
    writeln!(out, "  classDef pivot stroke-width:4px")?;
    writeln!(out, "  classDef undo stroke-dasharray:4 3")?;
    for mark in Mark::ALL {
        let (fill, stroke) = mark.colours();
        writeln!(
            out,
            "  classDef {} fill:{fill},stroke:{stroke},color:#111",
            mark.as_str()
        )?;
    }
    Ok(())
}

fn chart(out: &mut String, chart: &Chart, depth: usize) -> std::fmt::Result {
    let indent = "  ".repeat(depth);
    for one in &chart.nodes {
        node(out, one, depth)?;
        if let Some(undo) = &one.undo {
            let label = escape(&short(undo));
            writeln!(out, "{indent}u{}([\"undo: {label}\"]):::undo", one.id)?;
            writeln!(out, "{indent}n{} -.-> u{}", one.id, one.id)?;
        }
    }
    for edge in &chart.edges {
        let (Some(from), Some(to)) = (chart.nodes.get(edge.from), chart.nodes.get(edge.to)) else {
            continue;
        };
        match edge.way.label() {
            "" => writeln!(out, "{indent}n{} --> n{}", from.id, to.id)?,
            label => writeln!(out, "{indent}n{} -- {label} --> n{}", from.id, to.id)?,
        }
    }
    Ok(())
}

fn node(out: &mut String, node: &Node, depth: usize) -> std::fmt::Result {
    let indent = "  ".repeat(depth);
    let label = node
        .lines()
        .iter()
        .map(|line| escape(line))
        .collect::<Vec<_>>()
        .join("<br/>");
    let id = node.id;
    if node.inside.is_empty() {
        let (open, close) = match node.kind {
            "Choice" => ("{", "}"),
            "Succeed" | "Fail" => ("([", "])"),
            "Wait" => ("{{", "}}"),
            _ => ("[", "]"),
        };
        writeln!(out, "{indent}n{id}{open}\"{label}\"{close}")?;
    } else {
        writeln!(out, "{indent}subgraph n{id}[\"{label}\"]")?;
        for (index, flow) in node.inside.iter().enumerate() {
            writeln!(out, "{indent}  subgraph b{id}_{index}[\" \"]")?;
            chart(out, flow, depth + 2)?;
            writeln!(out, "{indent}  end")?;
        }
        writeln!(out, "{indent}end")?;
    }
    if let Some(mark) = node.mark {
        writeln!(out, "{indent}class n{id} {}", mark.as_str())?;
    }
    if node.pivot {
        writeln!(out, "{indent}class n{id} pivot")?;
    }
    Ok(())
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_alphanumeric() || " -_.:/·…,".contains(character) {
            escaped.push(character);
        } else {
            let _infallible = write!(escaped, "#{};", u32::from(character));
        }
    }
    escaped
}

//! A picture of its own, without scripts or links; every text is escaped.

use std::fmt::Write as _;

use super::layout::{LINE, Laid, Placed, lay, text_width};
use super::{Chart, Mark, Node, Way, short};

const MARGIN: f64 = 20.0;

pub(super) fn draw(top: &Chart) -> String {
    let laid = lay(top);
    let (width, height) = (laid.width + 2.0 * MARGIN, laid.height + 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" font-family=\"sans-serif\" font-size=\"13\">\n"
    );
    out.push_str("<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#555\"/></marker></defs>\n");
    out.push_str("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
    let _infallible = flow(&mut out, top, &laid, (MARGIN, MARGIN));
    out.push_str("</svg>\n");
    out
}

fn flow(out: &mut String, chart: &Chart, laid: &Laid, (dx, dy): (f64, f64)) -> std::fmt::Result {
    if let Some(first) = laid.boxes.get(chart.start) {
        let x = dx + first.x + first.width / 2.0;
        let (above, y) = (dy + first.y - 26.0, dy + first.y);
        writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{above:.1}\" r=\"5\" fill=\"#555\"/>"
        )?;
        writeln!(
            out,
            "<path d=\"M{x:.1} {above:.1}V{y:.1}\" stroke=\"#555\" marker-end=\"url(#tip)\"/>"
        )?;
    }
    for (edge, line) in chart.edges.iter().zip(&laid.lines) {
        let mut path = String::new();
        for (index, (x, y)) in line.iter().enumerate() {
            let step = if index == 0 { 'M' } else { 'L' };
            write!(path, "{step}{:.1} {:.1}", dx + x, dy + y)?;
        }
        let colour = if edge.way == Way::Error {
            "#b91c1c"
        } else {
            "#555"
        };
        writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" marker-end=\"url(#tip)\"/>"
        )?;
        if let (Some((x, y)), false) = (line.first(), edge.way.label().is_empty()) {
            let (x, y) = (dx + x + 4.0, dy + y + 13.0);
            writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"11\" fill=\"{colour}\">{}</text>",
                edge.way.label()
            )?;
        }
    }
    for (node, placed) in chart.nodes.iter().zip(&laid.boxes) {
        state(out, node, placed, (dx, dy))?;
    }
    Ok(())
}

fn state(out: &mut String, node: &Node, placed: &Placed, (dx, dy): (f64, f64)) -> std::fmt::Result {
    let (x, y) = (dx + placed.x, dy + placed.y);
    let (width, height) = (placed.width, placed.height);
    let (fill, border) = node.mark.map_or(("#ffffff", "#333333"), Mark::colours);
    let fill = if node.inside.is_empty() { fill } else { "none" };
    let thick = if node.pivot { 4 } else { 1 };
    let round = if matches!(node.kind, "Succeed" | "Fail") {
        20
    } else {
        6
    };
    writeln!(out, "<g><title>{}</title>", escape(&node.name))?;
    writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{round}\" fill=\"{fill}\" stroke=\"{border}\" stroke-width=\"{thick}\"/>"
    )?;
    let middle = x + width / 2.0;
    let mut base = y + LINE + 2.0;
    for (index, line) in node.lines().iter().enumerate() {
        let weight = if index == 0 {
            "font-weight=\"600\""
        } else {
            "font-size=\"11\""
        };
        writeln!(
            out,
            "<text x=\"{middle:.1}\" y=\"{base:.1}\" text-anchor=\"middle\" {weight} fill=\"#111\">{}</text>",
            escape(line)
        )?;
        base += LINE;
    }
    if let Some(undo) = &node.undo {
        let label = format!("undo: {}", short(undo));
        let (left, top) = (x + width + 36.0, y + 10.0);
        let (wide, line) = (text_width(&label) + 24.0, top + LINE);
        writeln!(
            out,
            "<path d=\"M{:.1} {line:.1}H{left:.1}\" stroke=\"#b45309\" stroke-dasharray=\"4 3\" marker-end=\"url(#tip)\"/>",
            x + width
        )?;
        writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{wide:.1}\" height=\"{:.1}\" rx=\"6\" fill=\"#fffbeb\" stroke=\"#b45309\" stroke-dasharray=\"4 3\"/>",
            2.0 * LINE
        )?;
        writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#111\">{}</text>",
            left + wide / 2.0,
            line + 4.0,
            escape(&label)
        )?;
    }
    writeln!(out, "</g>")?;
    for ((left, top, laid), chart) in placed.inside.iter().zip(&node.inside) {
        flow(out, chart, laid, (x + left, y + top))?;
    }
    Ok(())
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

//! A plot for each row, as SVG: bars for single values, lines over the percentiles of latencies.
//!
//! Latencies are drawn on a logarithmic scale, because a stall is hundreds of times a good answer.

use std::fmt::Write as _;

use super::page::number;
use super::{Outcome, Report, Row};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 270.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 44.0;
const BAR: f64 = 18.0;
const STEP: f64 = 26.0;
const LINES_HEIGHT: f64 = 280.0;
const COLOURS: &[&str] = &[
    "#0b6e99", "#c44536", "#e09f3e", "#6a994e", "#386641", "#9d4edd", "#bc6c25", "#577590",
    "#8d99ae",
];

/// Draws a row.
pub(super) fn draw(report: &Report, row: &Row) -> String {
    if row.shape.columns.contains(&"p99.9") {
        lines(report, row)
    } else {
        bars(report, row)
    }
}

fn begin(height: f64, row: &Row) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let title = format!("{} ({})", row.shape.title, row.shape.unit);
    text(&mut svg, (12.0, 24.0), "start", &title, 15);
    svg
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, text: &str, size: u32) {
    let (x, y) = at;
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"#222222\">{text}</text>"
    )
    .expect("a string takes everything");
}

fn name<'a>(report: &'a Report, key: &'a str) -> &'a str {
    let named = report.servers.iter().find(|server| server.key == key);
    named.map_or(key, |server| server.name)
}

fn colour(report: &Report, key: &str) -> &'static str {
    let at = report.servers.iter().position(|server| server.key == key);
    COLOURS[at.unwrap_or(0) % COLOURS.len()]
}

fn bars(report: &Report, row: &Row) -> String {
    let count = row.cells.len() as f64;
    let mut svg = begin(TOP + count * STEP + 12.0, row);
    let most = row
        .cells
        .iter()
        .filter_map(|cell| row.headline(cell.server))
        .fold(0.0, f64::max);
    let room = WIDTH - LEFT - RIGHT;
    for (at, cell) in row.cells.iter().enumerate() {
        let y = TOP + at as f64 * STEP;
        let label = name(report, cell.server);
        text(&mut svg, (LEFT - 8.0, y + 13.0), "end", label, 12);
        let Some(value) = row.headline(cell.server) else {
            text(&mut svg, (LEFT, y + 13.0), "start", "not measured", 12);
            continue;
        };
        let length = if most > 0.0 { value / most * room } else { 0.0 };
        writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
            length.max(1.0),
            colour(report, cell.server)
        )
        .expect("a string takes everything");
        let end = (LEFT + length.max(1.0) + 6.0, y + 13.0);
        text(&mut svg, end, "start", &number(value), 12);
    }
    svg + "</svg>\n"
}

fn lines(report: &Report, row: &Row) -> String {
    let series: Vec<(&str, &[f64])> = row
        .cells
        .iter()
        .filter_map(|cell| match &cell.outcome {
            Outcome::Values(values) => Some((cell.server, values.as_slice())),
            Outcome::Missing(_) => None,
        })
        .collect();
    let bottom = TOP + LINES_HEIGHT;
    let height = bottom + 34.0 + STEP * series.len().div_ceil(2) as f64;
    let mut svg = begin(height, row);
    let all = || series.iter().flat_map(|(_, values)| values.iter().copied());
    let low = all().fold(f64::MAX, f64::min).max(1e-3).log10().floor();
    let high = all().fold(0.0, f64::max).max(1e-2).log10().ceil();
    let (left, right) = (70.0, WIDTH - 24.0);
    let columns = row.shape.columns.len();
    let x = |column: usize| left + (right - left) * column as f64 / (columns.max(2) - 1) as f64;
    let y = |value: f64| {
        let share = (value.max(1e-3).log10() - low) / (high - low).max(1.0);
        bottom - share * (LINES_HEIGHT - 10.0)
    };
    let mut exponent = low;
    while exponent <= high {
        let value = 10_f64.powf(exponent);
        let at = y(value);
        writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>"
        )
        .expect("a string takes everything");
        text(&mut svg, (left - 8.0, at + 4.0), "end", &number(value), 11);
        exponent += 1.0;
    }
    for (column, label) in row.shape.columns.iter().enumerate() {
        text(&mut svg, (x(column), bottom + 18.0), "middle", label, 11);
    }
    for (at, (server, values)) in series.iter().enumerate() {
        let points: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(column, value)| format!("{:.1},{:.1}", x(column), y(*value)))
            .collect();
        let colour = colour(report, server);
        writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            points.join(" ")
        )
        .expect("a string takes everything");
        let legend = (
            left + (at % 2) as f64 * (right - left) / 2.0,
            bottom + 40.0 + STEP * (at / 2) as f64,
        );
        writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>",
            legend.0,
            legend.1 - 5.0
        )
        .expect("a string takes everything");
        let label = (legend.0 + 20.0, legend.1);
        text(&mut svg, label, "start", name(report, server), 12);
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::super::Better;
    use super::super::tests::{report, row};
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let report = report(vec![row("produce", Better::Higher, 300.0, 150.0)]);
        let svg = draw(&report, &report.rows[0]);
        let widths: Vec<&str> = svg
            .lines()
            .filter(|line| line.starts_with("<rect x=\"270\""))
            .filter_map(|line| line.split("width=\"").nth(1)?.split('"').next())
            .collect();
        assert_eq!(widths, ["380.0", "190.0"]);
    }

    #[test]
    fn latencies_are_lines_and_names_are_escaped() {
        let mut slow = row("one", Better::Lower, 100.0, 10_000.0);
        slow.shape.columns = &["p50", "p99.9"];
        slow.shape.title = "a < b & c".to_owned();
        for cell in &mut slow.cells {
            if let Outcome::Values(values) = &mut cell.outcome {
                values.push(values[0] * 10.0);
            }
        }
        let report = report(vec![slow]);
        let svg = draw(&report, &report.rows[0]);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("a &lt; b &amp; c"), "{svg}");
    }
}

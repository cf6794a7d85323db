//! Where things go: states in layers from the top, flows inside their box.
//!
//! Lines run between the layers and beside them, never through a box of the same flow.

use super::{Chart, Node};

pub(super) const LINE: f64 = 16.0;
const PAD: f64 = 12.0;
const GAP: f64 = 36.0;
const GUTTER: f64 = 44.0;
const LANE: f64 = 10.0;

/// A flow with places.
pub(super) struct Laid {
    pub(super) width: f64,
    pub(super) height: f64,
    /// By node.
    pub(super) boxes: Vec<Placed>,
    /// By edge: the corners of its line.
    pub(super) lines: Vec<Vec<(f64, f64)>>,
}

/// A state with a place, from the upper left corner of its flow.
pub(super) struct Placed {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// The width of the undo to the right, and 0 without one.
    pub(super) undo: f64,
    /// The flows inside, each with its place in the box.
    pub(super) inside: Vec<(f64, f64, Laid)>,
}

pub(super) fn lay(chart: &Chart) -> Laid {
    let mut boxes: Vec<Placed> = chart.nodes.iter().map(measure).collect();
    let layer = layers(chart);
    let count = layer.iter().max().map_or(0, |last| last + 1);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (node, layer) in layer.iter().enumerate() {
        rows[*layer].push(node);
    }
    order(chart, &layer, &mut rows);
    let across = |row: &Vec<usize>, boxes: &[Placed]| {
        let widths: f64 = row.iter().map(|node| whole(&boxes[*node])).sum();
        widths + GAP * half(row.len().saturating_sub(1)) * 2.0
    };
    let width = rows
        .iter()
        .map(|row| across(row, &boxes))
        .fold(0.0, f64::max);
    let mut y = GUTTER;
    // The middle of the gutter above each row, and below the last.
    let mut gutters = Vec::with_capacity(count + 1);
    for row in &rows {
        gutters.push(y - GUTTER / 2.0);
        let mut x = (width - across(row, &boxes)) / 2.0;
        let height = row
            .iter()
            .map(|node| boxes[*node].height)
            .fold(0.0, f64::max);
        for node in row {
            let placed = &mut boxes[*node];
            (placed.x, placed.y) = (x, y);
            x += whole(placed) + GAP;
        }
        y += height + GUTTER;
    }
    gutters.push(y - GUTTER / 2.0);
    let mut lanes = 0;
    let mut lines = Vec::with_capacity(chart.edges.len());
    for edge in &chart.edges {
        let (from, to) = (&boxes[edge.from], &boxes[edge.to]);
        let (x1, y1) = (from.x + from.width / 2.0, from.y + from.height);
        let (x2, y2) = (to.x + to.width / 2.0, to.y);
        if layer[edge.to] == layer[edge.from] + 1 {
            let middle = gutters[layer[edge.to]];
            lines.push(vec![(x1, y1), (x1, middle), (x2, middle), (x2, y2)]);
        } else {
            // Farther than to the next layer: down, along a lane at the side, and back.
            lanes += 1;
            let shift = half(lanes % 5) * 4.0;
            let lane = width + LANE * half(lanes) * 2.0;
            let (below, above) = (
                gutters[layer[edge.from] + 1] + shift,
                gutters[layer[edge.to]] - shift,
            );
            lines.push(vec![
                (x1, y1),
                (x1, below),
                (lane, below),
                (lane, above),
                (x2, above),
                (x2, y2),
            ]);
        }
    }
    let width = width + LANE * half(lanes + 1) * 2.0;
    Laid {
        width,
        height: y,
        boxes,
        lines,
    }
}

/// Half of a count, as a length.
fn half(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / 2.0
}

fn whole(placed: &Placed) -> f64 {
    if placed.undo > 0.0 {
        placed.width + GAP + placed.undo
    } else {
        placed.width
    }
}

pub(super) fn text_width(text: &str) -> f64 {
    // Letters of other scripts may be twice as wide.
    let wide = text.chars().filter(|c| u32::from(*c) > 0x2e80).count();
    half(text.chars().count() + wide) * 2.0 * 7.4
}

fn measure(node: &Node) -> Placed {
    let lines = node.lines();
    let widest = lines
        .iter()
        .map(|line| text_width(line))
        .fold(0.0, f64::max);
    let head = half(lines.len()) * 2.0 * LINE + PAD * 1.5;
    let undo = node.undo.as_ref().map_or(0.0, |undo| {
        text_width(&format!("undo: {}", super::short(undo))) + 2.0 * PAD
    });
    let (mut x, mut height) = (PAD, 0.0_f64);
    let mut inside = Vec::new();
    for flow in &node.inside {
        let laid = lay(flow);
        height = height.max(laid.height);
        let width = laid.width;
        inside.push((x, head, laid));
        x += width + PAD;
    }
    Placed {
        x: 0.0,
        y: 0.0,
        width: x.max(widest + 2.0 * PAD).max(90.0),
        height: head + height,
        undo,
        inside,
    }
}

/// The layer of each state: the longest way from the start, lines back to earlier states left out.
fn layers(chart: &Chart) -> Vec<usize> {
    let count = chart.nodes.len();
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); count];
    for edge in &chart.edges {
        next[edge.from].push(edge.to);
    }
    // 0 is new, 1 is open, 2 is finished.
    let mut seen = vec![0_u8; count];
    let mut finished = Vec::with_capacity(count);
    let mut back = std::collections::HashSet::new();
    for root in std::iter::once(chart.start).chain(0..count) {
        if seen[root] != 0 {
            continue;
        }
        seen[root] = 1;
        let mut open = vec![(root, 0)];
        while let Some((node, at)) = open.last_mut() {
            let from = *node;
            if let Some(to) = next[from].get(*at).copied() {
                *at += 1;
                match seen[to] {
                    0 => {
                        seen[to] = 1;
                        open.push((to, 0));
                    }
                    1 => {
                        back.insert((from, to));
                    }
                    _ => {}
                }
            } else {
                seen[from] = 2;
                finished.push(from);
                open.pop();
            }
        }
    }
    let mut layer = vec![0; count];
    for from in finished.into_iter().rev() {
        for to in &next[from] {
            if !back.contains(&(from, *to)) {
                layer[*to] = layer[*to].max(layer[from] + 1);
            }
        }
    }
    layer
}

/// Orders each row by the middle of what leads to it, so that lines cross less.
fn order(chart: &Chart, layer: &[usize], rows: &mut [Vec<usize>]) {
    let mut place = vec![0.0; chart.nodes.len()];
    for row in rows.iter_mut() {
        let mut weights: Vec<(f64, usize)> = row
            .iter()
            .map(|node| {
                let above: Vec<f64> = chart
                    .edges
                    .iter()
                    .filter(|edge| edge.to == *node && layer[edge.from] < layer[*node])
                    .map(|edge| place[edge.from])
                    .collect();
                let middle = above.iter().sum::<f64>() / (half(above.len()) * 2.0).max(1.0);
                (middle, *node)
            })
            .collect();
        weights.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        *row = weights.into_iter().map(|(_, node)| node).collect();
        let spread = half(row.len()).max(0.5) * 2.0;
        for (at, node) in row.iter().enumerate() {
            place[*node] = (half(at) * 2.0 + 0.5) / spread;
        }
    }
}

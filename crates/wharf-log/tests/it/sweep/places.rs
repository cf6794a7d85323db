//! Where the sweep strikes: every byte of what is structure (of equal structures in a row the first and
//! last whole, samples of the others), samples of what is payload.

use wharf_log::batch;

use super::Harm;
use super::data::Data;

const BLOCK: usize = 4096;
const FRAME_HEADER_BYTES: usize = 72;
/// Every so many bytes of a payload.
const SAMPLE: usize = 61;
/// Every so many bytes of a frame between others.
const MIDDLE_SAMPLE: usize = 13;
/// Every so many blocks without a frame.
const BLANK_SAMPLE: usize = 5;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Journal,
    Segment,
    Index,
    Snapshot,
    Mark,
}

impl Kind {
    pub(super) fn of(path: &str) -> Self {
        match path.rsplit_once('.').map(|(_, end)| end) {
            Some("wal") => Self::Journal,
            Some("log") => Self::Segment,
            Some("idx") => Self::Index,
            Some("snap") => Self::Snapshot,
            _ => Self::Mark,
        }
    }

    /// How many offsets one flipped byte may cost.
    pub(super) fn refused_max(self, data: &Data) -> usize {
        match self {
            // One unit appends one batch of two records.
            Self::Journal => 2,
            // Where batches begin is told by their lengths: a wrong one costs what follows up to the
            // next index entry, which small segments do not have.
            Self::Segment => data.expected.values().map(Vec::len).max().unwrap_or(0),
            Self::Index | Self::Snapshot | Self::Mark => 0,
        }
    }
}

pub(super) fn flips(kind: Kind, content: &[u8]) -> Vec<Harm> {
    let places = match kind {
        Kind::Journal => journal(content),
        Kind::Segment => segment(content),
        Kind::Index | Kind::Snapshot | Kind::Mark => (0..content.len()).collect(),
    };
    let one = |position: usize| Harm::Flip {
        position,
        pattern: 1 << (position % 8),
    };
    let all = |position: usize| Harm::Flip {
        position,
        pattern: 0xff,
    };
    let every_fourth = places.iter().copied().step_by(4).map(all);
    places
        .iter()
        .copied()
        .map(one)
        .chain(every_fourth)
        .collect()
}

fn number(content: &[u8], at: usize) -> usize {
    let bytes = content[at..at + 4].try_into().unwrap();
    u32::from_le_bytes(bytes) as usize
}

/// Where frames begin, with the bytes of their meta and payload.
fn frames(content: &[u8]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..content.len()).step_by(BLOCK).filter_map(|at| {
        let frame = content[at..].starts_with(b"WHARFJNL");
        frame.then(|| (at, number(content, at + 56), number(content, at + 60)))
    })
}

fn journal(content: &[u8]) -> Vec<usize> {
    let mut places = Vec::new();
    let count = frames(content).count();
    for (index, (at, meta, payload)) in frames(content).enumerate() {
        // Every byte of the first and last frames of a file, samples of those between.
        let at_an_end = index < 2 || index + 2 >= count;
        let step = if at_an_end { 1 } else { MIDDLE_SAMPLE };
        let payload_at = at + FRAME_HEADER_BYTES + meta;
        places.extend((at + index % step..payload_at).step_by(step));
        places.extend((payload_at..payload_at + payload).step_by(SAMPLE * step));
        // The zeros behind it.
        places.push((payload_at + payload).min(at + BLOCK - 1));
    }
    let blank = (0..content.len()).step_by(BLOCK * BLANK_SAMPLE);
    places.extend(blank.filter(|at| !content[*at..].starts_with(b"WHARFJNL")));
    places
}

/// Where batches begin.
fn batches(content: &[u8]) -> Vec<(usize, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Ok(header) = batch::header(&content[at..]) {
        found.push((at, header.batch_bytes()));
        at += header.batch_bytes();
    }
    found
}

fn segment(content: &[u8]) -> Vec<usize> {
    let batches = batches(content);
    let count = batches.len();
    let places = batches.into_iter().enumerate();
    let places = places.flat_map(|(index, (at, bytes))| {
        let at_an_end = index < 3 || index + 2 >= count;
        let step = if at_an_end { 1 } else { MIDDLE_SAMPLE };
        let header = (at + index % step..at + batch::HEADER_BYTES).step_by(step);
        header.chain((at + batch::HEADER_BYTES..at + bytes).step_by(SAMPLE * step))
    });
    places.collect()
}

/// Ends within, at and between the parts of a file.
pub(super) fn cuts(kind: Kind, content: &[u8]) -> Vec<Harm> {
    let mut ends: Vec<usize> = match kind {
        Kind::Journal => {
            let frames = frames(content).step_by(3).flat_map(|(at, meta, payload)| {
                let whole = at + FRAME_HEADER_BYTES + meta + payload;
                [
                    at,
                    at + 1,
                    at + FRAME_HEADER_BYTES,
                    whole - 1,
                    whole,
                    at + BLOCK,
                ]
            });
            frames
                .chain([0, content.len() / 2, content.len() - 1])
                .collect()
        }
        Kind::Segment => {
            let batches = batches(content).into_iter();
            batches
                .flat_map(|(at, bytes)| [at, at + 1, at + 30, at + bytes - 1])
                .collect()
        }
        Kind::Index | Kind::Mark => (0..content.len()).collect(),
        Kind::Snapshot => (0..content.len()).step_by(3).collect(),
    };
    ends.retain(|end| *end < content.len());
    ends.dedup();
    ends.into_iter().map(|bytes| Harm::Cut { bytes }).collect()
}

//! Snapshots with a right checksum and any content: what only a defect could write must be refused
//! or do no harm.
//!
//! The input begins with a byte of flags; then come changes to the snapshot of a real log: where in
//! its body (u16), and the piece that is written there. A piece of length zero cuts it.

use std::sync::OnceLock;

use crate::disk::{self, Files, Served};
use crate::input::{Input, put_piece};
use crate::segments::change;

/// The rest of the input is the whole body.
const WHOLE: u8 = 1;
/// There is no journal.
const NO_JOURNAL: u8 = 2;
const HEADER_BYTES: usize = 24;
const CRC_BYTES: usize = 4;
const CHANGES_MAX: usize = 16;

fn template() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let mut files = disk::files(&disk::filled(40, true));
        // Of two snapshots the newest counts, and a stop mark would keep the journal from being read.
        let newest = files.iter().rposition(|file| file.0.ends_with(".snap"));
        let newest = newest.map(|at| files[at].0.clone());
        files.retain(|(path, _)| {
            !path.ends_with(".snap") && path != "stopped" || Some(path) == newest.as_ref()
        });
        files
    })
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let mut files = template().clone();
    if flags & NO_JOURNAL != 0 {
        files.retain(|file| !file.0.starts_with("journal/"));
    }
    for (path, content) in &mut files {
        if path.ends_with(".snap") {
            *content = assemble(flags, input, content);
        }
    }
    disk::exercise(&disk::disk_of(&files), Served::Ignored);
}

fn assemble(flags: u8, mut input: Input<'_>, template: &[u8]) -> Vec<u8> {
    let header = &template[..HEADER_BYTES];
    let mut body = template[HEADER_BYTES..template.len() - CRC_BYTES].to_vec();
    if flags & WHOLE != 0 {
        body = input.rest().to_vec();
    } else {
        for _ in 0..CHANGES_MAX {
            if input.is_empty() {
                break;
            }
            let (position, piece) = (usize::from(input.u16()), input.piece());
            change(&mut body, position, piece);
        }
    }
    let mut snapshot = header.to_vec();
    snapshot[16..HEADER_BYTES].copy_from_slice(&(body.len() as u64).to_le_bytes());
    snapshot.extend(body);
    let crc = crc32c::crc32c(&snapshot);
    snapshot.extend(crc.to_le_bytes());
    snapshot
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let snapshot = template().iter().find(|file| file.0.ends_with(".snap"));
    let (_, content) = snapshot.expect("a stopped log has one");
    let mut whole = vec![WHOLE];
    whole.extend(&content[HEADER_BYTES..content.len() - CRC_BYTES]);
    let mut cut = vec![0];
    cut.extend(20_u16.to_le_bytes());
    put_piece(&mut cut, &[]);
    let mut ends = vec![0];
    for position in [0_u16, 8, 16, 40, 60, 80] {
        ends.extend(position.to_le_bytes());
        put_piece(&mut ends, &[0xff; 8]);
    }
    let mut without = whole.clone();
    without[0] |= NO_JOURNAL;
    vec![vec![0], whole, cut, ends, without]
}

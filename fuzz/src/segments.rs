//! Segments and their indexes, changed behind the log's back: reading, searching and settling meet
//! whatever is there.
//!
//! The input begins with a byte of flags; then come changes: which file (u8), where (u16), and the
//! piece that is written there. A piece of length zero cuts the file instead.

use std::sync::OnceLock;

use wharf_log::batch::{self, HEADER_BYTES};

use crate::batches::repair;
use crate::disk::{self, Files, Served};
use crate::input::{Input, put_piece};

/// Makes the checksums of all batches right again after the changes.
const RESEAL: u8 = 1;
/// Removes the indexes.
const NO_INDEX: u8 = 2;
const CHANGES_MAX: usize = 16;

fn template() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| disk::files(&disk::filled(40, true)))
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let mut files = template().clone();
    if flags & NO_INDEX != 0 {
        files.retain(|file| !file.0.ends_with(".idx"));
    }
    let mut segments: Vec<_> = files
        .iter_mut()
        .filter(|file| file.0.starts_with("segments/"))
        .collect();
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        let which = usize::from(input.u8()) % segments.len();
        let (position, piece) = (usize::from(input.u16()), input.piece());
        change(&mut segments[which].1, position, piece);
    }
    for (path, content) in segments {
        if flags & RESEAL != 0 && path.ends_with(".log") {
            reseal(content);
        }
    }
    disk::exercise(&disk::disk_of(&files), Served::Checked);
}

pub(crate) fn change(content: &mut Vec<u8>, position: usize, piece: &[u8]) {
    if piece.is_empty() {
        content.truncate(position);
        return;
    }
    let end = (position + piece.len()).min(content.len());
    if let Some(part) = content.get_mut(position..end) {
        part.copy_from_slice(&piece[..part.len()]);
    }
}

/// Walks the batches by their lengths and makes their checksums right.
fn reseal(content: &mut [u8]) {
    let mut at = 0;
    while let Ok(header) = batch::header(&content[at..]) {
        let bytes = header.batch_bytes();
        if bytes < HEADER_BYTES || at + bytes > content.len() {
            return;
        }
        repair(&mut content[at..at + bytes]);
        at += bytes;
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let change = |flags: u8, which: u8, position: u16, piece: &[u8]| {
        let mut input = vec![flags, which];
        input.extend(position.to_le_bytes());
        put_piece(&mut input, piece);
        input
    };
    vec![
        vec![0],
        vec![NO_INDEX],
        change(0, 0, 3, &[1; 8]),
        change(0, 1, 7, &[0xff; 4]),
        change(RESEAL, 1, 16, &[2, 0, 0, 0, 0, 0, 1]),
        change(RESEAL | NO_INDEX, 3, 8, &[0, 0, 0, 60]),
        change(0, 1, 100, &[]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_has_segments_with_indexes_and_a_journal() {
        let count = |end: &str| {
            template()
                .iter()
                .filter(|file| file.0.ends_with(end))
                .count()
        };
        assert!(count(".log") >= 2, "{} segments", count(".log"));
        assert!(count(".idx") >= 2 && count(".wal") >= 1 && count(".snap") >= 1);
    }
}

//! Journal files as a start finds them: any frames, in any order, with right or wrong checksums.
//!
//! The input is a list of frames: a byte of flags, sequence, what was synced (u8 each), and the
//! pieces meta and payload. Flags say whether checksums are right, and where the frame goes.

use bytes::{BufMut, BytesMut};
use wharf_log::disk::simulated::SimulatedDisk;

use crate::disk::{self, Files, JOURNAL_FILE_BYTES, SECRET, Served};
use crate::input::{Input, put_piece};

/// Leaves the checksums wrong.
const WRONG_META: u8 = 1;
const WRONG_PAYLOAD: u8 = 2;
/// Goes on in the next file.
const NEXT_FILE: u8 = 4;
/// Leaves a block of what was there before in front.
const GAP: u8 = 8;
/// Writes the piece of the payload as it is, with no frame around it.
const RAW: u8 = 16;

const ALIGNMENT: usize = 4096;
const HEADER_BYTES: usize = 72;
const FILES_MAX: u64 = 4;

pub(crate) fn run(data: &[u8]) {
    disk::exercise(&disk::disk_of(&assemble(data)), Served::Ignored);
}

/// The files that an input stands for.
fn assemble(data: &[u8]) -> Files {
    let whole = usize::try_from(JOURNAL_FILE_BYTES).expect("it is small");
    let mut input = Input::new(data);
    let (mut files, mut number) = (Files::new(), 1);
    let mut content = Vec::new();
    while !input.is_empty() && number <= FILES_MAX {
        let flags = input.u8();
        if flags & NEXT_FILE != 0 || content.len() >= whole {
            content.resize(whole, 0);
            files.push((path(number), std::mem::take(&mut content)));
            number += 1;
        }
        if flags & GAP != 0 {
            content.resize(content.len() + ALIGNMENT, 0);
        }
        let (sequence, synced) = (input.u8(), input.u8());
        let (meta, payload) = (input.piece(), input.piece());
        if flags & RAW != 0 {
            content.extend(payload);
        } else {
            content.extend(frame(flags, number, sequence, synced, meta, payload));
        }
        content.resize(content.len().next_multiple_of(ALIGNMENT), 0);
    }
    content.resize(whole, 0);
    files.push((path(number), content));
    files
}

fn path(number: u64) -> String {
    format!("journal/{number:016x}.wal")
}

fn frame(flags: u8, file: u64, sequence: u8, synced: u8, meta: &[u8], payload: &[u8]) -> Vec<u8> {
    let small = |bytes: &[u8]| u32::try_from(bytes.len()).expect("pieces are small");
    let mut frame = BytesMut::new();
    frame.put_slice(b"WHARFJNL");
    frame.put_u16_le(1);
    frame.put_u16_le(0);
    frame.put_u32_le(0);
    frame.put_u64_le(file);
    frame.put_u64_le(sequence.into());
    frame.put_u64_le(synced.into());
    frame.put_i64_le(1_000_000);
    frame.put_u64_le(SECRET);
    frame.put_u32_le(small(meta));
    frame.put_u32_le(small(payload));
    frame.put_u32_le(crc32c::crc32c(payload) ^ u32::from(flags & WRONG_PAYLOAD));
    frame.put_u32_le(0);
    frame.put_slice(meta);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[..12]), &frame[16..]);
    let crc = crc ^ u32::from(flags & WRONG_META);
    frame[12..16].copy_from_slice(&crc.to_le_bytes());
    frame.put_slice(payload);
    frame.to_vec()
}

/// What a real log wrote, in the form of an input.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let whole = of_log(&disk::filled(3, false));
    let settled = of_log(&disk::filled(25, false));
    let mut damaged = whole.clone();
    damaged[0] |= WRONG_PAYLOAD;
    vec![whole, settled, damaged]
}

fn of_log(disk: &SimulatedDisk) -> Vec<u8> {
    let mut input = Vec::new();
    let journal = disk::files(disk).into_iter();
    for (index, (_, content)) in journal
        .filter(|file| file.0.starts_with("journal/"))
        .enumerate()
    {
        let mut flags = if index > 0 { NEXT_FILE } else { 0 };
        for block in (0..content.len()).step_by(ALIGNMENT) {
            let bytes = &content[block..];
            if !bytes.starts_with(b"WHARFJNL") {
                continue;
            }
            let size = |at: usize| {
                let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
                usize::try_from(u32::from_le_bytes(bytes)).expect("it is in memory")
            };
            let (meta, payload) = (size(56), size(60));
            input.extend([flags, bytes[24], bytes[32]]);
            flags = 0;
            let body = &bytes[HEADER_BYTES..];
            put_piece(&mut input, &body[..meta]);
            put_piece(&mut input, &body[meta..meta + payload]);
        }
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_of_a_real_log_stands_for_its_files() {
        let made = assemble(&of_log(&disk::filled(3, false)));
        let log = disk::open(&disk::disk_of(&made)).expect("it opens");
        let bounds = log
            .reader
            .bounds(wharf_log::PartitionId(1))
            .expect("it is there");
        assert_eq!((bounds.start, bounds.end), (0, 6));
        assert_eq!(log.recovery.frames_replayed, 8);
        assert!(log.recovery.damaged.is_empty());
    }
}

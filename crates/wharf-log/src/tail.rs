//! The memory tail: the frames written last, so that live consumers never touch the disk.
//!
//! Invariants: frames are in journal order; the oldest go first when the limit is reached, whoever
//! may be reading (slices keep their own reference). Frames are shared, never copied.

use std::collections::VecDeque;

use bytes::Bytes;

#[derive(Debug)]
struct TailFrame {
    file: u64,
    position: u64,
    frame: Bytes,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    frames: VecDeque<TailFrame>,
    bytes: usize,
}

impl Tail {
    /// Adds the newest frame; returns the old ones that go beyond `bytes_max`, to be dropped when the
    /// lock around the tail is free again: giving back their memory takes time.
    #[must_use]
    pub(crate) fn push(
        &mut self,
        file: u64,
        position: u64,
        frame: Bytes,
        bytes_max: usize,
    ) -> Vec<Bytes> {
        let mut gone = Vec::new();
        self.bytes += frame.len();
        self.frames.push_back(TailFrame {
            file,
            position,
            frame,
        });
        while self.bytes > bytes_max {
            let Some(oldest) = self.frames.pop_front() else {
                break;
            };
            self.bytes -= oldest.frame.len();
            gone.push(oldest.frame);
        }
        gone
    }

    /// The bytes at a position of a journal file, if they are in memory.
    pub(crate) fn get(&self, file: u64, position: u64, bytes: usize) -> Option<Bytes> {
        let after = self
            .frames
            .partition_point(|frame| (frame.file, frame.position) <= (file, position));
        let frame = self.frames.get(after.checked_sub(1)?)?;
        if frame.file != file {
            return None;
        }
        let start = usize::try_from(position - frame.position).ok()?;
        let end = start.checked_add(bytes)?;
        (end <= frame.frame.len()).then(|| frame.frame.slice(start..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_frames_stay_within_the_limit() {
        let mut tail = Tail::default();
        drop(tail.push(1, 0, Bytes::from_static(b"aaaa"), 8));
        drop(tail.push(1, 4096, Bytes::from_static(b"bbbb"), 8));
        assert_eq!(tail.push(2, 0, Bytes::from_static(b"cccc"), 8), ["aaaa"]);
        assert_eq!(tail.get(1, 0, 4), None);
        assert_eq!(tail.get(1, 4097, 3).unwrap(), "bbb");
        assert_eq!(tail.get(2, 0, 4).unwrap(), "cccc");
        assert_eq!(tail.get(2, 2, 4), None);
        assert_eq!(tail.get(3, 0, 1), None);
    }
}

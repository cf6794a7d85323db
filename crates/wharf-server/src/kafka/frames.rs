//! Frames from and to a socket: four bytes of length, then that many.
//!
//! Received frames are slices of the read buffer, so record batches are never copied here; sent
//! parts are gathered by the kernel. The buffer grows with what arrives, not with what is promised.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};
use wharf_kafka::Response;
use wharf_log::Stretch;

const LENGTH_BYTES: usize = 4;
/// What is read at once while no frame is known to be larger.
const CHUNK_BYTES: usize = 16 << 10;
/// What is reserved at once for a large frame; from there on the buffer doubles.
const GROWTH_BYTES: usize = 1 << 20;
/// A connection that is silent for this long gives its read buffer back.
const BUFFER_KEPT: Duration = Duration::from_secs(1);
/// A large frame has a second more for every so many bytes, either way.
const SLOWEST_BYTES_PER_SECOND: usize = 1 << 20;

/// How much longer than an empty one a frame of this size may take.
pub(super) fn transfer_time(bytes: usize) -> Duration {
    Duration::from_secs(u64::try_from(bytes / SLOWEST_BYTES_PER_SECOND).unwrap_or(u64::MAX))
}

/// Why a connection cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("it was idle for too long")]
    Idle,
    #[error("its request did not arrive whole in time")]
    Slow,
    #[error("it announced a request of {0} bytes")]
    Size(i32),
    #[error("it ended within a request")]
    Truncated,
    #[error("the socket failed: {0}")]
    Socket(#[from] io::Error),
}

/// The receiving side of a connection.
#[derive(Debug)]
pub(super) struct FrameReader {
    pub(super) stream: OwnedReadHalf,
    buffer: BytesMut,
}

impl FrameReader {
    pub(super) fn new(stream: OwnedReadHalf) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The length of the next frame, at most `bytes_max`; `None` when the peer has finished.
    pub(super) async fn length(
        &mut self,
        bytes_max: usize,
        idle: Duration,
    ) -> Result<Option<usize>, ReadError> {
        let deadline = Instant::now() + idle;
        loop {
            if let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() {
                let length = i32::from_be_bytes(*length);
                return match usize::try_from(length) {
                    Ok(bytes) if bytes <= bytes_max => Ok(Some(bytes)),
                    _ => Err(ReadError::Size(length)),
                };
            }
            if self.buffer.is_empty() {
                let soon = deadline.min(Instant::now() + BUFFER_KEPT);
                if timeout_at(soon, self.stream.readable()).await.is_err() {
                    self.buffer = BytesMut::new();
                }
            }
            if !self
                .fill(CHUNK_BYTES, deadline)
                .await?
                .ok_or(ReadError::Idle)?
            {
                let clean = self.buffer.is_empty();
                return if clean {
                    Ok(None)
                } else {
                    Err(ReadError::Truncated)
                };
            }
        }
    }

    /// The frame whose length was just read.
    pub(super) async fn frame(
        &mut self,
        length: usize,
        limit: Duration,
    ) -> Result<Bytes, ReadError> {
        let deadline = Instant::now() + limit + transfer_time(length);
        let whole = LENGTH_BYTES + length;
        while self.buffer.len() < whole {
            let missing = whole - self.buffer.len();
            let room = missing
                .min(GROWTH_BYTES.max(self.buffer.len()))
                .max(CHUNK_BYTES);
            if !self.fill(room, deadline).await?.ok_or(ReadError::Slow)? {
                return Err(ReadError::Truncated);
            }
        }
        self.buffer.advance(LENGTH_BYTES);
        Ok(self.buffer.split_to(length).freeze())
    }

    /// Whether nothing of a further frame has been read.
    pub(super) fn is_drained(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Reads what is there, waiting until `deadline` for something; false at the end, `None` when
    /// nothing came. Memory is reserved only when there is something to put into it.
    async fn fill(&mut self, room: usize, deadline: Instant) -> io::Result<Option<bool>> {
        loop {
            match timeout_at(deadline, self.stream.readable()).await {
                Err(_) => return Ok(None),
                Ok(ready) => ready?,
            }
            self.buffer.reserve(room);
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(bytes) => return Ok(Some(bytes > 0)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Completes when the peer is gone and has left nothing to read.
    pub(super) async fn peer_gone(&mut self) {
        let mut byte = [0];
        if self.buffer.is_empty() && !matches!(self.stream.peek(&mut byte).await, Ok(1)) {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// Writes one response; returns the bytes sent. What is still to be read is read while what comes
/// before it is being sent, so only a little of it is in memory at any time; when it cannot be, the
/// frame stays incomplete, which the peer must be told by ending the connection.
pub(super) async fn send(stream: &mut OwnedWriteHalf, response: Response) -> io::Result<usize> {
    let bytes = response.bytes();
    let length = i32::try_from(bytes).map_err(io::Error::other)?;
    let mut stretches = response.stretches.into_iter();
    let mut ahead = stretches.next().map(read_ahead);
    let mut parts = Parts::default();
    parts.push(Bytes::copy_from_slice(&length.to_be_bytes()));
    for (at, part) in response.parts.into_iter().enumerate() {
        while let Some(piece) = ahead.take_if(|piece| piece.before <= at) {
            ahead = send_piece(stream, &mut parts, piece, &mut stretches).await?;
        }
        parts.push(part);
    }
    while let Some(piece) = ahead.take() {
        ahead = send_piece(stream, &mut parts, piece, &mut stretches).await?;
    }
    stream.write_all_buf(&mut parts).await?;
    Ok(bytes + LENGTH_BYTES)
}

/// A stretch of which the next batches are being read.
struct Ahead {
    /// The index of the part that comes after it.
    before: usize,
    reading: JoinHandle<(Stretch, Result<Vec<Bytes>, wharf_log::ReadError>)>,
}

fn read_ahead((before, mut stretch): (usize, Stretch)) -> Ahead {
    let reading = spawn_blocking(move || {
        let read = stretch.read();
        (stretch, read)
    });
    Ahead { before, reading }
}

/// Sends what comes before a piece of a stretch and then the piece, while the one after it is read.
async fn send_piece(
    stream: &mut OwnedWriteHalf,
    parts: &mut Parts,
    ahead: Ahead,
    stretches: &mut impl Iterator<Item = (usize, Stretch)>,
) -> io::Result<Option<Ahead>> {
    let (stretch, read) = ahead.reading.await.map_err(io::Error::other)?;
    let batches = read.map_err(io::Error::other)?;
    let next = match stretch.bytes() {
        0 => stretches.next(),
        _ => Some((ahead.before, stretch)),
    };
    let next = next.map(read_ahead);
    batches.into_iter().for_each(|piece| parts.push(piece));
    stream.write_all_buf(parts).await?;
    Ok(next)
}

/// Parts that leave one after the other, without being joined in memory. None is ever empty.
#[derive(Default)]
struct Parts {
    parts: VecDeque<Bytes>,
    remaining: usize,
}

impl Parts {
    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.remaining += part.len();
            self.parts.push_back(part);
        }
    }
}

impl Buf for Parts {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.parts);
        pairs
            .map(|(slice, part)| *slice = IoSlice::new(part))
            .count()
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining, "no more is advanced than there is");
        self.remaining -= count;
        let mut count = count;
        while let Some(part) = self.parts.front_mut() {
            if count < part.len() {
                part.advance(count);
                return;
            }
            count -= part.len();
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_advanced_across_their_borders() {
        let text = |parts: &Parts| parts.parts.iter().flatten().copied().collect::<Vec<u8>>();
        for count in 0..=6 {
            let parts = ["ab", "c", "def"].map(|part| Bytes::from_static(part.as_bytes()));
            let mut parts = Parts {
                parts: parts.into(),
                remaining: 6,
            };
            parts.advance(count);
            assert_eq!(text(&parts), b"abcdef".split_at(count).1, "{count}");
            assert_eq!(parts.remaining(), 6 - count);
            assert_eq!(parts.has_remaining(), !parts.chunk().is_empty());
        }
    }
}

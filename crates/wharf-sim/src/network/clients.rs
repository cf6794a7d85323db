//! What clients have in common: a connection that comes and goes, requests with numbers, and what all
//! of them know together.

use bytes::Bytes;
use kafka_protocol::protocol::Request;
use wharf_log::disk::simulated::Random;

use super::wire;
use crate::checkers::{Broken, CommitsGrow, OneOwner, SentAgain, broken};

/// KAFKA_STORAGE_ERROR.
const STORAGE_ERROR: i16 = 56;
/// NOT_COORDINATOR: what a group answers when the log refuses.
const NOT_COORDINATOR: i16 = 16;

/// What the clients know together, and their checkers.
#[derive(Debug, Default)]
pub(super) struct Knowledge {
    pub(super) sent: SentAgain,
    pub(super) commits: CommitsGrow,
    pub(super) owners: OneOwner,
    /// How often the node was started.
    pub(super) life: u64,
    /// Whether the disk may refuse writes: failing, or full.
    pub(super) disk_may_refuse: bool,
    pub(super) sent_again: u64,
    pub(super) assignments: u64,
    pub(super) fetched: u64,
}

impl Knowledge {
    /// Whether a request that met this error may be made again; other errors are none that it may meet.
    pub(super) fn may_retry(&self, what: &str, code: i16) -> Result<(), Broken> {
        let of_disk = matches!(code, STORAGE_ERROR | NOT_COORDINATOR);
        if of_disk && self.disk_may_refuse {
            return Ok(());
        }
        broken(
            "units are answered by the rules",
            format!("{what}: error {code}"),
        )
    }
}

/// What a client sends in one go.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) frames: Vec<Bytes>,
}

/// Numbers requests and puts them into the outbox.
#[derive(Debug, Default)]
pub(super) struct Numbers(i32);

impl Numbers {
    pub(super) fn ask<Q: Request>(&mut self, out: &mut Outbox, version: i16, request: &Q) -> i32 {
        self.0 += 1;
        out.frames.push(wire::request(self.0, version, request));
        self.0
    }
}

/// A client. Answers come in the order of its requests on one connection.
pub(super) trait Client {
    /// Its connection is gone, with every answer that had not arrived.
    fn cut(&mut self);
    /// An answer arrived.
    fn answer(&mut self, answer: Bytes, known: &mut Knowledge) -> Result<(), Broken>;
    /// It may send something.
    fn act(&mut self, out: &mut Outbox, known: &mut Knowledge, random: &mut Random);
}

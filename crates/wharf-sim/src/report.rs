//! What a simulation did, so that one that did nothing is noticed.

/// Counts over one seed, or over many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Starts of the node.
    pub rounds: u64,
    /// Steps taken.
    pub steps: u64,
    /// Units handed to the log.
    pub units: u64,
    /// Units committed.
    pub committed: u64,
    /// Units refused.
    pub refused: u64,
    /// Units refused because the disk was full.
    pub disk_full: u64,
    /// Batches answered as duplicates.
    pub duplicates: u64,
    /// Markers of ended transactions.
    pub markers: u64,
    /// Units without an answer that were there after a restart.
    pub units_kept_unanswered: u64,
    /// Units without an answer (or acknowledged without a sync) that were gone after a restart.
    pub units_lost_unanswered: u64,
    /// Power losses survived.
    pub power_losses: u64,
    /// Kills survived.
    pub kills: u64,
    /// Times the machine died again while the log recovered.
    pub deaths_in_recovery: u64,
    /// Stops in good order.
    pub orderly_stops: u64,
    /// Times retention moved a start.
    pub retention_moves: u64,
    /// Times that compaction replaced segments.
    pub compactions: u64,
    /// Bytes of the segments that were replaced.
    pub compacted_bytes: u64,
    /// Offsets found without their record after a restart, because compaction took it away.
    pub compacted_records: u64,
    /// Bytes settled into segments.
    pub settled_bytes: u64,
    /// Frames written.
    pub frames: u64,
    /// Whole views compared while the node ran.
    pub views: u64,
    /// Bits flipped on the medium.
    pub flipped_bits: u64,
    /// Logs that opened on a damaged medium.
    pub opened_damaged: u64,
    /// Calls to the broker.
    pub calls: u64,
    /// Calls to the broker that were acknowledged.
    pub calls_acknowledged: u64,
    /// Topics, settings and offsets compared after restarts of the broker.
    pub registers: u64,
    /// Records compared after restarts of the broker.
    pub records: u64,
    /// Requests sent over the network.
    pub requests: u64,
    /// Connections cut.
    pub cuts: u64,
    /// Requests whose answer was lost with a connection.
    pub answers_lost: u64,
    /// Batches sent again.
    pub sent_again: u64,
    /// Batches acknowledged over the network.
    pub network_acknowledged: u64,
    /// Batches fetched over the network.
    pub fetched: u64,
    /// Times a member of a group was told what it owns.
    pub assignments: u64,
}

impl Report {
    /// Adds the counts of another one.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts_mut().into_iter().zip(other.counts()) {
            *mine.1 += theirs.1;
        }
    }

    /// Every count with its name.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let mut copy = *self;
        copy.counts_mut()
            .into_iter()
            .map(|(name, count)| (name, *count))
            .collect()
    }

    fn counts_mut(&mut self) -> Vec<(&'static str, &mut u64)> {
        vec![
            ("rounds", &mut self.rounds),
            ("steps", &mut self.steps),
            ("units", &mut self.units),
            ("committed", &mut self.committed),
            ("refused", &mut self.refused),
            ("disk full", &mut self.disk_full),
            ("duplicates", &mut self.duplicates),
            ("markers", &mut self.markers),
            ("unanswered units kept", &mut self.units_kept_unanswered),
            ("unanswered units lost", &mut self.units_lost_unanswered),
            ("power losses", &mut self.power_losses),
            ("kills", &mut self.kills),
            ("deaths in recovery", &mut self.deaths_in_recovery),
            ("orderly stops", &mut self.orderly_stops),
            ("retention moves", &mut self.retention_moves),
            ("compactions", &mut self.compactions),
            ("compacted bytes", &mut self.compacted_bytes),
            ("records compacted away", &mut self.compacted_records),
            ("settled bytes", &mut self.settled_bytes),
            ("frames", &mut self.frames),
            ("views compared", &mut self.views),
            ("flipped bits", &mut self.flipped_bits),
            ("opened damaged", &mut self.opened_damaged),
            ("broker calls", &mut self.calls),
            ("broker calls acknowledged", &mut self.calls_acknowledged),
            ("broker registers compared", &mut self.registers),
            ("broker records compared", &mut self.records),
            ("network requests", &mut self.requests),
            ("connections cut", &mut self.cuts),
            ("answers lost", &mut self.answers_lost),
            ("batches sent again", &mut self.sent_again),
            ("batches acknowledged", &mut self.network_acknowledged),
            ("batches fetched", &mut self.fetched),
            ("group assignments", &mut self.assignments),
        ]
    }
}

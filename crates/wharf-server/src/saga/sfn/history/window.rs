//! A page of events: what is kept of a history while all of it goes by.

use std::collections::VecDeque;

use super::event::Event;

/// A page ends before its limit when its events have this many bytes.
const BYTES_MAX: usize = 8 << 20;

/// Which events are wanted, and those of them that were seen.
#[derive(Debug)]
pub(in super::super) struct Window {
    size: usize,
    /// The last event of the page before.
    from: Option<u64>,
    is_backwards: bool,
    kept: VecDeque<Event>,
    bytes: usize,
    has_more: bool,
}

impl Window {
    /// So many events behind the page that ended with `from`; backwards, those before it.
    pub(in super::super) fn new(size: usize, from: Option<u64>, is_backwards: bool) -> Self {
        Self {
            size: size.max(1),
            from,
            is_backwards,
            kept: VecDeque::new(),
            bytes: 0,
            has_more: false,
        }
    }

    /// Whether no later event changes the page.
    pub(super) fn is_done(&self) -> bool {
        self.has_more && !self.is_backwards
    }

    pub(super) fn take(&mut self, event: Event) {
        let is_behind = match self.from {
            None => true,
            Some(from) if self.is_backwards => event.id < from,
            Some(from) => event.id > from,
        };
        if !is_behind || self.is_done() {
            return;
        }
        if !self.is_backwards && self.is_full(0) {
            self.has_more = true;
            return;
        }
        self.bytes += event.bytes();
        self.kept.push_back(event);
        // Backwards the page is what came last.
        while self.is_backwards && self.kept.len() > 1 && self.is_full(1) {
            let Some(gone) = self.kept.pop_front() else {
                return;
            };
            self.bytes -= gone.bytes();
            self.has_more = true;
        }
    }

    /// Whether there are as many as wanted, and as many over as `over` says.
    fn is_full(&self, over: usize) -> bool {
        self.kept.len() >= self.size + over || self.bytes >= BYTES_MAX
    }

    /// The events of the page in its order, and with what the next page begins.
    pub(super) fn page(self) -> (Vec<Event>, Option<u64>) {
        let mut events: Vec<_> = self.kept.into();
        if self.is_backwards {
            events.reverse();
        }
        let last = events.last().map(|event| event.id);
        (events, last.filter(|_| self.has_more))
    }
}

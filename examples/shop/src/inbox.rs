//! The inbox: which events a service has handled, so that a repeat changes nothing.
//!
//! Bounded: beyond the capacity the oldest ids are forgotten. A repeat that comes later than that
//! would be handled again; the shop's repeats come within milliseconds.

use std::collections::{HashSet, VecDeque};

/// Ids remembered per service.
const IDS_MAX: usize = 200_000;

/// Remembers ids in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    seen: HashSet<String>,
    order: VecDeque<String>,
}

impl Inbox {
    /// Whether `id` is new; it is remembered from now on.
    pub(crate) fn first_sight(&mut self, id: &str) -> bool {
        if !self.seen.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_told_from_a_first_sight_until_it_is_forgotten() {
        let mut inbox = Inbox::default();
        assert!(inbox.first_sight("a"));
        assert!(!inbox.first_sight("a"));
        for number in 0..IDS_MAX {
            assert!(inbox.first_sight(&number.to_string()));
        }
        assert!(inbox.first_sight("a"), "the oldest id is forgotten first");
    }
}

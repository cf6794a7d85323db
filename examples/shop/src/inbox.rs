//! The inbox: which events a service has handled, so that a repeat changes nothing.
//!
//! It lives where the services' state lives, in memory: both are lost together, and neither is ever
//! ahead of the other. A service with a database keeps its inbox there instead (`wharf-outbox`), in
//! the transaction of its own rows. Bounded: beyond the capacity the oldest ids are forgotten. A
//! repeat that comes later than that would be handled again; the shop's come within milliseconds.

use std::collections::{HashSet, VecDeque};

/// Ids remembered per service.
const IDS_MAX: usize = 200_000;

/// Remembers ids in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    handled: HashSet<String>,
    order: VecDeque<String>,
}

impl Inbox {
    /// Whether it was handled.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.handled.contains(id)
    }

    /// It was handled.
    pub(crate) fn remember(&mut self, id: String) {
        if !self.handled.insert(id.clone()) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > IDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.handled.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handled_is_known_until_it_is_the_oldest_of_too_many() {
        let mut inbox = Inbox::default();
        assert!(!inbox.knows("a"));
        for _ in 0..2 {
            inbox.remember("a".to_owned());
            assert!(inbox.knows("a"));
        }
        for number in 1..IDS_MAX {
            inbox.remember(number.to_string());
        }
        assert!(inbox.knows("a"));
        inbox.remember("one more".to_owned());
        assert!(!inbox.knows("a"), "the oldest id is forgotten first");
        assert!(inbox.knows("1"));
    }
}

//! The seams of the simulator: what time it is and what chance says, for the thread that simulates.
//!
//! Only built with the feature `simulation`, and without effect where no world was set: other threads
//! of the same process keep the machine's clock.

use std::cell::RefCell;

use wharf_message::Timestamp;

pub use crate::saga::simulated::{Orchestrator, row};

/// What the simulator answers in the machine's place.
pub trait World {
    /// What the machine's clock says.
    fn now(&self) -> Timestamp;

    /// The next number that looks like chance.
    fn chance(&self) -> u64;
}

thread_local! {
    static WORLD: RefCell<Option<Box<dyn World>>> = const { RefCell::new(None) };
}

/// From now on this thread lives in that world; `None` takes it back to the real one.
pub fn live_in(world: Option<Box<dyn World>>) {
    let before = WORLD.with(|known| known.replace(world));
    drop(before);
}

/// What the world says, if this thread lives in one.
pub(crate) fn asked<T>(ask: impl FnOnce(&dyn World) -> T) -> Option<T> {
    WORLD.with(|world| world.borrow().as_deref().map(ask))
}

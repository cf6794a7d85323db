//! The time of a simulated node: what passes, and what its clock says, which somebody may set.
//!
//! One thread, one world. While a node lives, time passes as its runtime says, which is paused and
//! jumps from one timer to the next; between lives the simulation moves it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use wharf_log::disk::simulated::Random;
use wharf_message::Timestamp;
use wharf_server::simulation::{World, live_in};

/// When every simulation begins.
const EPOCH: i64 = 1_700_000_000_000;

struct State {
    /// How much time passed before this life of the node, and since when it lives.
    passed: Cell<i64>,
    since: Cell<Option<Instant>>,
    /// How much had passed when the simulation looked last.
    noted: Cell<i64>,
    /// How far the clock is ahead of the time that passes.
    ahead: Cell<i64>,
    /// The latest that the clock ever said.
    latest: Cell<i64>,
    random: RefCell<Random>,
}

impl State {
    fn passed(&self) -> i64 {
        // Outside of its runtime a node's time cannot be asked; the simulation has noted it then.
        let since = self.since.get().filter(|_| Handle::try_current().is_ok());
        let Some(since) = since else {
            return self.noted.get();
        };
        let lived: Duration = Instant::now().saturating_duration_since(since);
        self.passed.get() + i64::try_from(lived.as_millis()).unwrap_or(i64::MAX)
    }

    fn wall(&self) -> i64 {
        let wall = EPOCH + self.passed() + self.ahead.get();
        self.latest.set(self.latest.get().max(wall));
        wall
    }
}

struct Answering {
    state: Rc<State>,
    wrong: Option<Wrong>,
}

/// How a node's clock is wrong against the world's, for sabotage.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wrong {
    /// So many milliseconds ahead.
    Ahead(i64),
    /// It stands still after so many.
    Still(i64),
}

impl World for Answering {
    fn now(&self) -> Timestamp {
        let wall = self.state.wall();
        Timestamp::from_millis(match self.wrong {
            None => wall,
            Some(Wrong::Ahead(millis)) => wall + millis,
            Some(Wrong::Still(millis)) => wall.min(EPOCH + millis),
        })
    }

    fn chance(&self) -> u64 {
        self.state.random.borrow_mut().next_u64()
    }
}

thread_local! {
    static STATE: RefCell<Option<Rc<State>>> = const { RefCell::new(None) };
}

/// The time of this thread's simulation; dropping it gives the thread back to the real one.
pub(super) struct Clock(Rc<State>);

impl Clock {
    pub(super) fn new(random: Random, wrong: Option<Wrong>) -> Self {
        let state = Rc::new(State {
            passed: Cell::new(0),
            since: Cell::new(None),
            noted: Cell::new(0),
            ahead: Cell::new(0),
            latest: Cell::new(EPOCH),
            random: RefCell::new(random),
        });
        let answering = Answering {
            state: Rc::clone(&state),
            wrong,
        };
        live_in(Some(Box::new(answering)));
        STATE.with(|known| known.replace(Some(Rc::clone(&state))));
        Self(state)
    }

    /// How many milliseconds passed. Inside a runtime only, while a node lives.
    pub(super) fn passed(&self) -> i64 {
        self.0.passed()
    }

    /// So much has passed.
    pub(super) fn note(&self, passed: i64) {
        self.0.noted.set(passed);
    }

    /// A node begins to live now.
    pub(super) fn begin(&self, now: Instant) {
        self.0.since.set(Some(now));
    }

    /// It lived until then.
    pub(super) fn end(&self, passed: i64) {
        self.0.since.set(None);
        self.0.passed.set(passed);
        self.0.noted.set(passed);
    }

    /// Somebody sets the clock.
    pub(super) fn jump(&self, millis: i64) {
        self.0.ahead.set(self.0.ahead.get() + millis);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        STATE.with(|known| known.replace(None));
        live_in(None);
    }
}

/// What the clock says, and the latest it ever said.
pub(super) fn wall() -> (i64, i64) {
    STATE.with(|known| {
        let known = known.borrow();
        known.as_ref().map_or((0, 0), |state| {
            let wall = state.wall();
            (wall, state.latest.get())
        })
    })
}

/// What the clock would say if nobody ever set it.
pub(super) fn steady() -> i64 {
    STATE.with(|known| {
        let known = known.borrow();
        known.as_ref().map_or(0, |state| EPOCH + state.passed())
    })
}

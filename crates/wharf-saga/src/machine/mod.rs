//! One saga on its way: decisions, the facts that come of them, and the state they add up to.

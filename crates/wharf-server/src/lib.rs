//! Deliverable, heavy: the running node.

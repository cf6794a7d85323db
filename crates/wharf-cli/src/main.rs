//! Deliverable: the binary `wharf`.
fn main() {}

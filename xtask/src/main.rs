//! The one front door for development.
fn main() {}

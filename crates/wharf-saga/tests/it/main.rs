//! The tests of the crate, in one binary.

mod definition;
mod expression;
mod machine;

//! The tests of the crate, in one binary.
#![expect(clippy::unwrap_used, reason = "test binary")]

mod choreography;
mod definition;
mod expression;
mod machine;

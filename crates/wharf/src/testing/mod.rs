//! What a service's own tests need: the duplicate-delivery test.

pub mod duplicates;

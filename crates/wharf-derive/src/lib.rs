//! A proc-macro crate, as derive macros must be one.

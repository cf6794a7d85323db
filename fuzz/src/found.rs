//! Inputs that libFuzzer found, by target: each was a defect once. The smallest form of each is a
//! unit test beside the code it was in, too.

/// The name of a target and what it was fed.
pub static FOUND: &[(&str, &[u8])] = &[];

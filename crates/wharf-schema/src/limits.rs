//! Bounds for schemas that strangers write; every loop over a schema stands under one of them.

/// How large and how deep a schema may be, and how long a comparison may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one schema's text, and of all it refers to together with it.
    pub text_bytes_max: usize,
    /// How deep types may be nested in a text (recursion through names does not count).
    pub depth_max: usize,
    /// How many types, fields, symbols and keywords a schema may have together.
    pub nodes_max: usize,
    /// How many pairs of types one comparison may look at.
    pub comparisons_max: usize,
    /// How many incompatibilities of one comparison are reported.
    pub incompatibilities_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes_max: 4 << 20,
            depth_max: 256,
            nodes_max: 200_000,
            comparisons_max: 2_000_000,
            incompatibilities_max: 1_000,
        }
    }
}

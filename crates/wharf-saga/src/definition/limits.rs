//! Bounds for definitions that strangers write.

/// How large a definition may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the text; Step Functions has 1 MB.
    pub text_bytes_max: usize,
    /// How deep values may be nested.
    pub depth_max: usize,
    /// How many values there may be, aliases of YAML written out.
    pub values_max: usize,
    /// How many states there may be, at all levels together.
    pub states_max: usize,
    /// How many problems are reported.
    pub problems_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes_max: 1 << 20,
            depth_max: 100,
            values_max: 100_000,
            states_max: 2_000,
            problems_max: 500,
        }
    }
}

//! Usable alone.

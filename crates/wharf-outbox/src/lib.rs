//! Usable alone, with heavy dependencies.

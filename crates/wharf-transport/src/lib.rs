//! Heavy dependencies.

//! The real file system below a root directory.

//! Exact offsets by time: looks into the one batch the log found.

//! The embedded ledger: atomic commits, following, fenced ownership, timers over the log.

//! The protocol from outside: frames in, frames out.

mod compat;

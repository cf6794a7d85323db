//! The machine: scenarios one by one, and what must hold of all of them.

mod kit;
mod nested;
mod random;
mod scenarios;

//! Polling sources against real databases.

mod databases;
mod flow;
mod holders;
mod refusals;
mod relays;
mod table;

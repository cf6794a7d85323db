//! Polling sources against real databases.

mod databases;
mod flow;
mod holders;
mod relays;
mod table;

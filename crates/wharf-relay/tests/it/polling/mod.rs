//! Polling sources against real databases.

mod databases;
mod flow;
mod relays;
mod table;

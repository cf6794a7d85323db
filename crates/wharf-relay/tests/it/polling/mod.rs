//! Polling sources against real databases.

mod databases;
mod table;

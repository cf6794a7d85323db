//! `wharf demo`: a node of its own, and a shop of five services on it.
//!
//! The shop reaches the node only through its network port, as any Kafka client would.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::sync::watch;

use crate::cli::Outcome;
use crate::output;

/// Start a node and run a shop of five services on it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf demo                      until Ctrl-C, with the numbers at the end
  wharf demo --orders 5000        so many checkouts, then the numbers
  wharf demo --for 30s --rate 1000
  wharf demo --keep ./shop-data   keep the data, and go on with it next time")]
pub(crate) struct Demo {
    /// Stop after so many checkouts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    orders: Option<u64>,
    /// Stop after this long, as in 30s or 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Checkouts per second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    rate: u64,
    /// Decides what the customers do
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the data in this directory [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

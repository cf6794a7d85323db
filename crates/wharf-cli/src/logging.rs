//! Structured logs on stderr: text for people, JSON for machines.

use std::backtrace::Backtrace;
use std::io::IsTerminal as _;
use std::str::FromStr as _;

use clap::ValueEnum;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use crate::cli::{Globals, Usage};
use crate::output::ColorWhen;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One readable line per event
    #[default]
    Text,
    /// One JSON object per event
    Json,
}

/// Starts logging for a process that runs for long. Called once.
pub(crate) fn start(globals: &Globals) -> anyhow::Result<()> {
    let filter = Targets::from_str(&globals.log_level).map_err(|error| {
        Usage(format!(
            "--log-level {:?} cannot be read: {error}",
            globals.log_level
        ))
    })?;
    let color = match globals.color {
        ColorWhen::Always => true,
        ColorWhen::Never => false,
        ColorWhen::Auto => {
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
        }
    };
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(color);
    let layer = match globals.log_format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing::subscriber::set_global_default(Registry::default().with(layer.with_filter(filter)))?;
    // A panic ends one connection, not the process: it belongs into the log like everything else.
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        tracing::error!(%panic, %backtrace, "a bug: something panicked");
    }));
    Ok(())
}

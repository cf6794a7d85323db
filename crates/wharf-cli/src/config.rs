//! `wharf config`: what a node would run with, and whether it would.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use wharf_server::config::{Loaded, Sources, reference, to_json, to_toml};

use crate::cli::Outcome;
use crate::output;

/// The verbs of `wharf config`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  wharf config show --origin
  wharf config check --config wharf.toml")]
pub(crate) enum Command {
    /// Print every setting with its value, as a complete wharf.toml
    Show(Show),
    /// Check that a node would start with this configuration
    Check(Check),
    /// Print the reference of all settings as Markdown
    Reference(Reference),
}

/// Where the configuration is read from.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// The configuration file [default: wharf.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Print every setting with its value, as a complete wharf.toml.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf config show
  wharf config show --origin
  wharf config show -o json | jq .kafka
  WHARF_KAFKA__LISTEN=127.0.0.1:0 wharf config show --origin")]
pub(crate) struct Show {
    #[command(flatten)]
    source: Source,
    /// Add where each value comes from: default, file and line, variable
    #[arg(long)]
    origin: bool,
    /// The format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// Check that a node would start with this configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf config check
  wharf config check --config /etc/wharf/wharf.toml && systemctl restart wharf

Exit codes: 0 valid, 1 invalid, 2 wrong usage.")]
pub(crate) struct Check {
    #[command(flatten)]
    source: Source,
}

/// Print the reference of all settings as Markdown.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf config reference > docs/reference/configuration.md")]
pub(crate) struct Reference {}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As wharf.toml is written
    #[default]
    Toml,
    /// One JSON object
    Json,
}

/// Runs a verb of `wharf config`.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Show(Show {
            source,
            origin,
            output,
        }) => {
            let loaded = source.load()?;
            match output {
                Format::Toml => output::text(&to_toml(&loaded, origin))?,
                Format::Json => output::json(&to_json(&loaded, origin))?,
            }
        }
        Command::Check(Check { source }) => match source.load() {
            Ok(_) => output::text("the configuration is valid\n")?,
            Err(problem) => {
                output::print_problem(&problem)?;
                return Ok(Outcome::Negative);
            }
        },
        Command::Reference(Reference {}) => output::text(&reference())?,
    }
    Ok(Outcome::Done)
}

impl Source {
    fn load(self) -> Result<Loaded, wharf_server::Problem> {
        Sources::from_process(self.config, Vec::new()).load()
    }
}

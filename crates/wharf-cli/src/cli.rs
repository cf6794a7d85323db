//! The tree of commands, and what each exit code means.
//!
//! Every command carries examples in its help; a test walks the tree and insists.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::logging::LogFormat;
use crate::output::ColorWhen;
use crate::{
    choreography, config, consume, demo, explain, group, ingest, outbox, produce, quota, saga,
    schema, serve, test_duplicates, topic, transaction,
};

/// The command did what it was asked.
pub(crate) const DONE: u8 = 0;
/// The command ran and the answer is no, or it found something.
pub(crate) const NEGATIVE: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// The command could not run.
pub(crate) const COULD_NOT_RUN: u8 = 3;

/// How a command ended when nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it was asked.
    Done,
    /// It ran, and the answer is no.
    Negative,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => DONE,
            Outcome::Negative => NEGATIVE,
        })
    }
}

/// An error in how the command was called; ends with exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A durable message broker in one binary that every Kafka client can use.
#[derive(Debug, Parser)]
#[command(
    name = "wharf",
    version,
    propagate_version = false,
    max_term_width = 100
)]
#[command(arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = "\
Examples:
  wharf demo                            a node, and a shop of five services on it
  wharf serve                           run a node on this machine
  wharf topic create orders             create a topic
  wharf consume orders --until end      print what is in it
  wharf config show --origin            every setting and where its value comes from
  wharf explain WHARF-1003              what an error means and what to do

Exit codes: 0 done, 1 a negative answer, 2 wrong usage, 3 could not run.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Options every command has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Globals {
    /// When to colour the output; NO_COLOR is respected
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true
    )]
    #[arg(help = "When to colour the output: auto, always or never")]
    pub(crate) color: ColorWhen,
    /// What to log: a level, or target=level pairs, as in `info,wharf_server=debug`
    #[arg(
        long,
        global = true,
        env = "WHARF_LOG",
        default_value = "info",
        value_name = "FILTER",
        hide_env = true
    )]
    #[arg(help = "What to log on stderr, as in `info,wharf_server=debug` [env: WHARF_LOG]")]
    pub(crate) log_level: String,
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    #[arg(help = "How to log: text or json")]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node on this machine
    Serve(serve::Arguments),
    /// Start a node and run a shop of five services on it
    Demo(demo::Demo),
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(topic::Command),
    /// Send messages: one per line of stdin or a file
    Produce(produce::Produce),
    /// Print the records of a topic
    Consume(consume::Consume),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(group::Command),
    /// List, describe and abort transactions, find those that hang
    #[command(subcommand)]
    Transaction(transaction::Command),
    /// List, set and delete quotas
    #[command(subcommand)]
    Quota(quota::Command),
    /// Create the outbox table of a service, show and drain the relays that read such tables
    #[command(subcommand)]
    Outbox(outbox::Command),
    /// List, register, check, compare and lint schemas
    #[command(subcommand)]
    Schema(schema::Command),
    /// Run, watch, repair and abort sagas; check, deploy, convert and draw their definitions
    #[command(subcommand)]
    Saga(saga::Command),
    /// Watch sagas that nobody orchestrates, check and deploy their contracts
    #[command(subcommand)]
    Choreography(choreography::Command),
    /// Send the rows of a CSV or JSON Lines file to a topic, each once
    Ingest(ingest::Ingest),
    /// Test consumers: what duplicates, crashes and another order do to them
    #[command(subcommand)]
    Test(test_duplicates::Command),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Explain an error code
    Explain(explain::Arguments),
    /// Print a completion script for a shell
    Completions(Completions),
}

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf completions bash > ~/.local/share/bash-completion/completions/wharf
  wharf completions zsh > ~/.zfunc/_wharf
  wharf completions fish > ~/.config/fish/completions/wharf.fish")]
struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli) -> anyhow::Result<Outcome> {
    match cli.command {
        Command::Serve(arguments) => serve::run(arguments, &cli.globals),
        Command::Demo(demo) => demo.run(),
        Command::Topic(command) => topic::run(command),
        Command::Produce(produce) => produce.run(),
        Command::Consume(consume) => consume.run(),
        Command::Group(command) => group::run(command),
        Command::Transaction(command) => transaction::run(command),
        Command::Quota(command) => quota::run(command),
        Command::Outbox(command) => outbox::run(command),
        Command::Schema(command) => schema::run(command),
        Command::Saga(command) => saga::run(command),
        Command::Choreography(command) => choreography::run(command),
        Command::Ingest(ingest) => ingest.run(),
        Command::Test(command) => test_duplicates::run(command),
        Command::Config(command) => config::run(command),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Completions(Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "wharf", &mut script);
            crate::output::bytes(&script)?;
            Ok(Outcome::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(command: &clap::Command, path: &str, visit: &mut impl FnMut(&clap::Command, &str)) {
        visit(command, path);
        for child in command
            .get_subcommands()
            .filter(|child| child.get_name() != "help")
        {
            walk(child, &format!("{path} {}", child.get_name()), visit);
        }
    }

    #[test]
    fn the_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_that_call_it() {
        walk(&Cli::command(), "wharf", &mut |command, path| {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Examples:\n"), "{path} has no examples");
            let calls = |line: &&str| line.trim_start().starts_with(path);
            assert!(
                help.lines().any(|line| calls(&line)),
                "no example of {path} calls it"
            );
        });
    }

    /// Whether `line`, a command as documentation shows it, names commands and flags there are.
    fn is_known(line: &str) -> bool {
        let tree = Cli::command();
        let mut command = &tree;
        let mut flags = Vec::new();
        for word in line.split_whitespace().skip(1) {
            if let Some(child) = command.find_subcommand(word) {
                command = child;
            } else if let Some(flag) = word.strip_prefix("--") {
                flags.push(flag.split('=').next().unwrap_or(flag).to_owned());
            } else if command.has_subcommands() && word.chars().all(char::is_lowercase) {
                return false;
            }
        }
        let known = |flag: &String| {
            let arguments = command.get_arguments().chain(tree.get_arguments());
            let mut names = arguments
                .filter_map(clap::Arg::get_long)
                .chain(["help", "version"]);
            names.any(|name| name == flag)
        };
        flags.iter().all(known)
    }

    #[test]
    fn the_pages_name_commands_and_flags_there_are() {
        assert!(is_known("wharf topic alter NAME --set a=b --color never"));
        assert!(!is_known("wharf topic paint NAME"));
        assert!(!is_known("wharf topic alter NAME --gently"));
        let errors = wharf_message::Code::ALL
            .iter()
            .filter_map(|code| wharf_server::page(*code));
        let others = [
            include_str!("../../../docs/how-to/configure.md"),
            include_str!("../../../docs/how-to/publish-through-the-outbox.md"),
            include_str!("../../../docs/how-to/quotas.md"),
            include_str!("../../../docs/how-to/saga-choreography.md"),
            include_str!("../../../docs/how-to/saga-operate.md"),
            include_str!("../../../docs/how-to/saga-walk-through-choreography.md"),
            include_str!("../../../docs/how-to/schema-break-something.md"),
            include_str!("../../../docs/how-to/schema-check-in-ci.md"),
            include_str!("../../../docs/how-to/schema-impact.md"),
            include_str!("../../../docs/how-to/test-for-duplicates.md"),
            include_str!("../../../docs/how-to/transactions.md"),
            include_str!("../../../docs/operating/run-a-node.md"),
            include_str!("../../../docs/reference/catalogue.md"),
        ];
        for page in errors.chain(others) {
            let fenced = page.lines().filter(|line| line.starts_with("wharf "));
            let inline = page.split('`').skip(1).step_by(2);
            for command in fenced.chain(inline.filter(|code| code.starts_with("wharf "))) {
                let command = command.split(" #").next().unwrap_or(command);
                assert!(
                    is_known(command),
                    "{command:?} in {:?}",
                    page.lines().next()
                );
            }
        }
    }
}

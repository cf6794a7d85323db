//! `wharf test duplicates`: the duplicate-delivery test of a consumer in any language.
//!
//! The consumer is a process that reads a topic in a group; what it does is seen by a probe, a
//! command of the user's, and by the topics it writes. The judging is the library's
//! (`wharf::testing::duplicates`); here is the consumer under test that it needs: made of a broker,
//! processes and commands.

mod commands;
mod emitted;
mod members;
mod messages;
mod process;
mod subject;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use wharf::testing::duplicates::{Error, Fault, Options, Progress, Schedule, judge};
use wharf_message::{GroupName, TopicName};
use wharf_server::Problem;

use self::subject::Consumer;
use crate::cli::{Outcome, Usage};
use crate::client::{Connection, wait};
use crate::output::{self, Format, OutputArguments};

/// The verbs of `wharf test`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  wharf test duplicates --topic orders --group billing --messages orders.jsonl \\
      --run './billing --topic {topic} --group {group}' --probe './show-invoices'")]
pub(crate) enum Command {
    /// Deliver every message twice, late, out of order and after a crash, and judge the effects
    Duplicates(Box<Duplicates>),
}

/// Runs a verb of `wharf test`.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Duplicates(duplicates) => duplicates.run(),
    }
}

/// Deliver every message twice, late, out of order and after a crash, and judge the effects.
///
/// The messages are published to a topic by one schedule after the other: each once in order, then
/// with duplicates, other orders, and the consumer killed (kill -9) and started again, also with its
/// last commits lost. After each the probe shows the consumer's effects. A schedule whose effects
/// differ from those of delivering each message once is made as short as possible.
///
/// Every run begins clean: with a topic and a group of its own. Commands get their names as {topic},
/// {group}, {broker} and {run}, and in the environment as WHARF_TOPIC, WHARF_GROUP, WHARF_BROKER and
/// WHARF_RUN (a word that is another for each run). The consumer has to read the topic from its
/// beginning or from where its group is, and to commit after its effects.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf consume orders -n 10 -o jsonl > orders.jsonl
  wharf test duplicates --topic orders --group billing --messages orders.jsonl \\
      --run 'python3 billing.py {broker} {topic} {group} /tmp/{run}.db' \\
      --probe 'sqlite3 -json /tmp/{run}.db \"SELECT id, total FROM invoices\"'
  wharf test duplicates --topic orders --group billing --messages orders.jsonl \\
      --run ./billing --reset 'psql -c \"TRUNCATE invoices, inbox\"' --probe ./show-invoices \\
      --emitted payments --ignore created_at --junit duplicates.xml
  wharf test duplicates ... --schedule '1 2 1+'      one schedule again, as a report shows it

Exit codes: 0 idempotent, 1 not idempotent, 2 wrong usage, 3 could not be judged.")]
pub(crate) struct Duplicates {
    /// The topic; with --run the name of each run's topic begins with it
    #[arg(short, long, value_name = "TOPIC", value_parser = |text: &str| TopicName::new(text))]
    topic: TopicName,
    /// The consumer's group; with --run the name of each run's group begins with it
    #[arg(short, long, value_name = "GROUP", value_parser = |text: &str| GroupName::new(text))]
    group: GroupName,
    /// The messages: JSON Lines as `wharf consume -o jsonl` prints them
    #[arg(short, long, value_name = "FILE")]
    messages: PathBuf,
    /// Starts the consumer; without it the consumer runs already and cannot be killed
    #[arg(long, value_name = "COMMAND")]
    run: Option<String>,
    /// Prints the consumer's effects: JSON ({"table": [rows]}) or text, a row a line
    #[arg(long, value_name = "COMMAND", required_unless_present = "emitted")]
    probe: Option<String>,
    /// A topic that the consumer writes; may be repeated
    #[arg(long, value_name = "TOPIC")]
    emitted: Vec<String>,
    /// Removes the effects of the run before; runs before each run
    #[arg(long, value_name = "COMMAND")]
    reset: Option<String>,
    /// Lets the time pass for which the consumer remembers what it has seen
    #[arg(long, value_name = "COMMAND")]
    later: Option<String>,
    /// A field that is not compared: NAME, OBJECT.NAME or TABLE:NAME; may be repeated
    #[arg(long, value_name = "FIELD")]
    ignore: Vec<String>,
    /// Duplicates after more than so many other messages need not be recognised
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// The messages of a key may come in any order, too
    #[arg(long)]
    reorder_within_keys: bool,
    /// What the mixtures of faults come from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many mixtures of faults are tried
    #[arg(long, default_value_t = 5, value_name = "N")]
    runs: usize,
    /// How many schedules are tried at most to find the shortest
    #[arg(long, default_value_t = 40, value_name = "N")]
    shrink: usize,
    /// Run this schedule only, as a report shows it
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<Schedule>,
    /// Partitions of each run's topic
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1000))]
    partitions: i32,
    /// How long the consumer may take to settle everything, and a command to end
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Write a JUnit report to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    connection: Connection,
}

/// In how many moments of a delivery a consumer is killed, and how often in one run: every time it
/// has to start again.
const MOMENTS: u32 = 3;
const CRASHES_MAX: usize = 2;

impl Duplicates {
    fn run(&self) -> anyhow::Result<Outcome> {
        let messages = messages::read(&self.messages)?;
        let apart = messages::have_run(&messages) || self.reset.is_some();
        if self.run.is_none() && !apart {
            return Err(Usage(
                "without --run every run needs a clean beginning: give --reset, or have {run} in \
                 the messages"
                    .to_owned(),
            )
            .into());
        }
        process::kill_on_interrupt()?;
        let begun = Instant::now();
        if self.run.is_none() {
            output::note("without --run the consumer is not killed: no crashes, no lost commits")?;
        }
        let report = wait(async {
            let mut consumer = Consumer::open(self, messages.len())?;
            let mut said = Ok(());
            let mut watch = |progress: Progress<'_>| {
                if said.is_ok() {
                    said = say(&progress);
                }
            };
            let options = self.options();
            let report = judge(&mut consumer, &messages, &options, &mut watch).await;
            consumer.close().await;
            said?;
            report.map_err(explain)
        })??;
        if let Some(path) = &self.junit {
            std::fs::write(path, report.to_junit(begun.elapsed()))
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        match self.output.format {
            Format::Table => {
                output::text(&report.to_string())?;
                if let Some(failure) = report.failure() {
                    output::text(&format!(
                        "Again: the same with --schedule '{}'\n",
                        failure.minimal
                    ))?;
                }
            }
            format => output::one(format, &report.to_json())?,
        }
        Ok(if report.verdict.is_good() {
            Outcome::Done
        } else {
            Outcome::Negative
        })
    }

    fn options(&self) -> Options {
        let mut options = Options::new(self.group.to_string());
        options.seed = self.seed;
        options.runs = self.runs;
        options.waits = MOMENTS;
        options.crashes_max = CRASHES_MAX;
        options.shrink_runs_max = self.shrink;
        options.window = self.window;
        options.replay.clone_from(&self.schedule);
        if self.window.is_some() {
            options.faults = options.faults.without(Fault::Window);
        }
        if self.reorder_within_keys {
            options.faults = options.faults.with(Fault::ReorderWithinKey);
        }
        self.ignore
            .iter()
            .for_each(|field| options.ignored.push(field));
        options
    }
}

/// Shows what is being done, on stderr.
fn say(progress: &Progress<'_>) -> anyhow::Result<()> {
    match progress {
        Progress::Golden => output::note("each message once, in order (twice, to compare)"),
        Progress::Trial {
            number,
            of,
            class,
            schedule,
        } => output::note(&format!("[{number}/{of}] {class}: {schedule}")),
        Progress::Failed { schedule } => output::note(&format!(
            "its effects differ; looking for a shorter one than {schedule}"
        )),
        Progress::Shrinking { schedule } => output::note(&format!("  {schedule}")),
        _ => Ok(()),
    }
}

/// Why there is no verdict, for the person at the command line.
fn explain(error: Error<anyhow::Error>) -> anyhow::Error {
    let why = error.to_string();
    match error {
        Error::Subject(error) => error,
        Error::NoMessages => Problem::plain(
            "there is nothing to deliver",
            "the file of messages is empty",
            "`wharf consume TOPIC -n 10 -o jsonl` prints messages in the form it has to have",
        )
        .into(),
        Error::NoEffects => Problem::plain(
            "nothing can be judged",
            "after each message was delivered once the probe showed no effect, and no message was \
             emitted",
            "let --probe print the rows that the consumer writes, or name what it emits by --emitted",
        )
        .into(),
        Error::Unstable { diff, fields } => Problem::plain(
            "nothing can be judged",
            format!("delivering each message once has other effects every time:\n{diff}"),
            if fields.is_empty() {
                "let every run begin clean: with --reset, or a database of its own by {run}".to_owned()
            } else {
                format!("leave out what differs by itself: --ignore {}", fields.join(" --ignore "))
            },
        )
        .into(),
        Error::GivenUp(_) => anyhow::anyhow!(why),
        Error::UnknownMessage { .. } | Error::Impossible(_) => Usage(why).into(),
    }
}

//! `wharf ingest`: a CSV or JSON Lines file of any size into a topic, once each row.
//!
//! Interrupted at any point, even by `kill -9`, the same command goes on where it stopped. The
//! truth about what arrived is in the topic itself: every message carries the ingest's id and its
//! row's position, a row always goes to the same partition, and an idempotent producer keeps the
//! rows of a partition in order. So the last such message of a partition says which of its rows
//! are in. The state file beside the input only remembers where to look.

mod input;
mod resume;
mod state;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::{Header, OwnedHeaders};
use serde::Serialize;
use wharf_message::{Code, partitioner};
use wharf_server::Problem;

use self::input::{Input, Row};
use self::resume::Arrived;
use self::state::{State, Tracker};
use crate::cli::Outcome;
use crate::client::{Connection, admin_options, refused, wait};
use crate::deliver::{Receipts, Record, Sender};
use crate::output::{self, OutputArguments};

/// How often the state file is renewed.
const SAVE_EVERY: Duration = Duration::from_secs(2);
/// The header that names the ingest.
const ID_HEADER: &str = "wharf-ingest-id";
/// The header that carries the row's number.
const ROW_HEADER: &str = "wharf-ingest-row";

/// Send the rows of a CSV or JSON Lines file to a topic, each once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf ingest customers.csv --topic customers --key id
  wharf ingest events.jsonl --topic events --key user.id --create 12
  wharf ingest events.jsonl --topic events          again after an interruption: goes on

A row of a CSV file becomes a JSON object with the header line's names.
The progress is kept in FILE.wharf-ingest until all rows are in.")]
pub(crate) struct Ingest {
    /// The file
    file: PathBuf,
    /// The topic
    #[arg(short, long)]
    topic: String,
    /// The column, or the path of a JSON field, that becomes the key [default: none]
    #[arg(short, long, value_name = "NAME")]
    key: Option<String>,
    /// What is in the file [default: by its ending]
    #[arg(long = "format", value_enum, value_name = "FORMAT")]
    file_format: Option<FileFormat>,
    /// Create the topic with so many partitions when it is missing
    #[arg(long, value_name = "PARTITIONS", value_parser = clap::value_parser!(i32).range(1..))]
    create: Option<i32>,
    /// Leave out rows that cannot be read instead of stopping there
    #[arg(long)]
    skip_invalid: bool,
    /// Start over, although an earlier ingest of this file was interrupted
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    connection: Connection,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// Comma-separated values with a header line
    Csv,
    /// One JSON document per line
    Jsonl,
}

/// What an ingest came to.
#[derive(Debug, Serialize)]
struct Report {
    topic: String,
    rows: u64,
    sent: u64,
    already_there: u64,
    invalid: u64,
    seconds: f64,
}

impl Receipts for Mutex<Tracker> {
    fn acknowledged(&self, number: usize, _partition: i32) {
        self.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .acknowledged(number);
    }
}

impl Ingest {
    /// Runs `wharf ingest`.
    pub(crate) fn run(&self) -> anyhow::Result<Outcome> {
        let format = self.format_of_file()?;
        let consumer = self.connection.observer("wharf-cli")?;
        let partitions = self.partitions(&consumer)?;
        let state_path = state::path_beside(&self.file);
        let known = State::load(&state_path)?.filter(|_| !self.restart);
        let mut state = match known {
            Some(known) => {
                known.check(&self.file, &self.topic, self.key.as_deref(), &partitions)?;
                known
            }
            None => State::begin(
                &self.file,
                &self.topic,
                self.key.as_deref(),
                &consumer,
                &partitions,
            )?,
        };
        state.save(&state_path)?;
        let arrived = resume::arrived(&self.connection, &state)?;
        let mut work = Work {
            ingest: self,
            state: &mut state,
            state_path: &state_path,
            arrived,
            partitions: u32::try_from(partitions.len())?,
            saved: Instant::now(),
        };
        let started = Instant::now();
        let mut report = work.run(format)?;
        report.seconds = started.elapsed().as_secs_f64();
        std::fs::remove_file(&state_path)
            .with_context(|| format!("{} cannot be removed", state_path.display()))?;
        let header = [
            "TOPIC",
            "ROWS",
            "SENT",
            "ALREADY THERE",
            "INVALID",
            "SECONDS",
        ];
        output::rows(self.output.format, &header, &[report], |report| {
            vec![
                report.topic.clone(),
                report.rows.to_string(),
                report.sent.to_string(),
                report.already_there.to_string(),
                report.invalid.to_string(),
                format!("{:.1}", report.seconds),
            ]
        })?;
        Ok(Outcome::Done)
    }

    fn format_of_file(&self) -> anyhow::Result<FileFormat> {
        let ending = self
            .file
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default();
        match (self.file_format, ending.to_ascii_lowercase().as_str()) {
            (Some(format), _) => Ok(format),
            (None, "csv") => Ok(FileFormat::Csv),
            (None, "jsonl" | "ndjson" | "json") => Ok(FileFormat::Jsonl),
            _ => Err(crate::cli::Usage(format!(
                "the ending of {} does not say what is in it; add --format csv or --format jsonl",
                self.file.display()
            ))
            .into()),
        }
    }

    /// The topic's partitions; creates the topic when asked to.
    fn partitions(&self, consumer: &BaseConsumer) -> anyhow::Result<Vec<i32>> {
        use rdkafka::admin::{NewTopic, TopicReplication};
        use rdkafka::types::RDKafkaErrorCode;
        if let Some(count) = self.create {
            let topic = NewTopic::new(&self.topic, count, TopicReplication::Fixed(-1));
            let admin = self.connection.admin()?;
            let results = wait(admin.create_topics([&topic], &admin_options(false)))?
                .map_err(|error| self.connection.explain(&error))?;
            for result in results {
                match result {
                    Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    Err((topic, code)) => return Err(refused(&topic, code)),
                }
            }
        }
        self.connection.partitions(consumer, &self.topic)
    }
}

/// An ingest under way.
struct Work<'a> {
    ingest: &'a Ingest,
    state: &'a mut State,
    state_path: &'a Path,
    arrived: Arrived,
    partitions: u32,
    saved: Instant,
}

impl Work<'_> {
    fn run(&mut self, format: FileFormat) -> anyhow::Result<Report> {
        let tracker = Arc::new(Mutex::new(Tracker::default()));
        let sender = Sender::open(
            &self.ingest.connection,
            Arc::clone(&tracker),
            &[("compression.type", "lz4")],
            // What is in is told by the order within a partition.
            &[("enable.idempotence", "true")],
        )?;
        let mut input = Input::open(&self.ingest.file, format, self.state.position())?;
        let bar = progress_bar(input.bytes_total(), self.state.position().byte)?;
        let mut report = Report {
            topic: self.ingest.topic.clone(),
            rows: self.state.position().row,
            sent: 0,
            already_there: self.state.position().row - self.state.invalid,
            invalid: self.state.invalid,
            seconds: 0.0,
        };
        let outcome = self.send_all(&sender, &tracker, &mut input, &bar, &mut report);
        bar.finish_and_clear();
        // Also after a failure: what was acknowledged is worth remembering.
        let finished = sender.finish(&self.ingest.connection);
        self.save(&tracker)?;
        outcome?;
        finished?;
        Ok(report)
    }

    fn send_all(
        &mut self,
        sender: &Sender<Mutex<Tracker>>,
        tracker: &Mutex<Tracker>,
        input: &mut Input,
        bar: &ProgressBar,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let cannot = || format!("{} cannot be read on", self.ingest.file.display());
        let key = self.ingest.key.as_deref();
        while let Some(row) = input.next(key).with_context(cannot)? {
            let row = match row {
                Ok(row) => row,
                Err(invalid) if self.ingest.skip_invalid => {
                    bar.suspend(|| output::note(&format!("left out: {invalid}")))?;
                    report.rows += 1;
                    report.invalid += 1;
                    lock(tracker).skipped(input.position(), true);
                    continue;
                }
                Err(invalid) => return Err(unreadable(&self.ingest.file, &invalid)),
            };
            report.rows += 1;
            let partition = partition_of(&row, self.partitions);
            if self.arrived.has(partition, row.number) {
                report.already_there += 1;
                lock(tracker).skipped(input.position(), false);
            } else {
                let number = lock(tracker).sent(input.position());
                self.send(sender, &row, partition, number)?;
                report.sent += 1;
            }
            bar.set_position(input.position().byte);
            if self.saved.elapsed() >= SAVE_EVERY {
                self.save(tracker)?;
            }
        }
        Ok(())
    }

    fn send(
        &self,
        sender: &Sender<Mutex<Tracker>>,
        row: &Row,
        partition: i32,
        number: usize,
    ) -> anyhow::Result<()> {
        let row_number = row.number.to_string();
        let headers = OwnedHeaders::new_with_capacity(3)
            .insert(Header {
                key: "content-type",
                value: Some("application/json"),
            })
            .insert(Header {
                key: ID_HEADER,
                value: Some(&self.state.id),
            })
            .insert(Header {
                key: ROW_HEADER,
                value: Some(&row_number),
            });
        let mut record = Record::with_opaque_to(&self.ingest.topic, number)
            .partition(partition)
            .payload(&row.value)
            .headers(headers);
        if let Some(key) = &row.key {
            record = record.key(key);
        }
        sender.send(record, &self.ingest.connection)
    }

    fn save(&mut self, tracker: &Mutex<Tracker>) -> anyhow::Result<()> {
        if let Some(progress) = lock(tracker).progress() {
            self.state.advance(progress);
            self.state.save(self.state_path)?;
        }
        self.saved = Instant::now();
        Ok(())
    }
}

fn lock(tracker: &Mutex<Tracker>) -> std::sync::MutexGuard<'_, Tracker> {
    tracker.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a row goes: by its key, as Kafka's own clients hash it, or in turn. Always the same.
fn partition_of(row: &Row, partitions: u32) -> i32 {
    let count = u64::from(partitions.max(1));
    let turn = match &row.key {
        Some(key) => partitioner::partition(key, partitions as usize) as u64,
        None => row.number % count,
    };
    i32::try_from(turn).unwrap_or(0)
}

fn unreadable(file: &Path, invalid: &input::Invalid) -> anyhow::Error {
    Problem::new(
        Code::INGEST_INPUT,
        format!("{}: {invalid}", file.display()),
        "a row that is not understood is not guessed at",
        "mend the row and run the command again, or add --skip-invalid to leave such rows out",
    )
    .into()
}

fn progress_bar(total: u64, done: u64) -> anyhow::Result<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let template = "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
    let bar = ProgressBar::new(total).with_style(ProgressStyle::with_template(template)?);
    bar.set_position(done);
    bar.reset_eta();
    Ok(bar)
}

//! `cargo xtask bench library`: what the library adds to what is written by hand, and beside a library
//! of the same kind.

pub(crate) mod in_process;
pub(crate) mod inbox;
mod kafka;
mod page;
mod watermill;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use harness::Launch;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::runtime::Builder;

use crate::clients::{Client as _, Kafka, Topic};
use crate::limits::{self, Machine};
use crate::report::{self, Outcome};
use crate::say;
use in_process::Figure;
use kafka::Amount;

const PARTITIONS: usize = 6;

/// How the run is taken.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The broker to measure on
    #[arg(long)]
    wharf: PathBuf,
    /// The program that counts allocations; beside this one unless given
    #[arg(long)]
    allocations: Option<PathBuf>,
    /// The program that drives Watermill
    #[arg(long)]
    watermill: Option<PathBuf>,
    /// Why there is none
    #[arg(long, default_value = "it is not installed")]
    watermill_missing: String,
    /// A directory on the disk to measure on; it is deleted at the end
    #[arg(long)]
    scratch: PathBuf,
    /// Where to write the page and the figures as JSON
    #[arg(long)]
    out: PathBuf,
    /// Little of everything: only to see that it runs
    #[arg(long)]
    quick: bool,
}

impl Options {
    /// What is deleted at the end.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// How much is measured.
    fn size(&self) -> Size {
        let (in_process, through_kafka, rounds) = match self.quick {
            true => (5_000, 5_000, 1),
            false => (50_000, 200_000, 5),
        };
        Size {
            in_process,
            amount: Amount {
                messages: through_kafka,
                warm: through_kafka / 10,
            },
            rounds,
            inbox: inbox::Shape {
                connections: 4,
                rounds: if self.quick { 1 } else { 11 },
                seconds: if self.quick { 0.1 } else { 0.5 },
            },
        }
    }
}

/// How only the part through Kafka's protocol is taken.
#[derive(Debug, clap::Args)]
pub(crate) struct KafkaOptions {
    /// The broker to measure on
    #[arg(long)]
    wharf: PathBuf,
    /// A directory on the disk to measure on; it is deleted at the end
    #[arg(long)]
    scratch: PathBuf,
    /// How many messages a round has
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// How many rounds are taken
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

impl KafkaOptions {
    /// What is deleted at the end.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }
}

/// Where and how often messages go through Kafka's protocol.
struct Course<'a> {
    wharf: &'a Path,
    scratch: &'a Path,
    watermill: Result<&'a Path, &'a str>,
    amount: Amount,
    rounds: usize,
}

struct Size {
    in_process: u64,
    amount: Amount,
    rounds: usize,
    inbox: inbox::Shape,
}

/// One way through Kafka: messages per second of each, medians of all rounds.
#[derive(Debug, Serialize)]
pub(crate) struct Through {
    pub(crate) library: f64,
    pub(crate) by_hand: f64,
    /// The median of the rounds' own ratios.
    pub(crate) ratio: f64,
    pub(crate) watermill: Outcome,
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) messages_in_process: u64,
    pub(crate) messages_through_kafka: u64,
    pub(crate) in_process: Vec<Figure>,
    pub(crate) publish: Through,
    pub(crate) handle: Through,
    pub(crate) inbox_connections: u32,
    pub(crate) inbox: Option<inbox::Rates>,
    /// Why the inbox was not measured.
    pub(crate) inbox_missing: Option<String>,
}

/// Measures everything and writes it down.
pub(crate) fn run(options: &Options) -> Result<()> {
    let began = Instant::now();
    let size = options.size();
    if options.scratch.exists() {
        fs::remove_dir_all(&options.scratch)?;
    }
    fs::create_dir_all(&options.scratch)?;
    let machine = Machine::here(&options.scratch);
    say("in the process");
    let mut in_process = in_process::measure(size.in_process, size.rounds, || 0)?;
    let counted = allocations(options, size.in_process)?;
    for (figure, counted) in in_process.iter_mut().zip(counted) {
        figure.library_allocations = counted.library_allocations;
        figure.plain_allocations = counted.plain_allocations;
        say(format!("    {}", page::line(figure)));
    }
    say("through Kafka's protocol");
    let missing = options.watermill_missing.as_str();
    let (publish, handle) = through_kafka(&Course {
        wharf: &options.wharf,
        scratch: &options.scratch,
        watermill: options.watermill.as_deref().ok_or(missing),
        amount: size.amount,
        rounds: size.rounds,
    })?;
    say("the inbox");
    let inbox = inbox::measure(size.inbox);
    let inbox_missing = inbox.as_ref().err().map(|error| format!("{error:#}"));
    let report = Report {
        machine,
        rounds: size.rounds,
        messages_in_process: size.in_process,
        messages_through_kafka: size.amount.messages,
        in_process,
        publish,
        handle,
        inbox_connections: size.inbox.connections,
        inbox: inbox.ok(),
        inbox_missing,
    };
    let page = page::write(&report);
    let targets = page::targets(&report);
    report::write(&options.out, "library", &report, &page, &targets, began)
}

/// Measures only what goes through Kafka's protocol, and says what processor time it takes.
pub(crate) fn kafka_alone(options: &KafkaOptions) -> Result<()> {
    if options.scratch.exists() {
        fs::remove_dir_all(&options.scratch)?;
    }
    fs::create_dir_all(&options.scratch)?;
    let messages = options.messages;
    let (publish, handle) = through_kafka(&Course {
        wharf: &options.wharf,
        scratch: &options.scratch,
        watermill: Err("it is not asked for"),
        amount: Amount {
            messages,
            warm: messages / 10,
        },
        rounds: options.rounds,
    })?;
    for (what, through) in [("publish", publish), ("handle", handle)] {
        let Through {
            library,
            by_hand,
            ratio,
            ..
        } = through;
        say(format!(
            "{what}: library {library:.0} messages/s, by hand {by_hand:.0}, ratio {ratio:.3}"
        ));
    }
    Ok(())
}

/// The same in a process whose allocator counts.
fn allocations(options: &Options, messages: u64) -> Result<Vec<Figure>> {
    let beside = std::env::current_exe()?.with_file_name("wharf-bench-allocations");
    let program = options.allocations.as_ref().unwrap_or(&beside);
    let output = Command::new(program)
        .arg(messages.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    ensure!(output.status.success(), "{} failed", program.display());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What one side of a round took.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// Messages per second.
    rate: f64,
    /// This process's processor time, in nanoseconds for each message.
    cpu: f64,
}

/// Runs one side of a round.
fn taken(messages: u64, run: impl FnOnce() -> Result<f64>) -> Result<Taken> {
    let used = || {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        used.tv_sec as f64 * 1e9 + used.tv_nsec as f64
    };
    let before = used();
    let rate = run()?;
    let cpu = (used() - before) / messages as f64;
    Ok(Taken { rate, cpu })
}

/// The rates of one way, round by round.
#[derive(Default)]
struct Rates {
    library: Vec<f64>,
    by_hand: Vec<f64>,
    ratios: Vec<f64>,
    watermill: Vec<f64>,
    missing: Option<String>,
}

impl Rates {
    fn add(&mut self, by_hand: Taken, library: Taken, watermill: Result<f64>) {
        let cpu = (library.cpu, by_hand.cpu);
        let (by_hand, library) = (by_hand.rate, library.rate);
        self.library.push(library);
        self.by_hand.push(by_hand);
        self.ratios.push(library / by_hand);
        match &watermill {
            Ok(rate) => self.watermill.push(*rate),
            Err(error) => self.missing = Some(format!("{error:#}")),
        }
        let watermill = watermill.unwrap_or(f64::NAN);
        say(format!(
            "    library {library:.0} messages/s, by hand {by_hand:.0}, Watermill {watermill:.0}; \
             processor time of a message {:.0} ns, by hand {:.0} ns",
            cpu.0, cpu.1
        ));
    }

    fn through(self) -> Result<Through> {
        Ok(Through {
            library: inbox::median(self.library)?,
            by_hand: inbox::median(self.by_hand)?,
            ratio: inbox::median(self.ratios)?,
            watermill: match self.missing {
                Some(why) => Outcome::Missing(why),
                None => Outcome::Values(vec![inbox::median(self.watermill)?]),
            },
        })
    }
}

/// Publishing and handling on one node; each round on topics of its own, in turns.
fn through_kafka(course: &Course<'_>) -> Result<(Through, Through)> {
    let amount = course.amount;
    let path = |name: &str| course.scratch.join(name);
    let launch = Launch::new(course.wharf, &path("data"), &path("wharf.log"));
    let node = launch.start()?;
    let address = node.kafka.clone();
    let client = Kafka::new(&address);
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let watermill = |mode: &str, topic: &str| match course.watermill {
        Ok(program) => watermill::run(program, mode, &address, topic, amount),
        Err(missing) => Err(anyhow::anyhow!("{missing}")),
    };
    let (mut publish, mut handle) = (Rates::default(), Rates::default());
    // The first round only warms up.
    for round in 0..=course.rounds {
        let topics = ["by-hand", "library", "watermill"]
            .map(|name| Topic::new(format!("{name}-{round}"), PARTITIONS));
        client.make_all(&topics)?;
        let [by_hand, library, peer] = topics.each_ref().map(|topic| topic.name.as_str());
        let settle = || limits::write_out(course.scratch);
        let taken = |run: &dyn Fn() -> Result<f64>| taken(amount.messages, run);
        settle()?;
        let hand_rate = taken(&|| kafka::publish_by_hand(&address, by_hand, amount))?;
        settle()?;
        let library_rate = taken(&|| kafka::publish(&runtime, &address, library, amount))?;
        settle()?;
        let peer_rate = watermill("publish", peer);
        if round > 0 {
            publish.add(hand_rate, library_rate, peer_rate);
        }
        settle()?;
        let hand_rate = taken(&|| kafka::handle_by_hand(&address, library, amount))?;
        let library_rate = taken(&|| kafka::handle(&runtime, &address, library, amount))?;
        let peer_rate = watermill("handle", library);
        if round > 0 {
            handle.add(hand_rate, library_rate, peer_rate);
        }
        for topic in &topics {
            client.remove(topic)?;
        }
    }
    node.stop()?;
    Ok((publish.through()?, handle.through()?))
}

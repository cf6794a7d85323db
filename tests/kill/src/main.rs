//! Test-only: kills the real binary under load and checks what it promised.
//!
//! Idempotent and transactional producers, committing consumers, a client that consumes, transforms and
//! produces, an administrator and clients of the schema registry work on through many SIGKILLs at random moments, some of them while the node is still starting. After every restart committed
//! offsets and topic settings are compared with what was acknowledged; at the end every record is,
//! after one more kill again, and after an orderly stop once more. A killed process loses nothing
//! that it had handed to the operating system: losing power is what the simulated disk is for.
//!
//! With `--relays` the relays and their databases are killed instead ([`relays`]), with `--sagas` the
//! orchestrator of sagas and its workers ([`sagas`]).

mod checker;
mod history;
mod load;
mod random;
mod relays;
mod sagas;
mod schemas;
mod serve;
mod transactions;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use clap::Parser;
use harness::{Launch, Node};

use crate::load::Shared;
use crate::random::Random;
use crate::schemas::Schemas;

/// Small journal files, so that they are settled and used again many times in one run.
const CONFIG: &str = "\
[log]
journal-file-size = \"8MiB\"
journal-files-max = 2
[groups]
initial-rebalance-delay = \"100ms\"
";
/// The budget of a start, for an unoptimised build on a busy machine; docs/operating/reliability.md.
const START_WITHIN: Duration = Duration::from_secs(15);
/// How often the node is killed, unless it is said.
const KILLS: u64 = 50;
/// How many findings of one check are printed.
const FINDINGS_SHOWN: usize = 20;

/// Kills `wharf serve` under load and checks that it kept its promises.
#[derive(Debug, Parser)]
#[command(
    after_help = "Example:\n  kill-test --wharf target/debug/wharf --scratch /tmp/kill --seed 42"
)]
struct Options {
    /// The binary under test
    #[arg(long)]
    wharf: PathBuf,
    /// A directory of its own for data and logs; what is in it is deleted first
    #[arg(long)]
    scratch: PathBuf,
    /// Chooses the moments and the load; taken from the clock when absent
    #[arg(long)]
    seed: Option<u64>,
    /// How often to kill: 50 times, with `--relays` 14 and with `--sagas` 20 times, when absent
    #[arg(long)]
    kills: Option<u64>,
    /// Kill relays and their databases instead
    #[arg(long)]
    relays: bool,
    /// Kill the orchestrator of sagas and its workers instead
    #[arg(long, conflicts_with = "relays")]
    sagas: bool,
}

/// What was checked so far.
#[derive(Default)]
struct Score {
    passed: usize,
    failed: usize,
}

impl Score {
    fn note(&mut self, what: &str, findings: &[String]) {
        if findings.is_empty() {
            self.passed += 1;
            return;
        }
        self.failed += 1;
        say(&format!("FAIL {what}: {} findings", findings.len()));
        for line in findings.iter().take(FINDINGS_SHOWN) {
            say(&format!("     {line}"));
        }
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(sagas::WORKER) {
        return match sagas::work() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say(&format!("{error:#}"));
                ExitCode::FAILURE
            }
        };
    }
    let options = Options::parse();
    let clock = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seed = options.seed.unwrap_or(u64::from(clock.subsec_nanos()));
    say(&format!(
        "seed {seed} (repeat the same plan with --seed {seed})"
    ));
    let mut score = Score::default();
    let ended = harness::kill_groups_on_interrupt().and_then(|()| run(&options, seed, &mut score));
    if let Err(error) = ended {
        score.note("the run came to its end", &[format!("{error:#}")]);
    }
    say(&format!("{} passed, {} failed", score.passed, score.failed));
    if score.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(options: &Options, seed: u64, score: &mut Score) -> Result<()> {
    if options.scratch.exists() {
        std::fs::remove_dir_all(&options.scratch)?;
    }
    std::fs::create_dir_all(&options.scratch)?;
    if options.relays {
        let strikes = options.kills.unwrap_or(relays::STRIKES);
        return relays::run(&options.wharf, &options.scratch, seed, strikes, score);
    }
    if options.sagas {
        let strikes = options.kills.unwrap_or(sagas::STRIKES);
        return sagas::run(&options.wharf, &options.scratch, seed, strikes, score);
    }
    let data = options.scratch.join("data");
    let mut launch = Launch::new(&options.wharf, &data, &options.scratch.join("server.log"));
    let config = options.scratch.join("wharf.toml");
    std::fs::write(&config, CONFIG)?;
    launch.arguments = vec!["--config".to_owned(), config.display().to_string()];
    let mut node = launch.start()?;
    // The clients outlive the node, so it comes back to the same port every time.
    launch.kafka_listen.clone_from(&node.kafka);
    launch.registry_listen.clone_from(&node.registry);
    let shared = Shared {
        address: node.kafka.clone(),
        history: Arc::default(),
        stop: Arc::default(),
    };
    load::make_topics(&shared)?;
    let clients = load::start(&shared, seed);
    let mut schemas = Schemas::start(&node.registry, &shared.stop, seed)?;
    let mut random = Random::new(seed);
    for kill in 1..=options.kills.unwrap_or(KILLS) {
        node = kill_and_restart(&launch, node, &mut random, &shared, kill)?;
        let findings = compare_state(&shared)?;
        score.note(
            &format!("committed offsets and settings after kill {kill}"),
            &findings,
        );
        let what = format!("schemas after kill {kill}");
        score.note(&what, &schemas.check()?);
        if harness::interrupted() {
            anyhow::bail!("interrupted");
        }
    }
    shared.stop.store(true, Ordering::SeqCst);
    for client in clients {
        let ended = client
            .join()
            .map_err(|panic| anyhow::anyhow!("a client panicked: {panic:?}"))?;
        ended.context("a client could not finish")?;
    }
    schemas.join()?;
    let (registered, deleted) = schemas.counts();
    say(&format!(
        "{registered} schemas registered, {deleted} subjects deleted for good"
    ));
    let idle = registered == 0 || deleted == 0;
    let idle = idle.then(|| "nothing was registered, or nothing deleted".to_owned());
    score.note("the registry's clients got through", &Vec::from_iter(idle));
    let mut compare = |when| {
        compare_everything(&shared, score, when)?;
        score.note(&format!("schemas {when}"), &schemas.check()?);
        Ok::<(), anyhow::Error>(())
    };
    compare("after the load")?;
    node.kill()?;
    node = launch.start()?;
    compare("after one more kill")?;
    node.stop()?;
    node = launch.start()?;
    compare("after an orderly stop")?;
    node.stop()
}

/// Lets the node live for a random time, kills it, and starts it again. Every fifth time the new
/// one is killed while it starts, too.
fn kill_and_restart(
    launch: &Launch,
    node: Node,
    random: &mut Random,
    shared: &Shared,
    kill: u64,
) -> Result<Node> {
    let life = Duration::from_millis(100 + random.below(1200));
    let (before, deadline) = (shared.history.lock().acknowledged(), Instant::now() + life);
    while let left = deadline.saturating_duration_since(Instant::now())
        && !left.is_zero()
    {
        std::thread::park_timeout(left);
    }
    node.kill()?;
    let acknowledged = shared.history.lock().acknowledged();
    if kill.is_multiple_of(5) {
        launch.start_and_kill(Duration::from_millis(random.below(60)))?;
    }
    let node = launch.start()?;
    anyhow::ensure!(
        node.started_in <= START_WITHIN,
        "the start after kill {kill} took {:?}, longer than {START_WITHIN:?}",
        node.started_in
    );
    say(&format!(
        "kill {kill} after {} ms and {} acknowledged messages; back in {} ms",
        life.as_millis(),
        acknowledged - before,
        node.started_in.as_millis()
    ));
    Ok(node)
}

/// Compares while the load goes on.
fn compare_state(shared: &Shared) -> Result<Vec<String>> {
    let before = shared.history.lock().state.clone();
    let served = serve::state(shared)?;
    let promised = before.until(shared.history.lock().state_once());
    Ok(checker::check_state(&promised, &served))
}

/// Compares everything, with no load.
fn compare_everything(shared: &Shared, score: &mut Score, when: &str) -> Result<()> {
    let served = serve::all(shared)?;
    let mut facts = shared.history.lock();
    let records: usize = served.records.values().map(Vec::len).sum();
    say(&format!(
        "{when}: {records} records, {} acknowledged, {} transactions of {} committed, {} committed \
         offsets, {} topics made",
        facts.acknowledged(),
        facts.transactions_committed(),
        facts.transactions.len(),
        facts.state.committed.len(),
        facts.state.topics.len()
    ));
    // A run in which nothing was promised shows nothing.
    let idle = facts.acknowledged() == 0
        || facts.transactions_committed() == 0
        || facts
            .state
            .committed
            .values()
            .all(|growing| growing.acknowledged.is_none())
        || facts
            .state
            .topics
            .values()
            .all(|topic| topic.retention.acknowledged.is_none());
    let idle = idle.then(|| "the load did not get through".to_owned());
    score.note(
        &format!("the load got through {when}"),
        &Vec::from_iter(idle),
    );
    score.note(
        &format!("everything {when}"),
        &checker::check_all(&facts, &served),
    );
    facts.state.violations.clear();
    Ok(())
}

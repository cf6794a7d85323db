//! Runs seeds of the simulator: many, or one again. `cargo xtask sim` calls it.
//!
//! Its closing line counts the seeds that kept every promise and those that did not; each of the
//! latter comes with the one line that replays it. It decides nothing about what is simulated.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wharf_sim::{Plan, run};
#[cfg(feature = "sagas")]
use wharf_sim::{SagaPlan, run_sagas};

const USAGE: &str = "\
Runs the simulator: a log on a disk that fails, checked against every answer it gave.

Usage: cargo xtask sim [--seeds N] [--from S]   N seeds from S on (1000 from 1)
       cargo xtask sim --seed S                 one seed, and what happened in it
       cargo xtask sim --sagas ...              the same of sagas, which have seeds of their own
       cargo xtask sim --sagas --log ...        sagas, with every seed on the node's own log
";

/// How many seeds run when nobody says.
const SEEDS: u64 = 1000;
/// So many seeds later the run says how far it is.
const PROGRESS: u64 = 1000;
/// How many promises found broken are told with an example.
const TOLD_MAX: usize = 5;

/// The seeds to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seeds {
    from: u64,
    count: u64,
    /// Whether they are those of sagas.
    sagas: bool,
    /// Whether all of them stand on the node's own log; else each seed decides.
    log: bool,
}

/// What one seed came to: its counts by name, or the promise it broke.
type Outcome = Result<Vec<(&'static str, u64)>, Failure>;

/// A promise that one seed found broken.
struct Failure {
    seed: u64,
    promise: &'static str,
    text: String,
}

/// What all seeds came to.
#[derive(Default)]
struct Total {
    counts: Vec<(&'static str, u64)>,
    failures: Vec<Failure>,
}

impl Total {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Ok(counts) if self.counts.is_empty() => self.counts = counts,
            Ok(counts) => {
                for (mine, (_, count)) in self.counts.iter_mut().zip(counts) {
                    mine.1 += count;
                }
            }
            Err(failure) => self.failures.push(failure),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut output = io::stdout();
    let outcome = match parse(&arguments) {
        #[cfg(feature = "sagas")]
        Ok(seeds) if seeds.sagas => {
            let tells = seeds.count == 1;
            let plan = SagaPlan {
                tells,
                on_the_log: seeds.log.then_some(true),
                ..SagaPlan::default()
            };
            run_all(seeds, &|seed| run_of_sagas(seed, &plan), &mut output)
        }
        #[cfg(not(feature = "sagas"))]
        Ok(seeds) if seeds.sagas => output
            .write_all(b"this simulator was built without sagas\n")
            .map(|()| ExitCode::from(2)),
        Ok(seeds) => run_all(seeds, &run_of_the_log, &mut output),
        Err(text) => output
            .write_all(text.as_bytes())
            .map(|()| ExitCode::from(2)),
    };
    outcome.unwrap_or(ExitCode::from(3))
}

fn run_of_the_log(seed: u64) -> Outcome {
    let outcome = run(seed, &Plan::default());
    let outcome = outcome.map(|report| report.counts());
    outcome.map_err(|violation| Failure {
        seed,
        promise: violation.promise,
        text: violation.to_string(),
    })
}

#[cfg(feature = "sagas")]
fn run_of_sagas(seed: u64, plan: &SagaPlan) -> Outcome {
    let outcome = run_sagas(seed, plan);
    let outcome = outcome.map(|report| report.counts());
    outcome.map_err(|violation| Failure {
        seed,
        promise: violation.promise,
        text: violation.to_string(),
    })
}

fn parse(arguments: &[String]) -> Result<Seeds, String> {
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let mut seeds = Seeds {
        from: 1,
        count: SEEDS,
        sagas: has("--sagas"),
        log: has("--log"),
    };
    if seeds.log && !seeds.sagas {
        return Err(format!("--log is for --sagas\n\n{USAGE}"));
    }
    let rest = arguments.iter();
    let rest = rest.filter(|argument| !matches!(argument.as_str(), "--sagas" | "--log"));
    let rest: Vec<&String> = rest.collect();
    for pair in rest.chunks(2) {
        let [name, value] = pair else {
            return Err(USAGE.to_owned());
        };
        let Ok(value) = value.parse() else {
            return Err(format!("{name} wants a number, not {value:?}\n\n{USAGE}"));
        };
        match name.as_str() {
            "--seeds" => seeds.count = value,
            "--from" => seeds.from = value,
            "--seed" => (seeds.from, seeds.count) = (value, 1),
            _ => return Err(format!("{name} is unknown\n\n{USAGE}")),
        }
    }
    Ok(seeds)
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a run took is told, and decides nothing"
)]
fn run_all(
    seeds: Seeds,
    run: &(dyn Fn(u64) -> Outcome + Sync),
    output: &mut impl Write,
) -> io::Result<ExitCode> {
    let next = AtomicU64::new(0);
    let total: Mutex<Total> = Mutex::default();
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= seeds.count {
                        break;
                    }
                    let outcome = run(seeds.from.wrapping_add(index));
                    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
                    total.add(outcome);
                    say_how_far(index + 1, seeds.count, total.failures.len());
                }
            });
        }
    });
    let took = began.elapsed();
    let mut total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    total.failures.sort_by_key(|failure| failure.seed);
    tell(seeds, &total, output)?;
    say_how_fast(seeds.count, threads, took);
    Ok(if total.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Progress goes to stderr, and a closed one is not worth stopping for.
fn say_how_far(done: u64, count: u64, failed: usize) {
    if done.is_multiple_of(PROGRESS) {
        let line = format!("… {done} of {count} seeds, {failed} failed\n");
        io::stderr().write_all(line.as_bytes()).ok();
    }
}

fn say_how_fast(seeds: u64, threads: usize, took: Duration) {
    let rate = u128::from(seeds) * 1_000 / took.as_millis().max(1);
    let seconds = took.as_secs();
    let line = format!("{rate} seeds a second on {threads} threads, for {seconds} s\n");
    io::stderr().write_all(line.as_bytes()).ok();
}

fn tell(seeds: Seeds, total: &Total, output: &mut impl Write) -> io::Result<()> {
    let Total { counts, failures } = total;
    for (name, count) in counts {
        writeln!(output, "{count:>12} {name}")?;
    }
    let mut told = BTreeSet::new();
    for failure in failures {
        if told.insert(failure.promise) && told.len() <= TOLD_MAX {
            writeln!(output, "\n{}", failure.text)?;
        }
    }
    if failures.len() > told.len() {
        let all: Vec<String> = failures.iter().map(|one| one.seed.to_string()).collect();
        writeln!(output, "\nfailing seeds: {}", all.join(" "))?;
    }
    let failed = failures.len() as u64;
    writeln!(output, "\n{} passed, {failed} failed", seeds.count - failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(arguments: &str) -> Result<Seeds, String> {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        parse(&arguments)
    }

    #[test]
    fn arguments_choose_the_seeds() {
        assert_eq!(
            seeds(""),
            Ok(Seeds {
                from: 1,
                count: SEEDS,
                sagas: false,
                log: false
            })
        );
        assert_eq!(
            seeds("--seeds 7 --from 100"),
            Ok(Seeds {
                from: 100,
                count: 7,
                sagas: false,
                log: false
            })
        );
        assert_eq!(
            seeds("--sagas --seed 42 --log"),
            Ok(Seeds {
                from: 42,
                count: 1,
                sagas: true,
                log: true
            })
        );
        assert!(seeds("--log").unwrap_err().contains("is for --sagas"));
        assert!(seeds("--seed x").unwrap_err().contains("wants a number"));
        assert!(seeds("--sed 1").unwrap_err().contains("unknown"));
        assert!(seeds("--seed").is_err());
    }
}

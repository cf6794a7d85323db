//! Runs seeds of the simulator: many, or one again. `cargo xtask sim` calls it.
//!
//! Its closing line counts the seeds that kept every promise and those that did not; each of the
//! latter comes with the one line that replays it. It decides nothing about what is simulated.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use wharf_sim::{Plan, Report, Violation, run};

const USAGE: &str = "\
Runs the simulator: a log on a disk that fails, checked against every answer it gave.

Usage: cargo xtask sim [--seeds N] [--from S]   N seeds from S on (1000 from 1)
       cargo xtask sim --seed S                 one seed, and what happened in it
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
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut output = io::stdout();
    let outcome = match parse(&arguments) {
        Ok(seeds) => run_all(seeds, &mut output),
        Err(text) => output
            .write_all(text.as_bytes())
            .map(|()| ExitCode::from(2)),
    };
    outcome.unwrap_or(ExitCode::from(3))
}

fn parse(arguments: &[String]) -> Result<Seeds, String> {
    let mut seeds = Seeds {
        from: 1,
        count: SEEDS,
    };
    for pair in arguments.chunks(2) {
        let [name, value] = pair else {
            return Err(USAGE.to_owned());
        };
        let Ok(value) = value.parse() else {
            return Err(format!("{name} wants a number, not {value:?}\n\n{USAGE}"));
        };
        match name.as_str() {
            "--seeds" => seeds.count = value,
            "--from" => seeds.from = value,
            "--seed" => {
                seeds = Seeds {
                    from: value,
                    count: 1,
                }
            }
            _ => return Err(format!("{name} is unknown\n\n{USAGE}")),
        }
    }
    Ok(seeds)
}

fn run_all(seeds: Seeds, output: &mut impl Write) -> io::Result<ExitCode> {
    let plan = Plan::default();
    let next = AtomicU64::new(0);
    let results: Mutex<(Report, Vec<Violation>)> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= seeds.count {
                        break;
                    }
                    let outcome = run(seeds.from.wrapping_add(index), &plan);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcome {
                        Ok(report) => results.0.add(&report),
                        Err(violation) => results.1.push(*violation),
                    }
                    say_how_far(index + 1, seeds.count, results.1.len());
                }
            });
        }
    });
    let (report, mut violations) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    violations.sort_by_key(|violation| violation.seed);
    tell(seeds, &report, &violations, output)?;
    Ok(if violations.is_empty() {
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

fn tell(
    seeds: Seeds,
    report: &Report,
    violations: &[Violation],
    output: &mut impl Write,
) -> io::Result<()> {
    for (name, count) in report.counts() {
        writeln!(output, "{count:>12} {name}")?;
    }
    let mut told = BTreeSet::new();
    for violation in violations {
        if told.insert(violation.promise) && told.len() <= TOLD_MAX {
            writeln!(output, "\n{violation}")?;
        }
    }
    if violations.len() > told.len() {
        let all: Vec<String> = violations.iter().map(|one| one.seed.to_string()).collect();
        writeln!(output, "\nfailing seeds: {}", all.join(" "))?;
    }
    let failed = violations.len() as u64;
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
                count: SEEDS
            })
        );
        assert_eq!(
            seeds("--seeds 7 --from 100"),
            Ok(Seeds {
                from: 100,
                count: 7
            })
        );
        assert_eq!(seeds("--seed 42"), Ok(Seeds { from: 42, count: 1 }));
        assert!(seeds("--seed x").unwrap_err().contains("wants a number"));
        assert!(seeds("--sed 1").unwrap_err().contains("unknown"));
        assert!(seeds("--seed").is_err());
    }
}

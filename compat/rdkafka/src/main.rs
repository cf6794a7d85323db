//! Test-only: the rdkafka crate (librdkafka as Rust services use it) against a broker that is
//! already there.
//!
//! Prints one line per case and closes with `N passed, N failed`. Topics and groups have names that
//! nobody else uses, so it runs against any broker.

mod cases;
mod client;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cases::Case;
use crate::client::Client;

/// The longest one case may take.
const CASE_WITHIN: Duration = Duration::from_secs(75);
/// How many cases run at the same time.
const TOGETHER: usize = 4;

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

/// Runs one case on a thread of its own, as librdkafka blocks in places; says how it ended.
fn run(case: &Case, address: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let run = (case.run)(Client::new(address));
        tokio::time::timeout(CASE_WITHIN, run).await?
    })
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(address) = arguments.next() else {
        say("usage: compat-rdkafka ADDRESS [words of the cases' names], or --list");
        return ExitCode::from(2);
    };
    if address == "--list" {
        for case in cases::all() {
            say(&format!("CASE {}: {}", case.feature, case.name));
        }
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = arguments.collect();
    let chosen =
        |case: &&Case| words.is_empty() || words.iter().any(|word| case.name.contains(word));
    let waiting = Mutex::new(cases::all().filter(chosen));
    let (passed, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let next = || waiting.lock().ok()?.next();
    std::thread::scope(|scope| {
        for _ in 0..TOGETHER {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let began = Instant::now();
                    match run(case, &address) {
                        Ok(()) => {
                            passed.fetch_add(1, Ordering::Relaxed);
                            let took = began.elapsed().as_secs_f64();
                            say(&format!("ok   {} ({took:.1} s)", case.name));
                        }
                        Err(error) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            say(&format!("FAIL {}: {error:#}", case.name));
                        }
                    }
                }
            });
        }
    });
    let (passed, failed) = (passed.into_inner(), failed.into_inner());
    say(&format!("{passed} passed, {failed} failed"));
    if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

//! Test-only: the rdkafka crate (librdkafka as Rust services use it) against a broker that is
//! already there.
//!
//! Prints one line per case and closes with `N passed, N failed`. Topics and groups have names that
//! nobody else uses, so it runs against any broker.

mod cases;
mod client;

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::client::Client;

/// The longest one case may take.
const CASE_WITHIN: Duration = Duration::from_secs(90);

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(address) = arguments.next() else {
        say("usage: compat-rdkafka ADDRESS [words of the cases' names]");
        return ExitCode::from(2);
    };
    let words: Vec<String> = arguments.collect();
    let (mut passed, mut failed) = (0, 0);
    for case in cases::ALL {
        if !words.is_empty() && !words.iter().any(|word| case.name.contains(word.as_str())) {
            continue;
        }
        let began = Instant::now();
        let run = tokio::time::timeout(CASE_WITHIN, (case.run)(Client::new(&address))).await;
        let ended = run.unwrap_or_else(|late| Err(late.into()));
        match ended {
            Ok(()) => {
                passed += 1;
                say(&format!(
                    "ok   {} ({:.1} s)",
                    case.name,
                    began.elapsed().as_secs_f64()
                ));
            }
            Err(error) => {
                failed += 1;
                say(&format!("FAIL {}: {error:#}", case.name));
            }
        }
    }
    say(&format!("{passed} passed, {failed} failed"));
    if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

//! Test-only: the crate `schema_registry_converter` against a registry that is already there, with
//! records through the broker that the environment variable `BROKER` names.
//!
//! Prints one line per case and closes with `N passed, N failed`. Subjects and topics have names that
//! nobody else uses, so it runs against any registry.

mod broker;
mod cases;

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::broker::Broker;

/// The longest one case may take.
const CASE_WITHIN: Duration = Duration::from_secs(60);

/// Where a case finds its servers.
#[derive(Clone)]
struct Servers {
    /// The registry's URL.
    registry: String,
    broker: Broker,
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

/// A name that nobody else uses.
fn fresh(what: &str) -> String {
    format!("compat-{what}-{}", uuid::Uuid::new_v4().simple())
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Ok(broker)) = (arguments.next(), std::env::var("BROKER")) else {
        say("usage: BROKER=ADDRESS compat-registry-rust REGISTRY [words of the cases' names]");
        return ExitCode::from(2);
    };
    let registry = match address.contains("://") {
        true => address,
        false => format!("http://{address}"),
    };
    let words: Vec<String> = arguments.collect();
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        say("another provider of cryptography is installed already");
        return ExitCode::FAILURE;
    }
    let servers = Servers {
        registry,
        broker: Broker::new(&broker),
    };
    match run(&servers, &words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs the cases that have one of the words in their names, or all. Answers whether all passed.
fn run(servers: &Servers, words: &[String]) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (mut passed, mut failed) = (0, 0);
    for (name, case) in cases::ALL {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let began = Instant::now();
        let limited = async { tokio::time::timeout(CASE_WITHIN, case(servers.clone())).await? };
        match runtime.block_on(limited) {
            Ok(()) => {
                passed += 1;
                say(&format!(
                    "ok   {name} ({:.1} s)",
                    began.elapsed().as_secs_f64()
                ));
            }
            Err(error) => {
                failed += 1;
                say(&format!("FAIL {name}: {error:#}"));
            }
        }
    }
    say(&format!("{passed} passed, {failed} failed"));
    Ok(failed == 0 && passed > 0)
}

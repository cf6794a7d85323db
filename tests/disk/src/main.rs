//! Test-only: the real binary on a disk that runs full, and on one whose syncs fail.
//!
//! Each is a scenario in its own file. What cannot run here (a file system that may not be mounted) is
//! told in a line `SKIP reason`.

mod client;
mod failed_sync;
mod full;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use harness::Launch;

const CONFIG: &str = "\
[log]
journal-file-size = \"8MiB\"
journal-files-max = 2
";
/// Runs `wharf serve` on a disk that runs full, and on one that fails.
#[derive(Debug, Parser)]
struct Options {
    /// The binary under test
    #[arg(long)]
    wharf: PathBuf,
    /// `strace`, which makes syncs fail
    #[arg(long)]
    strace: PathBuf,
    /// A directory of its own; a file system is mounted in it
    #[arg(long)]
    scratch: PathBuf,
}

impl Options {
    /// How to start the node over `data`, below the scratch directory.
    fn launch(&self, data: &str) -> Result<Launch> {
        let data: &Path = &self.scratch.join(data);
        std::fs::create_dir_all(&self.scratch)?;
        let mut launch = Launch::new(&self.wharf, data, &self.scratch.join("server.log"));
        let config = self.scratch.join("wharf.toml");
        std::fs::write(&config, CONFIG)?;
        launch.arguments = vec!["--config".to_owned(), config.display().to_string()];
        Ok(launch)
    }
}

/// What was shown so far.
#[derive(Debug, Default)]
struct Score {
    passed: usize,
    failed: usize,
}

impl Score {
    fn passed(&mut self, what: &str) {
        self.passed += 1;
        say(&format!("ok {what}"));
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut score = Score::default();
    let mut run = |scenario: fn(&Options, &mut Score) -> Result<()>| {
        if let Err(error) = scenario(&options, &mut score) {
            score.failed += 1;
            say(&format!("FAIL {error:#}"));
        }
    };
    run(|_, _| harness::kill_groups_on_interrupt());
    run(full::run);
    run(failed_sync::run);
    say(&format!("{} passed, {} failed", score.passed, score.failed));
    if score.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

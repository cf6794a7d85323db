//! libFuzzer over the targets of `fuzz/`: the build it needs, its folders, and what it says.
//!
//! Everything lies below the target directory: the instrumented build, the corpus that grows from
//! run to run, and the inputs that were found to break something. Seeds are written by the binary
//! itself. Dependencies are instrumented like our own code; build scripts and the compiler's
//! plug-ins are not.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::shell::{self, say};
use crate::suite::Outcome;
use crate::workspace::Workspace;

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask fuzz                                  the targets
  cargo xtask fuzz journal --seconds 600            ten minutes for one of them
  cargo xtask fuzz all --seconds 3600               an hour for each, two at a time
  cargo xtask fuzz journal --input FILE             feeds one input again";

/// Counters and the outcomes of comparisons at every edge: what libFuzzer steers by.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// What is searched, with the longest input worth trying.
const TARGETS: &[(&str, u32)] = &[
    ("frames", 4096),
    ("requests", 8192),
    ("batches", 2048),
    ("journal", 16384),
    ("segments", 2048),
    ("snapshots", 8192),
    ("pgoutput", 1024),
    ("schemas", 4096),
    ("registry", 4096),
    ("expressions", 2048),
];
/// Holds a bug on purpose, which the search must find.
const PLANTED: (&str, u32) = ("planted", 64);
/// How long the suite searches in each target.
const SUITE_SECONDS: u32 = 20;
/// How long it may look for the planted bug; the search ends when it is found.
const PLANTED_SECONDS: u32 = 60;
/// One input may take so long on a busy machine before it counts as a hang.
const HANG_SECONDS: u32 = 25;
/// What the process may grow to.
const MEMORY_MIB: u32 = 2048;
/// The largest single allocation: a batch may decompress to 128 MiB.
const ALLOCATION_MIB: u32 = 300;

/// What to search.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The target, or `all`; without one they are listed
    target: Option<String>,
    /// How long to search in each target
    #[arg(long, default_value_t = SUITE_SECONDS)]
    seconds: u32,
    /// Feed this file instead of searching
    #[arg(long)]
    input: Option<PathBuf>,
}

/// Searches as asked. Answers whether nothing was found.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let known = || TARGETS.iter().copied().chain([PLANTED]);
    let chosen: Vec<_> = match options.target.as_deref() {
        None => {
            known().for_each(|(name, _)| say(name));
            return Ok(true);
        }
        Some("all") => TARGETS.to_vec(),
        Some(name) => known().filter(|target| target.0 == name).collect(),
    };
    ensure!(
        !chosen.is_empty(),
        "there is no such target; they are listed without a name"
    );
    let fuzzer = Fuzzer::build(workspace)?;
    if let Some(input) = &options.input {
        ensure!(chosen.len() == 1, "one input is for one target");
        return fuzzer.feed(chosen[0].0, input);
    }
    let found = fuzzer.search_all(&chosen, options.seconds);
    found.into_iter().try_fold(true, |good, (name, found)| {
        let found = found.with_context(|| format!("{name} could not be searched"))?;
        Ok(good && matches!(found, Found::Nothing))
    })
}

/// The part of the suite: some seconds for each target, and the planted bug must be found.
pub(crate) fn part(workspace: &Workspace) -> Result<Outcome> {
    let fuzzer = Fuzzer::build(workspace)?;
    let targets: Vec<_> = TARGETS.iter().copied().chain([PLANTED]).collect();
    let mut outcome = Outcome::default();
    for (name, found) in fuzzer.search_all(&targets, SUITE_SECONDS) {
        let good = match found {
            Ok(Found::Nothing) if name == PLANTED.0 => {
                say("    the planted bug was not found: the search does not work");
                false
            }
            Ok(found) => matches!(found, Found::Nothing) || name == PLANTED.0,
            Err(error) => {
                say(format!("    {name}: {error:#}"));
                false
            }
        };
        outcome.passed += usize::from(good);
        outcome.failed += usize::from(!good);
    }
    Ok(outcome)
}

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Something,
}

/// The built binary and its folders.
struct Fuzzer<'a> {
    workspace: &'a Workspace,
    binary: PathBuf,
    folder: PathBuf,
}

impl<'a> Fuzzer<'a> {
    fn build(workspace: &'a Workspace) -> Result<Self> {
        let version =
            shell::answer("rustc", &["-vV"]).context("failed to ask rustc its version")?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("rustc does not say which host it is for")?;
        let folder = workspace.target.join("fuzz");
        let mut command = workspace.cargo(&["build", "--locked", "--package", "wharf-fuzz"]);
        command.args([
            "--features",
            "libfuzzer",
            "--bin",
            "wharf-fuzz",
            "--profile",
            "fuzz",
        ]);
        // With a target named, only what runs there gets the flags.
        command
            .args(["--target", host])
            .arg("--target-dir")
            .arg(&folder);
        command.env("RUSTFLAGS", RUSTFLAGS);
        let log = workspace.log("build-fuzz");
        if !shell::logged(&mut command, &log, |_| {})?.success() {
            shell::show_tail(&log);
            bail!("the fuzz targets do not build");
        }
        let binary = folder.join(host).join("fuzz").join("wharf-fuzz");
        Ok(Self {
            workspace,
            binary,
            folder,
        })
    }

    /// Searches the targets, as many at a time as there are processors.
    fn search_all(
        &self,
        targets: &[(&'static str, u32)],
        seconds: u32,
    ) -> Vec<(&'static str, Result<Found>)> {
        let next = Mutex::new(targets.iter());
        let results = Mutex::new(Vec::new());
        let take = || next.lock().map_or(None, |mut next| next.next());
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((name, length)) = take()
                        && !harness::interrupted()
                    {
                        let found = self.search(name, *length, seconds);
                        if let Ok(mut results) = results.lock() {
                            results.push((*name, found));
                        }
                    }
                });
            }
        });
        results.into_inner().unwrap_or_default()
    }

    fn search(&self, name: &str, length: u32, seconds: u32) -> Result<Found> {
        let corpus = self.folder.join("corpus").join(name);
        let artifacts = self.folder.join("found").join(name);
        if name == PLANTED.0 && corpus.exists() {
            // What an earlier search learned would make it too easy.
            fs::remove_dir_all(&corpus)?;
        }
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        let seconds = match name == PLANTED.0 {
            true => seconds.max(PLANTED_SECONDS),
            false => seconds,
        };
        let mut command = self.workspace.command(&self.binary, &[]);
        command
            .env("WHARF_FUZZ_TARGET", name)
            .env("WHARF_FUZZ_SEEDS", &corpus);
        command.arg(&corpus).args([
            format!("-max_total_time={seconds}"),
            format!("-max_len={length}"),
            format!("-timeout={HANG_SECONDS}"),
            format!("-rss_limit_mb={MEMORY_MIB}"),
            format!("-malloc_limit_mb={ALLOCATION_MIB}"),
            format!("-artifact_prefix={}/", artifacts.display()),
            "-print_final_stats=1".to_owned(),
            "-use_value_profile=1".to_owned(),
        ]);
        let log = self.workspace.log(&format!("fuzz-{name}"));
        let (mut coverage, mut told) = (None, Vec::new());
        let status = shell::logged(&mut command, &log, |line| {
            coverage = edges(line).or(coverage);
            if line.contains("Test unit written to") {
                told.push(line.to_owned());
            }
        })?;
        let coverage =
            coverage.with_context(|| format!("no coverage is reported; see {}", log.display()))?;
        let found = if status.success() {
            Found::Nothing
        } else {
            Found::Something
        };
        ensure!(
            found == Found::Nothing || !told.is_empty(),
            "it ended with {status} and no input; see {}",
            log.display()
        );
        say(format!(
            "    {name}: {coverage} edges reached, {found:?} found"
        ));
        if found == Found::Something && name != PLANTED.0 {
            shell::show_tail(&log);
            told.iter().for_each(say);
            say(format!(
                "    feed it again: cargo xtask fuzz {name} --input FILE"
            ));
        }
        Ok(found)
    }

    fn feed(&self, name: &str, input: &Path) -> Result<bool> {
        let mut command = self.workspace.command(&self.binary, &[]);
        command.env("WHARF_FUZZ_TARGET", name).arg(input);
        Ok(harness::Group::spawn(&mut command)?.wait()?.success())
    }
}

/// How many edges a line of libFuzzer says were reached (`#512 NEW cov: 87 ft: 91 …`).
fn edges(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once(" cov: ")?;
    rest.split_whitespace()
        .next()?
        .parse()
        .ok()
        .filter(|edges| *edges > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_a_line_are_read() {
        let line = "#2048\tpulse  cov: 4711 ft: 5000 corp: 3/9b lim: 4 exec/s: 1024 rss: 40Mb";
        assert_eq!(edges(line), Some(4711));
        assert_eq!(edges("INFO: seed corpus: files: 3"), None);
        assert_eq!(
            edges("#2\tINITED cov: 0 ft: 0"),
            None,
            "nothing is instrumented"
        );
    }
}

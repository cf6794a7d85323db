//! The parts of the suite: what each needs, starts and runs.
//!
//! Every part gets a node of its own in a fresh data directory; nothing is shared between them but
//! the built binary.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use harness::Launch;

use super::{Outcome, counted};
use crate::shell::{self, say};
use crate::workspace::Workspace;
use crate::{check, setup, tidy};

/// One part of the suite.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) run: fn(&Context<'_>) -> Result<Outcome>,
}

/// All parts, the quick ones first.
pub(super) const PARTS: &[Part] = &[
    Part {
        name: "format",
        about: "rustfmt changes nothing",
        run: |cx| check::format(cx.workspace),
    },
    Part {
        name: "tidy",
        about: "the project's own rules",
        run: |cx| tidy::part(cx.workspace),
    },
    Part {
        name: "clippy",
        about: "no lint speaks up",
        run: |cx| check::clippy(cx.workspace),
    },
    Part {
        name: "deny",
        about: "licences, sources and bans",
        run: |cx| check::deny(cx.workspace),
    },
    Part {
        name: "rust",
        about: "all Rust tests",
        run: rust,
    },
    Part {
        name: "compat/kcat",
        about: "Debian's kcat",
        run: kcat,
    },
    Part {
        name: "compat/confluent-kafka",
        about: "PyPI's confluent-kafka",
        run: |cx| python(cx, "confluent-kafka"),
    },
    Part {
        name: "compat/kafka-python",
        about: "PyPI's kafka-python",
        run: |cx| python(cx, "kafka-python"),
    },
    Part {
        name: "compat/rdkafka",
        about: "the rdkafka crate",
        run: rdkafka,
    },
    Part {
        name: "kill",
        about: "kill -9 under load, restart, check what was promised",
        run: kill,
    },
    Part {
        name: "demo",
        about: "the demo ends with numbers that add up",
        run: demo,
    },
    Part {
        name: "sim",
        about: "seeds of the simulated disk and broker",
        run: sim,
    },
];

/// The names that `--only` takes.
pub(super) fn selector() -> PossibleValuesParser {
    PossibleValuesParser::new(PARTS.iter().map(|part| part.name).chain(["compat"]))
}

/// Whether `name` is among `only`; nothing chosen means everything.
pub(super) fn selected(name: &str, only: &[String]) -> bool {
    let below = |whole: &str| {
        name.strip_prefix(whole)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    only.is_empty() || only.iter().any(|chosen| chosen == name || below(chosen))
}

/// The data directories of a run are below a folder of this name and the process id.
const RUN: &str = "run-";

/// Removes what earlier runs left, but not what one that is still at work uses.
fn remove_runs_that_ended(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(process) = name.strip_prefix(RUN) else {
            continue;
        };
        if !Path::new("/proc").join(process).exists() {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// What the parts share.
pub(crate) struct Context<'a> {
    workspace: &'a Workspace,
    /// Data directories of this run; removed at its end, or at the next start when it failed.
    scratch: PathBuf,
    wharf: OnceCell<PathBuf>,
}

impl<'a> Context<'a> {
    pub(super) fn new(workspace: &'a Workspace) -> Result<Self> {
        remove_runs_that_ended(&workspace.keep(""))?;
        let scratch = workspace.keep(&format!("{RUN}{}", std::process::id()));
        fs::create_dir_all(&scratch)?;
        Ok(Self {
            workspace,
            scratch,
            wharf: OnceCell::new(),
        })
    }

    /// Removes the data directories, unless somebody will want to look at them.
    pub(super) fn clean_up(&self, good: bool) {
        if good {
            // What cannot be removed is in the target directory, where it hurts nobody.
            fs::remove_dir_all(&self.scratch).ok();
        } else {
            say(format!(
                "Data and logs are kept until the next run: {}",
                self.scratch.display()
            ));
        }
    }

    /// The binary under test, built once.
    fn wharf(&self) -> Result<&Path> {
        if let Some(built) = self.wharf.get() {
            return Ok(built);
        }
        let built = self.workspace.build_all("wharf")?;
        Ok(self.wharf.get_or_init(|| built))
    }

    /// Runs a client's cases against a fresh node, given by its address as the last argument, and
    /// counts whether the node stopped cleanly afterwards as one more case.
    fn against_a_node(&self, name: &str, mut command: Command) -> Result<Outcome> {
        let log = self.workspace.log(name);
        let data = self.scratch.join(name.replace('/', "-"));
        let server_log = data.with_extension("server.log");
        let mut launch = Launch::new(self.wharf()?, &data, &server_log);
        let config = self.workspace.root.join("compat/wharf.toml");
        launch.arguments = vec!["--config".to_owned(), config.display().to_string()];
        let node = launch.start()?;
        command.arg(&node.kafka);
        let mut outcome = counted(self.workspace, &log, command)?;
        match node.stop() {
            Ok(()) => outcome.passed += 1,
            Err(error) => {
                say(format!("    {error:#}"));
                outcome.failed += 1;
            }
        }
        if outcome.failed > 0 {
            shell::show_tail(&server_log);
        }
        Ok(outcome)
    }
}

fn rust(cx: &Context<'_>) -> Result<Outcome> {
    let command = cx
        .workspace
        .cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]);
    counted(cx.workspace, &cx.workspace.log("rust"), command)
}

fn kcat(cx: &Context<'_>) -> Result<Outcome> {
    if let Err(error) = setup::debian(cx.workspace, "kcat", "kcat") {
        return Ok(Outcome::skipped(format!("{error:#}")));
    }
    let command = cx.workspace.command("python3", &["compat/kcat/run.py"]);
    cx.against_a_node("compat/kcat", command)
}

fn python(cx: &Context<'_>, client: &str) -> Result<Outcome> {
    let interpreter = match setup::python(cx.workspace) {
        Ok(interpreter) => interpreter,
        Err(error) => return Ok(Outcome::skipped(format!("{error:#}"))),
    };
    let command = cx
        .workspace
        .command(interpreter, &[&format!("compat/{client}/run.py")]);
    cx.against_a_node(&format!("compat/{client}"), command)
}

fn rdkafka(cx: &Context<'_>) -> Result<Outcome> {
    let binary = cx.workspace.build_all("compat-rdkafka")?;
    cx.against_a_node("compat/rdkafka", cx.workspace.command(binary, &[]))
}

fn kill(cx: &Context<'_>) -> Result<Outcome> {
    let binary = cx.workspace.build_all("kill-test")?;
    let mut command = cx.workspace.command(binary, &[]);
    command
        .arg("--wharf")
        .arg(cx.wharf()?)
        .arg("--scratch")
        .arg(cx.scratch.join("kill"));
    counted(cx.workspace, &cx.workspace.log("kill"), command)
}

/// The demo's own exit code says whether its numbers add up.
fn demo(cx: &Context<'_>) -> Result<Outcome> {
    let mut command = cx
        .workspace
        .command(cx.wharf()?, &["demo", "--orders", "500", "--for", "2m"]);
    command.arg("--keep").arg(cx.scratch.join("demo"));
    let log = cx.workspace.log("demo");
    let good = shell::logged(&mut command, &log, |_| {})?.success();
    if !good {
        shell::show_tail(&log);
    }
    Ok(Outcome::of(usize::from(good), usize::from(!good)))
}

/// Other seeds than the Rust tests take, from an unoptimised build that is there anyway.
fn sim(cx: &Context<'_>) -> Result<Outcome> {
    let binary = cx.workspace.build_all("wharf-sim")?;
    let command = cx
        .workspace
        .command(binary, &["--from", "100000", "--seeds", "200"]);
    counted(cx.workspace, &cx.workspace.log("sim"), command)
}

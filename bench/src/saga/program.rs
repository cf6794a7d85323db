//! A worker or a client in another language: a process that answers every line of its standard input
//! with a line of JSON.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use harness::Group;
use serde_json::Value;

/// How long it may take to say that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// See the module; killed when dropped.
pub(super) struct Program {
    group: Group,
    input: ChildStdin,
    lines: Receiver<String>,
    log: String,
}

impl Program {
    /// Starts it and waits for its first line. What it says on the standard error goes to `log`.
    pub(super) fn start(command: &mut Command, log: &Path) -> Result<(Self, Value)> {
        let errors = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut group = Group::spawn(command.stderr(errors))?;
        let input = group.child().stdin.take().context("the input is piped")?;
        let output = group.child().stdout.take().context("the output is piped")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                // Libraries say other things there, too.
                if !line.starts_with('{') {
                    continue;
                }
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut program = Self {
            group,
            input,
            lines,
            log: log.display().to_string(),
        };
        let first = program.answer(READY_WITHIN)?;
        Ok((program, first))
    }

    /// Its answer to a line.
    pub(super) fn ask(&mut self, line: &Value, patience: Duration) -> Result<Value> {
        writeln!(self.input, "{line}")?;
        self.input.flush()?;
        let answer = self.answer(patience)?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{error}");
        }
        Ok(answer)
    }

    fn answer(&mut self, patience: Duration) -> Result<Value> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => {
                serde_json::from_str(&line).with_context(|| format!("it said no JSON: {line}"))
            }
            Err(_) => match self.group.ended()? {
                Some(status) => bail!("it ended ({status}): {}", last_line(&self.log)),
                None => bail!("no answer within {patience:?}"),
            },
        }
    }
}

fn last_line(log: &str) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or("it said nothing").trim();
    line.chars().take(200).collect()
}

//! The user's commands: with the names of the run put in, and never waited for without end.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use wharf_server::Problem;

use super::process::check_interrupt;

/// What a probe may print.
const PRINTED_BYTES_MAX: u64 = 64 << 20;
const PAUSE: Duration = Duration::from_millis(5);

/// What a run's topic, group and so on are called.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) broker: String,
    pub(super) topic: String,
    pub(super) group: String,
    pub(super) run: String,
}

impl Names {
    fn pairs(&self) -> [(&'static str, &'static str, &str); 4] {
        [
            ("{broker}", "WHARF_BROKER", &self.broker),
            ("{topic}", "WHARF_TOPIC", &self.topic),
            ("{group}", "WHARF_GROUP", &self.group),
            ("{run}", "WHARF_RUN", &self.run),
        ]
    }

    /// The text with the names in the place of their placeholders.
    pub(super) fn put_in(&self, text: &str) -> String {
        let pairs = self.pairs().into_iter();
        pairs.fold(text.to_owned(), |text, (placeholder, _, name)| {
            text.replace(placeholder, name)
        })
    }

    /// The text with the run's name out of it again: effects of one run are compared with those of
    /// another.
    pub(super) fn take_out(&self, text: &str) -> String {
        text.replace(&self.run, "{run}")
    }

    /// A command of the user's, for the shell.
    pub(super) fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(self.put_in(line))
            .stdin(Stdio::null());
        command.envs(self.pairs().map(|(_, variable, name)| (variable, name)));
        command
    }
}

/// Runs a command to its end and answers what it printed.
pub(super) fn printed(
    names: &Names,
    option: &str,
    line: &str,
    scratch: &Path,
    patience: Duration,
) -> Result<String> {
    let (out, err) = (scratch.join("command.out"), scratch.join("command.err"));
    let mut command = names.command(line);
    command
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?);
    let mut child = command
        .spawn()
        .with_context(|| format!("{option} cannot be started"))?;
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Err(interrupted) = check_interrupt() {
            child.kill().ok();
            child.wait()?;
            return Err(interrupted);
        }
        if Instant::now() > deadline {
            child.kill().ok();
            child.wait()?;
            return Err(Problem::plain(
                format!(
                    "{option} did not end within {}",
                    humantime::format_duration(patience)
                ),
                names.put_in(line),
                "mend the command, or give it more time by --patience",
            )
            .into());
        }
        thread::park_timeout(PAUSE);
    };
    if !status.success() {
        return Err(Problem::plain(
            format!("{option} failed: {status}"),
            format!("{}\n{}", names.put_in(line), tail(&err)),
            "mend the command; it runs in the current directory, by sh -c",
        )
        .into());
    }
    let mut text = Vec::new();
    File::open(&out)?
        .take(PRINTED_BYTES_MAX)
        .read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The end of a file, as far as it is text.
pub(super) fn tail(path: &Path) -> String {
    const LINES: usize = 15;
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            broker: "b:1".to_owned(),
            topic: "t".to_owned(),
            group: "g".to_owned(),
            run: "r".to_owned(),
        }
    }

    fn run(line: &str, patience: Duration) -> Result<String> {
        let scratch = tempfile::tempdir().unwrap();
        printed(&names(), "--probe", line, scratch.path(), patience)
    }

    #[test]
    fn a_command_gets_the_names_in_its_line_and_in_its_environment() {
        let line = "echo {topic} {group} {broker} {run} $WHARF_TOPIC $WHARF_GROUP $WHARF_BROKER $WHARF_RUN";
        assert_eq!(
            run(line, Duration::from_secs(30)).unwrap(),
            "t g b:1 r t g b:1 r\n"
        );
    }

    #[test]
    fn a_command_that_fails_or_does_not_end_is_told() {
        let failed = run("echo oops >&2; exit 3", Duration::from_secs(30)).unwrap_err();
        let problem = failed.downcast_ref::<Problem>().unwrap();
        assert!(
            problem.what.contains("exit status: 3") && problem.why.contains("oops"),
            "{problem:?}"
        );
        let late = run("exec tail -f /dev/null", Duration::from_millis(50)).unwrap_err();
        assert!(
            late.downcast_ref::<Problem>()
                .unwrap()
                .what
                .contains("did not end"),
            "{late:?}"
        );
    }
}

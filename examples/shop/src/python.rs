//! The notification service in Python: found, started, listened to, stopped.
//!
//! The script is part of this crate, so a binary needs no file beside it. What the script did counts
//! only by what it reports and by what the broker says. It must never outlive the shop: it ends when
//! its standard input does, which is also when this process is gone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::tally::{ServiceTally, Tally};

const SCRIPT: &str = include_str!("../python/notification.py");
/// How long it may take to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much of what it said last is repeated when it fails, in bytes.
const SAID_MAX: usize = 2_000;

/// A Python that can run the notification service.
#[derive(Clone, Debug)]
pub struct Python {
    interpreter: PathBuf,
    /// Where the script, its database and its log are.
    folder: PathBuf,
}

impl Python {
    /// Looks whether `interpreter` has what the service needs, and puts the script into `folder`,
    /// which exists. Fails with what to install.
    pub async fn prepare(interpreter: &Path, folder: &Path) -> anyhow::Result<Self> {
        let name = interpreter.display();
        let look = Command::new(interpreter)
            .args(["-c", "import confluent_kafka"])
            .stdin(Stdio::null())
            .output()
            .await;
        let looked = look.with_context(|| {
            format!(
                "{name} cannot be started; install Python 3 (Debian: apt-get install python3 \
                 python3-venv), or name an interpreter with --python-with"
            )
        })?;
        if !looked.status.success() {
            bail!(
                "{name} cannot import confluent_kafka; install it for that interpreter \
                 ({name} -m pip install confluent-kafka), or give the service an environment of \
                 its own:\n\n  python3 -m venv shop-venv\n  shop-venv/bin/pip install \
                 confluent-kafka\n  wharf demo --python-with shop-venv/bin/python\n\n{}",
                tail(&String::from_utf8_lossy(&looked.stderr))
            );
        }
        fs::write(folder.join("notification.py"), SCRIPT)?;
        Ok(Self {
            interpreter: interpreter.to_owned(),
            folder: folder.to_owned(),
        })
    }

    fn start(&self, broker: &str, run: &str) -> anyhow::Result<Child> {
        let log = File::create(self.log())?;
        let child = Command::new(&self.interpreter)
            .arg(self.folder.join("notification.py"))
            .args([broker, run])
            .arg(self.folder.join("notifications.sqlite"))
            // They are for the duplicate-delivery test.
            .env_remove("WHARF_GROUP")
            .env_remove("WHARF_TOPIC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is for the shop, which lets the services finish.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(child)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("notification.log")
    }

    /// Runs the service until `stop` turns true, and lets it finish what it has begun.
    pub(crate) async fn serve(
        &self,
        broker: &str,
        run: &str,
        counts: Counts,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let mut child = self.start(broker, run)?;
        let mut stdin = child.stdin.take();
        let stdout = child.stdout.take().context("its output is a pipe")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut deadline = None;
        loop {
            tokio::select! {
                line = lines.next_line() => match line? {
                    Some(line) => counts.note(&line)?,
                    None => break,
                },
                _ = stop.wait_for(|stop| *stop), if stdin.is_some() => {
                    stdin = None;
                    deadline = Some(Instant::now() + PATIENCE);
                }
                () = at(deadline) => bail!("the notification service in Python did not end within {PATIENCE:?}"),
            }
        }
        let deadline = deadline.unwrap_or_else(|| Instant::now() + PATIENCE);
        let status = timeout_at(deadline, child.wait()).await??;
        if stdin.is_some() || !status.success() {
            let said = fs::read_to_string(self.log()).unwrap_or_default();
            bail!(
                "the notification service in Python ended ({status}):\n{}",
                tail(&said)
            );
        }
        Ok(())
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The last lines, as far as they fit.
fn tail(text: &str) -> &str {
    let text = text.trim_end();
    let mut from = text.len().saturating_sub(SAID_MAX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// Where its work is counted.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    pub(crate) tally: std::sync::Arc<Tally>,
    pub(crate) service: std::sync::Arc<ServiceTally>,
}

/// What became of one message.
#[derive(Debug, Deserialize)]
struct Report {
    did: Did,
    millis: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Did {
    Notified,
    Repeat,
    #[serde(rename = "set aside")]
    SetAside,
    #[serde(rename = "left alone")]
    LeftAlone,
}

impl Counts {
    fn note(&self, line: &str) -> anyhow::Result<()> {
        let report: Report = serde_json::from_str(line)
            .with_context(|| format!("the notification service in Python reported {line:?}"))?;
        self.service.received.add(1);
        match report.did {
            Did::Notified => self.tally.notified.add(1),
            Did::Repeat => self.service.suppressed.add(1),
            Did::SetAside => self.service.set_aside.add(1),
            Did::LeftAlone => {
                self.service.leftover.add(1);
                return Ok(());
            }
        }
        self.service
            .arrived_after(Duration::from_millis(report.millis));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn every_kind_of_report_is_counted_and_others_are_refused() {
        let counts = Counts {
            tally: Arc::default(),
            service: Arc::new(ServiceTally::new("notification")),
        };
        for did in ["notified", "notified", "repeat", "set aside", "left alone"] {
            let line = format!(r#"{{"did":"{did}","customer":"c","millis":3}}"#);
            counts.note(&line).expect(did);
        }
        let view = counts.service.view();
        assert_eq!(counts.tally.notified.get(), 2);
        assert_eq!((view.received, view.suppressed), (5, 1));
        assert_eq!((view.set_aside, view.leftover), (1, 1));
        for line in ["", "Traceback", r#"{"did":"slept","millis":1}"#] {
            assert!(counts.note(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_tail_ends_where_the_text_does() {
        assert_eq!(tail("one\ntwo\n"), "one\ntwo");
        let long = "ä".repeat(SAID_MAX);
        assert!(tail(&long).len() <= SAID_MAX && long.ends_with(tail(&long)));
    }
}

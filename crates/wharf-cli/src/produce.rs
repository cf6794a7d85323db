//! `wharf produce`: lines from stdin or a file into a topic.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use rdkafka::message::{Header, OwnedHeaders};

use crate::cli::Outcome;
use crate::client::{Connection, pair};
use crate::deliver::{Receipts, Record, Sender};
use crate::{output, pace};

/// The longest line read; a topic's own limit is usually far below.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Send messages: one per line of stdin or a file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echo 'hello' | wharf produce greetings
  wharf produce orders --key-separator : < orders.txt
  wharf produce orders --key 42 -H source=import -H tenant=acme --file order.json --whole
  seq 100000 | wharf produce numbers --rate 5000")]
pub(crate) struct Produce {
    /// The topic
    topic: String,
    /// Read this file instead of stdin
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The whole input is one message
    #[arg(long)]
    whole: bool,
    /// The key of every message
    #[arg(short, long, conflicts_with = "key_separator")]
    key: Option<String>,
    /// Each line is KEY, this separator, VALUE
    #[arg(short = 'K', long, value_name = "TEXT", conflicts_with = "whole")]
    key_separator: Option<String>,
    /// A header of every message, may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = pair)]
    headers: Vec<(String, String)>,
    /// Always this partition [default: by key, or spread]
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// At most so many messages per second
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// How the messages are compressed [default: none]
    #[arg(short = 'z', long, value_enum)]
    compression: Option<Compression>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Receipts for Count {
    fn acknowledged(&self, _number: usize, _partition: i32) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Produce {
    /// Runs `wharf produce`.
    pub(crate) fn run(&self) -> anyhow::Result<Outcome> {
        let input: Box<dyn Read> = match &self.file {
            Some(path) => Box::new(
                File::open(path).with_context(|| format!("{} cannot be read", path.display()))?,
            ),
            None => Box::new(io::stdin()),
        };
        let count = Arc::new(Count::default());
        let compression = self
            .compression
            .and_then(|chosen| chosen.to_possible_value());
        let required = compression
            .as_ref()
            .map(|chosen| ("compression.type", chosen.get_name()));
        let required: Vec<_> = required.into_iter().collect();
        let sender = Sender::open(&self.connection, Arc::clone(&count), &[], &required)?;
        let sent = self
            .send(&sender, BufReader::new(input))
            .and_then(|()| sender.finish(&self.connection));
        let acknowledged = count.0.load(Ordering::Relaxed);
        output::note(&format!("{acknowledged} messages acknowledged"))?;
        sent.map(|()| Outcome::Done)
    }

    fn send(&self, sender: &Sender<Count>, mut input: impl BufRead) -> anyhow::Result<()> {
        let mut pace = self.rate.map(|rate| pace::Pace::new(rate.into()));
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            let mut limited = input.by_ref().take(LINE_BYTES_MAX);
            let read = if self.whole {
                limited.read_to_end(&mut line)
            } else {
                limited.read_until(b'\n', &mut line)
            };
            let read = read.context("the input cannot be read")?;
            anyhow::ensure!(
                u64::try_from(read)? < LINE_BYTES_MAX,
                "message {} is longer than {LINE_BYTES_MAX} bytes",
                number + 1
            );
            if read == 0 && !(self.whole && number == 0) {
                return Ok(());
            }
            let content = if self.whole {
                line.as_slice()
            } else {
                without_line_ending(&line)
            };
            if let Some(pace) = &mut pace {
                pace.wait();
            }
            self.send_one(sender, content, number)?;
            number += 1;
            if self.whole {
                return Ok(());
            }
        }
    }

    fn send_one(
        &self,
        sender: &Sender<Count>,
        content: &[u8],
        number: usize,
    ) -> anyhow::Result<()> {
        let (key, value) = match &self.key_separator {
            Some(separator) => split(content, separator.as_bytes()).with_context(|| {
                format!("line {} has no key separator {separator:?}", number + 1)
            })?,
            None => (self.key.as_ref().map(String::as_bytes), content),
        };
        let mut record = Record::with_opaque_to(&self.topic, number).payload(value);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        if !self.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(self.headers.len());
            for (key, value) in &self.headers {
                headers = headers.insert(Header {
                    key,
                    value: Some(value),
                });
            }
            record = record.headers(headers);
        }
        sender.send(record, &self.connection)
    }
}

fn split<'a>(line: &'a [u8], separator: &[u8]) -> Option<(Option<&'a [u8]>, &'a [u8])> {
    if separator.is_empty() {
        return None;
    }
    let at = line
        .windows(separator.len())
        .position(|window| window == separator)?;
    let (key, rest) = line.split_at(at);
    Some((Some(key), rest.get(separator.len()..).unwrap_or_default()))
}

/// A line without its own ending, `\n` or `\r\n`; other white space stays.
fn without_line_ending(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_at_the_first_separator() {
        assert_eq!(
            split(b"a::b::c", b"::"),
            Some((Some(&b"a"[..]), &b"b::c"[..]))
        );
        assert_eq!(split(b"abc", b":"), None);
        assert_eq!(without_line_ending(b"x \r\n"), b"x ");
    }
}

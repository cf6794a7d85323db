//! What the machine allows: synced writes into a file that is already there in full, which is how
//! the journal writes; `sendfile` over loopback, which is the quickest way to hand out a file; and
//! the client against a cluster that it plays itself.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::report::number;

const FILE_BYTES: u64 = 64 << 20;
const SMALL: usize = 4 << 10;
const LARGE: usize = 1 << 20;
const SMALL_WRITES: u64 = 1500;
const LARGE_WRITES: u64 = 384;
/// What goes over loopback in one measurement, and in how many pieces.
const SENT_BYTES: u64 = 2 << 30;

/// The limits of the disk and of loopback.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Limits {
    pub(crate) sync_p50_micros: f64,
    pub(crate) sync_p99_micros: f64,
    /// Synced writes of 1 MiB.
    pub(crate) disk_megabytes_per_second: f64,
    pub(crate) sendfile_megabytes_per_second: f64,
}

impl Limits {
    /// The mean of two measurements: before and after what is compared with them.
    pub(crate) fn and(self, other: Self) -> Self {
        let mean = |of: fn(&Self) -> f64| f64::midpoint(of(&self), of(&other));
        Self {
            sync_p50_micros: mean(|limits| limits.sync_p50_micros),
            sync_p99_micros: mean(|limits| limits.sync_p99_micros),
            disk_megabytes_per_second: mean(|limits| limits.disk_megabytes_per_second),
            sendfile_megabytes_per_second: mean(|limits| limits.sendfile_megabytes_per_second),
        }
    }
}

/// Measures the disk that holds `folder`, and loopback.
pub(crate) fn measure(folder: &Path) -> Result<Limits> {
    let path = folder.join("limits");
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&path)?;
    let zeroes = vec![0; LARGE];
    for at in (0..FILE_BYTES).step_by(LARGE) {
        file.write_all_at(&zeroes, at)?;
    }
    file.sync_all()?;
    let small = synced_writes(&file, &[1; SMALL], SMALL_WRITES)?;
    let began = Instant::now();
    synced_writes(&file, &vec![2; LARGE], LARGE_WRITES)?;
    let written = LARGE_WRITES as f64 * LARGE as f64 / 1e6;
    let took = began.elapsed().as_secs_f64();
    let sendfile = sendfile(&file)?;
    drop(file);
    std::fs::remove_file(path)?;
    Ok(Limits {
        sync_p50_micros: small.value_at_quantile(0.5) as f64 / 1e3,
        sync_p99_micros: small.value_at_quantile(0.99) as f64 / 1e3,
        disk_megabytes_per_second: written / took,
        sendfile_megabytes_per_second: sendfile,
    })
}

/// Writes `count` times one after the other, from the beginning again at the end of the file.
fn synced_writes(file: &File, bytes: &[u8], count: u64) -> Result<Histogram<u64>> {
    let mut durations = Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?;
    let length = bytes.len() as u64;
    for number in 0..count {
        let began = Instant::now();
        file.write_all_at(bytes, number * length % FILE_BYTES)?;
        file.sync_data()?;
        durations.record(u64::try_from(began.elapsed().as_nanos())?)?;
    }
    Ok(durations)
}

/// Sends the file over loopback again and again, to a reader that forgets what it gets. MB/s.
fn sendfile(file: &File) -> Result<f64> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let reading = thread::spawn(move || -> Result<u64> {
        let (mut stream, _) = listener.accept()?;
        let (mut buffer, mut total) = (vec![0; LARGE], 0);
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(total),
                bytes => total += bytes as u64,
            }
        }
    });
    let stream = TcpStream::connect(address)?;
    let began = Instant::now();
    let mut sent = 0;
    while sent < SENT_BYTES {
        let mut at = sent % FILE_BYTES;
        let rest = usize::try_from(FILE_BYTES - at)?.min(LARGE);
        sent += rustix::fs::sendfile(&stream, file, Some(&mut at), rest)? as u64;
    }
    drop(stream);
    let read = reading
        .join()
        .map_err(|panic| anyhow!("the reader panicked: {panic:?}"))??;
    Ok(read as f64 / 1e6 / began.elapsed().as_secs_f64())
}

/// What machine this is, for the page.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = number(self.memory_gib);
        write!(
            formatter,
            "{}, {} cores, {memory} GiB, Linux {}, {}",
            self.processor, self.cores, self.kernel, self.file_system
        )
    }
}

impl Machine {
    /// This machine; `folder` is on the disk that is measured.
    pub(crate) fn here(folder: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kibibytes = memory.split_whitespace().next();
        let kibibytes: f64 = kibibytes.and_then(|text| text.parse().ok()).unwrap_or(0.0);
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kibibytes / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            file_system: file_system(&read("/proc/mounts"), folder),
        }
    }
}

/// The type of the file system that holds `folder`: the one mounted at its longest prefix.
fn file_system(mounts: &str, folder: &Path) -> String {
    let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (at, kind) = (fields.next()?, fields.next()?);
            folder.starts_with(at).then_some((at.len(), kind))
        })
        .max_by_key(|(length, _)| *length)
        .map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// Writes out what the page cache still holds, so that nobody pays for what another one wrote.
pub(crate) fn write_out(folder: &Path) -> Result<()> {
    rustix::fs::syncfs(File::open(folder)?)?;
    Ok(())
}

/// The length of one measurement, in seconds.
pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_have_a_mean() {
        let limits = |value| Limits {
            sync_p50_micros: value,
            sync_p99_micros: value * 2.0,
            disk_megabytes_per_second: value,
            sendfile_megabytes_per_second: value,
        };
        let mean = limits(50.0).and(limits(70.0));
        assert!((mean.sync_p50_micros - 60.0).abs() < 1e-9);
        assert!((mean.sync_p99_micros - 120.0).abs() < 1e-9);
    }

    #[test]
    fn the_file_system_is_that_of_the_longest_prefix() {
        let mounts = "a / ext4 rw 0 0\nb /proc proc rw 0 0\nc /tmp tmpfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/nowhere/x")), "ext4");
        assert_eq!(file_system(mounts, Path::new("/tmp")), "tmpfs");
    }
}

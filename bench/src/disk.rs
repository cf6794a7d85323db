//! What the disk itself allows: synced writes into a file that is already there in full, which is
//! how the journal writes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Spread;

const FILE_BYTES: u64 = 64 << 20;
const SMALL: usize = 4 << 10;
const LARGE: usize = 1 << 20;
const SMALL_WRITES: u64 = 1000;
const LARGE_WRITES: u64 = 256;

/// The limits of one disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) sync_p50: Duration,
    pub(crate) sync_p99: Duration,
    pub(crate) megabytes_per_second: f64,
}

/// Measures the disk that holds `folder`.
pub(crate) fn measure(folder: &Path) -> Result<Limits> {
    let path = folder.join("disk");
    let file = OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)?;
    let zeroes = vec![0; LARGE];
    for at in (0..FILE_BYTES).step_by(LARGE) {
        file.write_all_at(&zeroes, at)?;
    }
    file.sync_all()?;

    let durations = synced_writes(&file, &[1; SMALL], SMALL_WRITES)?;
    let spread = Spread::of(durations);
    let began = Instant::now();
    synced_writes(&file, &vec![2; LARGE], LARGE_WRITES)?;
    let written = LARGE_WRITES as f64 * LARGE as f64;
    let megabytes_per_second = written / 1e6 / began.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(path)?;
    Ok(Limits {
        sync_p50: spread.p50,
        sync_p99: spread.p99,
        megabytes_per_second,
    })
}

/// Writes `count` times one after the other, from the beginning again at the end of the file.
fn synced_writes(file: &File, bytes: &[u8], count: u64) -> Result<Vec<Duration>> {
    let length = bytes.len() as u64;
    (0..count)
        .map(|number| {
            let began = Instant::now();
            file.write_all_at(bytes, number * length % FILE_BYTES)?;
            file.sync_data()?;
            Ok(began.elapsed())
        })
        .collect()
}

//! How long the disk takes, measured around the real one: the log itself reads no clock.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use wharf_log::disk::{Disk, DiskFile, Entry, Open};

/// The disk's metrics. Clones count into the same ones.
#[derive(Clone, Debug)]
pub(crate) struct DiskMetrics {
    sync_seconds: Histogram,
    written_bytes: Counter,
    read_bytes: Counter,
}

impl DiskMetrics {
    /// The metrics, registered.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            // From 10 µs to about 5 s.
            sync_seconds: Histogram::new(exponential_buckets(0.000_01, 2.0, 20)),
            written_bytes: Counter::default(),
            read_bytes: Counter::default(),
        };
        let registry = registry.sub_registry_with_prefix("disk");
        let Self {
            sync_seconds,
            written_bytes,
            read_bytes,
        } = metrics.clone();
        let help = "Syncs of files, each as long as it took";
        registry.register_with_unit("sync", help, Unit::Seconds, sync_seconds);
        let bytes = || Unit::Bytes;
        registry.register_with_unit("written", "Written to files", bytes(), written_bytes);
        registry.register_with_unit("read", "Read from files", bytes(), read_bytes);
        metrics
    }
}

/// A disk whose files are measured. Changes nothing else.
pub(crate) struct MeasuredDisk {
    disk: Arc<dyn Disk>,
    metrics: DiskMetrics,
}

impl MeasuredDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>, metrics: DiskMetrics) -> Self {
        Self { disk, metrics }
    }
}

impl Disk for MeasuredDisk {
    fn open(&self, path: &str, mode: Open) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(MeasuredFile {
            file,
            metrics: self.metrics.clone(),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        self.disk.list(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
}

struct MeasuredFile {
    file: Arc<dyn DiskFile>,
    metrics: DiskMetrics,
}

impl DiskFile for MeasuredFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.file.read_at(buffer, offset)?;
        self.metrics.read_bytes.inc_by(bytes as u64);
        Ok(bytes)
    }

    fn read(&self, bytes: usize, offset: u64) -> io::Result<Bytes> {
        let read = self.file.read(bytes, offset)?;
        self.metrics.read_bytes.inc_by(read.len() as u64);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)?;
        self.metrics.written_bytes.inc_by(bytes.len() as u64);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let started = Instant::now();
        self.file.sync()?;
        self.metrics
            .sync_seconds
            .observe(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.file.preallocate(bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

//! A small file system in memory, unmounted when it is dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A mounted file system.
#[derive(Debug)]
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts one of so many bytes at `folder`.
    pub fn of(folder: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(folder)
            .output()
            .context("failed to run mount")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(Self(folder.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // What cannot be unmounted is told by the next run's failure to remove the folder.
        Command::new("umount").arg(&self.0).status().ok();
    }
}

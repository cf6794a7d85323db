//! The data directory: whose it is, in which format, and that one process has it.
//!
//! The lock is the kernel's and dies with the process; the file `LOCK` only carries the name of
//! the holder for others to read. The marker `wharf.json` is written once, whole, before anything
//! else; a directory with other files and without it is never touched.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wharf_message::Code;

use crate::Problem;

/// The format this version writes and the only one it reads.
const FORMAT: u32 = 1;
const LOCK: &str = "LOCK";
const MARKER: &str = "wharf.json";
const MARKER_NEW: &str = "wharf.json.new";
/// What an otherwise empty directory may hold: our own first steps, and a fresh file system's.
const HARMLESS: &[&str] = &[LOCK, MARKER_NEW, "lost+found"];

/// A data directory that is ours as long as `lock` is open.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    pub(crate) path: PathBuf,
    pub(crate) cluster_id: String,
    pub(crate) lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Marker {
    format: u32,
    cluster_id: String,
}

/// What every format of the marker has.
#[derive(Debug, Deserialize)]
struct Version {
    format: u32,
}

impl DataDirectory {
    /// Locks `path`, creating it when missing. `new_cluster_id` names a new directory's cluster.
    pub(crate) fn open(path: &Path, new_cluster_id: &str) -> Result<Self, Problem> {
        let failed = |error: io::Error| unusable(path, &error);
        let marker_path = path.join(MARKER);
        fs::create_dir_all(path).map_err(failed)?;
        let marked = marker_path.try_exists().map_err(failed)?;
        if !marked {
            refuse_foreign(path)?;
        }
        let lock = lock(path)?;
        // Only the holder of the lock decides that there is no marker yet.
        let marker = if marker_path.try_exists().map_err(failed)? {
            read_marker(&marker_path)?
        } else {
            let marker = Marker {
                format: FORMAT,
                cluster_id: new_cluster_id.to_owned(),
            };
            write_marker(path, &marker).map_err(failed)?;
            marker
        };
        let path = fs::canonicalize(path).map_err(failed)?;
        Ok(Self {
            path,
            cluster_id: marker.cluster_id,
            lock,
        })
    }
}

fn unusable(path: &Path, error: &io::Error) -> Problem {
    Problem::plain(
        format!("the data directory {} cannot be used", path.display()),
        error.to_string(),
        "check the path and its permissions, or give another one with --data",
    )
}

/// Without a marker, anything but an empty directory is somebody else's.
fn refuse_foreign(path: &Path) -> Result<(), Problem> {
    for entry in fs::read_dir(path).map_err(|error| unusable(path, &error))? {
        let name = entry.map_err(|error| unusable(path, &error))?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            return Err(Problem::new(
                Code::DATA_DIRECTORY_FOREIGN,
                format!("{} is not a data directory of Wharf's", path.display()),
                format!("it holds {} and has no {MARKER}", name.display()),
                "give an empty or a new directory with --data",
            ));
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, Problem> {
    let failed = |error: io::Error| unusable(path, &error);
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join(LOCK))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(failed(error)),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Who holds it is told on a best-effort basis; that it is held is certain.
            let known = (&file).take(32).read_to_string(&mut holder).is_ok();
            let holder = holder.trim();
            let who = match known && !holder.is_empty() {
                true => format!("process {holder}"),
                false => "another process".to_owned(),
            };
            return Err(Problem::new(
                Code::DATA_DIRECTORY_LOCKED,
                format!("the data directory {} is in use", path.display()),
                format!("{who} holds the lock on it"),
                "stop that process, or give this node a directory of its own with --data",
            ));
        }
    }
    let name_holder = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    name_holder(&mut file).map_err(failed)?;
    Ok(file)
}

fn read_marker(path: &Path) -> Result<Marker, Problem> {
    let bytes = fs::read(path).map_err(|error| unusable(path, &error))?;
    let unreadable = |error: serde_json::Error| {
        Problem::new(
            Code::DISK_FORMAT_UNSUPPORTED,
            format!("{} cannot be read", path.display()),
            error.to_string(),
            "restore the data directory from a backup; the file is never to be made up",
        )
    };
    let Version { format } = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if format != FORMAT {
        return Err(Problem::new(
            Code::DISK_FORMAT_UNSUPPORTED,
            format!("the data directory has format {format}"),
            format!(
                "{} says so, and this version reads format {FORMAT}",
                path.display()
            ),
            "run the version of Wharf that wrote it, or a later one",
        ));
    }
    serde_json::from_slice(&bytes).map_err(unreadable)
}

/// Writes the marker so that it is there whole or not at all.
fn write_marker(path: &Path, marker: &Marker) -> io::Result<()> {
    let new = path.join(MARKER_NEW);
    let mut file = File::create(&new)?;
    serde_json::to_writer(&file, marker)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&new, path.join(MARKER))?;
    File::open(path)?.sync_all()?;
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(path: &Path) -> Option<Code> {
        DataDirectory::open(path, "other").unwrap_err().code
    }

    #[test]
    fn a_directory_keeps_its_cluster_id_and_is_held_by_one_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new").join("deep");
        let first = DataDirectory::open(&path, "first").unwrap();
        let problem = DataDirectory::open(&path, "second").unwrap_err();
        assert_eq!(problem.code, Some(Code::DATA_DIRECTORY_LOCKED));
        assert!(
            problem.why.contains(&std::process::id().to_string()),
            "{problem}"
        );
        drop(first);
        assert_eq!(
            DataDirectory::open(&path, "third").unwrap().cluster_id,
            "first"
        );
    }

    #[test]
    fn a_directory_with_other_files_is_not_touched() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis.tex"), "").unwrap();
        assert_eq!(code(root.path()), Some(Code::DATA_DIRECTORY_FOREIGN));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_start_that_died_before_the_marker_can_be_repeated() {
        let root = tempfile::tempdir().unwrap();
        for name in HARMLESS {
            fs::write(root.path().join(name), "torn").unwrap();
        }
        assert_eq!(
            DataDirectory::open(root.path(), "new").unwrap().cluster_id,
            "new"
        );
    }

    #[test]
    fn another_format_and_a_broken_marker_are_refused() {
        let root = tempfile::tempdir().unwrap();
        for text in ["{\"format\":2}", "{\"format\":1}", "{}", "", "[]"] {
            fs::write(root.path().join(MARKER), text).unwrap();
            assert_eq!(
                code(root.path()),
                Some(Code::DISK_FORMAT_UNSUPPORTED),
                "{text}"
            );
        }
    }
}

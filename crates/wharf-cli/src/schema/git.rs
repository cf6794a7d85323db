//! Files as they were at a git revision. Only `git` is asked, and only to read.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::cli::Usage;

/// A revision of the repository that a directory is in.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    top: PathBuf,
    name: String,
    commit: String,
}

impl Revision {
    /// Finds it. A revision that git does not know is an error of usage.
    pub(crate) fn find(directory: &Path, name: &str) -> anyhow::Result<Self> {
        let top = git(directory, &["rev-parse", "--show-toplevel"])?.ok_or_else(|| {
            Usage(format!(
                "{} is in no git repository, so there is nothing to compare with",
                directory.display()
            ))
        })?;
        let wanted = format!("{name}^{{commit}}");
        let arguments = [
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &wanted,
        ];
        let commit = git(directory, &arguments)?
            .ok_or_else(|| Usage(format!("git knows no revision {name:?}")))?;
        Ok(Self {
            top: PathBuf::from(top.trim_end()),
            name: name.to_owned(),
            commit: commit.trim_end().to_owned(),
        })
    }

    /// As it was asked for.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The text of a file there; none if there was no such file.
    pub(crate) fn read(&self, path: &Path) -> anyhow::Result<Option<String>> {
        let Some(inside) = self.inside(path)? else {
            return Ok(None);
        };
        git(&self.top, &["show", &format!("{}:{inside}", self.commit)])
    }

    /// The files under a directory, or the file itself, as they were named from here.
    pub(crate) fn list(&self, path: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let Some(inside) = self.inside(path)? else {
            return Ok(Vec::new());
        };
        let inside = match inside.as_str() {
            "" => ".",
            inside => inside,
        };
        let arguments = [
            "ls-tree",
            "-r",
            "-z",
            "--name-only",
            &self.commit,
            "--",
            inside,
        ];
        let listed = git(&self.top, &arguments)?.unwrap_or_default();
        let names = listed.split('\0').filter(|name| !name.is_empty());
        let under = |name: &str| match name.strip_prefix(inside) {
            Some("") => path.to_owned(),
            Some(rest) if inside != "." => path.join(rest.trim_start_matches('/')),
            _ => path.join(name),
        };
        Ok(names.map(under).collect())
    }

    /// The path from the top of the repository; none outside of it.
    fn inside(&self, path: &Path) -> anyhow::Result<Option<String>> {
        let absolute = absolute(path)?;
        let top = std::fs::canonicalize(&self.top).context("the repository is gone")?;
        let Ok(inside) = absolute.strip_prefix(&top) else {
            return Ok(None);
        };
        let parts = inside
            .components()
            .map(|part| part.as_os_str().to_string_lossy());
        Ok(Some(parts.collect::<Vec<_>>().join("/")))
    }
}

/// The absolute path; the file may be gone, as may directories above it.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut missing = Vec::new();
    let mut there = path.as_path();
    loop {
        if let Ok(real) = std::fs::canonicalize(there) {
            return Ok(missing
                .iter()
                .rev()
                .fold(real, |path, name| path.join(name)));
        }
        let (Some(name), Some(above)) = (there.file_name(), there.parent()) else {
            return Ok(path);
        };
        missing.push(name.to_owned());
        there = above;
    }
}

/// What git prints; none if it says no.
fn git(directory: &Path, arguments: &[&str]) -> anyhow::Result<Option<String>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        .output()
        .context("git cannot be run, and --against needs it")?;
    if !output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8(output.stdout);
    text.map(Some)
        .context("a file at that revision is not UTF-8")
}

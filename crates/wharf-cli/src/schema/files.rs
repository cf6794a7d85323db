//! Schemas in files: which files are schemas, of which kind, and the files they refer to, in the
//! working tree or at a revision.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use wharf_schema::model::SchemaType;
use wharf_schema::{Dependency, Limits, Parsed, names};

use super::git::Revision;
use crate::cli::Usage;

/// How many files one schema may need.
const DEPENDENCIES_MAX: usize = 1_000;
/// What Protobuf brings along.
const WELL_KNOWN: &str = "google/";

/// Where files are read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tree<'a> {
    /// As they are now.
    Working,
    /// As they were.
    At(&'a Revision),
}

/// A schema that was read with all it refers to.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) kind: SchemaType,
    pub(crate) text: String,
    pub(crate) dependencies: Vec<Dependency>,
}

impl Source {
    /// Understands it.
    pub(crate) fn parse(&self) -> Result<Parsed, wharf_schema::Invalid> {
        Parsed::parse(
            self.kind,
            &self.text,
            &self.dependencies,
            &Limits::default(),
        )
    }
}

/// The kind that a file's name says; `None` if it is no schema's.
pub(crate) fn kind_of(path: &Path) -> Option<SchemaType> {
    let name = path.file_name()?.to_str()?;
    match path.extension()?.to_str()? {
        "avsc" => Some(SchemaType::Avro),
        "proto" => Some(SchemaType::Protobuf),
        "json" if name != "package.json" && name != "package-lock.json" => Some(SchemaType::Json),
        _ => None,
    }
}

/// The schemas among files and, in order, under directories.
pub(crate) fn find(paths: &[PathBuf], kind: Option<SchemaType>) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            walk(path, &mut found)?;
        } else if kind.is_none() && kind_of(path).is_none() {
            let what = "is no .avsc, .proto or .json file; say what it is with --type";
            return Err(Usage(format!("{} {what}", path.display())).into());
        } else {
            found.push(path.clone());
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        let entries = std::fs::read_dir(&directory)
            .with_context(|| format!("{} cannot be read", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            let kind = entry.file_type()?;
            if kind.is_dir() && !hidden {
                left.push(path);
            } else if kind.is_file() && kind_of(&path).is_some() {
                found.push(path);
            }
        }
    }
    Ok(())
}

impl Tree<'_> {
    /// The text of a file; none if it is not there.
    pub(crate) fn read(&self, path: &Path) -> anyhow::Result<Option<String>> {
        match self {
            Self::At(revision) => revision.read(path),
            Self::Working => match std::fs::read_to_string(path) {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => {
                    Err(error).with_context(|| format!("{} cannot be read", path.display()))
                }
            },
        }
    }

    /// Reads a schema and what it refers to: imports of Protobuf from the roots or the directories
    /// around the file, JSON Schemas by their path from the file, Avro names from the files beside it.
    pub(crate) fn load(
        &self,
        path: &Path,
        kind: SchemaType,
        roots: &[PathBuf],
    ) -> anyhow::Result<Option<Source>> {
        let Some(text) = self.read(path)? else {
            return Ok(None);
        };
        let mut dependencies = Vec::new();
        let mut open = vec![path.to_owned()];
        self.gather(path, kind, &text, roots, &mut open, &mut dependencies)?;
        Ok(Some(Source {
            kind,
            text,
            dependencies,
        }))
    }

    /// Adds what a text refers to, each after what it refers to itself. What cannot be found is left
    /// to the parser, which says so better.
    fn gather(
        &self,
        path: &Path,
        kind: SchemaType,
        text: &str,
        roots: &[PathBuf],
        open: &mut Vec<PathBuf>,
        dependencies: &mut Vec<Dependency>,
    ) -> anyhow::Result<()> {
        let Ok(names) = names::referred(kind, text, &Limits::default()) else {
            return Ok(());
        };
        for name in names {
            let known = dependencies.iter().any(|known| known.name == name);
            if known || name.starts_with(WELL_KNOWN) {
                continue;
            }
            let Some((found, text)) = self.resolve(path, kind, &name, roots)? else {
                continue;
            };
            // A circle is closed by the name itself, once all of it is known.
            if open.contains(&found) || open.len() + dependencies.len() > DEPENDENCIES_MAX {
                continue;
            }
            open.push(found.clone());
            self.gather(&found, kind, &text, roots, open, dependencies)?;
            open.pop();
            dependencies.push(Dependency { name, text });
        }
        Ok(())
    }

    fn resolve(
        &self,
        from: &Path,
        kind: SchemaType,
        name: &str,
        roots: &[PathBuf],
    ) -> anyhow::Result<Option<(PathBuf, String)>> {
        let beside = from.parent().unwrap_or(Path::new(""));
        let candidates: Vec<PathBuf> = match kind {
            SchemaType::Json => vec![beside.join(name.trim_start_matches("file:"))],
            SchemaType::Protobuf => {
                let around = beside.ancestors().map(Path::to_owned);
                let all = roots.iter().cloned().chain(around);
                all.map(|root| root.join(name)).collect()
            }
            SchemaType::Avro => {
                let short = name.rsplit('.').next().unwrap_or(name);
                let files = [name, short].map(|name| beside.join(format!("{name}.avsc")));
                files.into_iter().chain(self.beside(beside)?).collect()
            }
        };
        for candidate in candidates {
            let Some(text) = self.read(&candidate)? else {
                continue;
            };
            let defines =
                kind != SchemaType::Avro || names::avro_name(&text).as_deref() == Some(name);
            if defines {
                return Ok(Some((candidate, text)));
            }
        }
        Ok(None)
    }

    /// The Avro files of a directory.
    fn beside(&self, directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let here = match directory.as_os_str().is_empty() {
            true => Path::new("."),
            false => directory,
        };
        let mut files = match self {
            Self::At(revision) => revision.list(here)?,
            Self::Working => {
                let entries = std::fs::read_dir(here)?;
                entries
                    .filter_map(|entry| Some(entry.ok()?.path()))
                    .collect()
            }
        };
        files.retain(|file| file.extension().is_some_and(|end| end == "avsc"));
        files.sort();
        Ok(files)
    }
}

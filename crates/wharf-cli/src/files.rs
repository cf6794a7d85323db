//! Files that people write (definitions, contracts, inputs): read whole, bounded in size, and what is found
//! in them is told file by file.

use std::fmt::Display;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use crate::output::{self, Format, clean};

/// The largest file that is read; the node takes no larger one either.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The text of a file, or of stdin for `-`.
pub(crate) fn text(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let shown = file.display();
    if file == Path::new("-") {
        let stdin = std::io::stdin();
        let read = stdin.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        read.context("stdin cannot be read")?;
    } else {
        let opened = std::fs::File::open(file);
        let opened = opened.with_context(|| format!("{shown} cannot be opened"))?;
        let read = opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        read.with_context(|| format!("{shown} cannot be read"))?;
    }
    let fits = u64::try_from(text.len()).is_ok_and(|length| length <= FILE_BYTES_MAX);
    anyhow::ensure!(fits, "{shown} is larger than {FILE_BYTES_MAX} bytes");
    Ok(text)
}

/// A problem, and the file it is in.
#[derive(Debug, Serialize)]
pub(crate) struct Found<P> {
    file: String,
    #[serde(flatten)]
    pub(crate) problem: P,
}

/// Looks for problems in each file, in the given order.
pub(crate) fn look<P>(
    files: &[PathBuf],
    problems: impl Fn(&Path) -> anyhow::Result<Vec<P>>,
) -> anyhow::Result<Vec<Found<P>>> {
    let mut found = Vec::new();
    for file in files {
        let problems = problems(file)?.into_iter();
        let file = file.display().to_string();
        found.extend(problems.map(|problem| Found {
            file: file.clone(),
            problem,
        }));
    }
    Ok(found)
}

/// Prints what was found: a line each for people.
pub(crate) fn print<P: Display + Serialize>(
    format: Format,
    found: &[Found<P>],
) -> anyhow::Result<()> {
    match format {
        Format::Table => found.iter().try_for_each(|Found { file, problem }| {
            output::text(&format!("{file}: {}\n", clean(&problem.to_string())))
        }),
        format => output::rows(format, &[], found, |_| Vec::new()),
    }
}

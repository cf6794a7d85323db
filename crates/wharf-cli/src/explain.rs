//! `wharf explain`: the page of an error code, compiled in.

use clap::Args;
use wharf_message::Code;

use crate::cli::{Outcome, Usage};
use crate::output::{self, Format, OutputArguments};

/// Explain an error code.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf explain WHARF-1003
  wharf explain 2001
  wharf explain                 list every code
  wharf explain -o json")]
pub(crate) struct Arguments {
    /// The code, as WHARF-1003 or 1003; none lists all
    code: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(serde::Serialize)]
struct Row {
    code: String,
    title: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<&'static str>,
}

impl Row {
    fn new(code: Code) -> Self {
        Self {
            code: code.to_string(),
            title: code.title(),
            page: None,
        }
    }
}

/// Prints the page of a code, or the list of all.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let format = arguments.output.format;
    let Some(text) = &arguments.code else {
        let rows: Vec<Row> = Code::ALL.iter().copied().map(Row::new).collect();
        output::rows(format, &["CODE", "TITLE"], &rows, |row| {
            vec![row.code.clone(), row.title.to_owned()]
        })?;
        return Ok(Outcome::Done);
    };
    let Some((code, page)) =
        Code::parse(text).and_then(|code| Some((code, wharf_server::page(code)?)))
    else {
        let usage = format!("there is no code {text:?}; `wharf explain` alone lists every code");
        return Err(Usage(usage).into());
    };
    match format {
        Format::Table => output::text(page)?,
        other => output::one(
            other,
            &Row {
                page: Some(page),
                ..Row::new(code)
            },
        )?,
    }
    Ok(Outcome::Done)
}

//! `wharf saga draw`.

use clap::{Args, ValueEnum};
use serde_json::Value;
use wharf_saga::definition::{Definition, Drawing, Mark, Marks};

use super::convert::Which;
use super::{get, path, timeline_of};
use crate::cli::Outcome;
use crate::output;
use crate::schema::encoded;

/// How it is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Style {
    /// For documents
    #[default]
    Mermaid,
    /// For Graphviz
    Dot,
    /// A picture
    Svg,
}

/// Draw a definition, or a saga on its way through it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf saga draw checkout.yaml
  wharf saga draw checkout.yaml --format svg > checkout.svg
  wharf saga draw --name checkout --format dot | dot -Tpng -o checkout.png
  wharf saga draw --saga $id --format svg > saga.svg     what is done, undone, parked

Exit codes: 0 done, 1 the definition has errors, 2 wrong usage, 3 there is none or the node could not be asked.")]
pub(crate) struct Draw {
    /// A saga, with the marks of where it stands
    #[arg(long, value_name = "ID", conflicts_with_all = ["file", "name"])]
    saga: Option<String>,
    /// How it is drawn
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Style,
    #[command(flatten)]
    which: Which,
}

impl Draw {
    /// Draws.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let (read, marks) = match &self.saga {
            Some(id) => self.of_saga(id)?,
            None => (self.which.read()?, Marks::new()),
        };
        let machine = match read {
            Ok(accepted) => accepted.definition.machine,
            Err(problems) => return self.which.refused(&problems),
        };
        let form = match self.format {
            Style::Mermaid => Drawing::Mermaid,
            Style::Dot => Drawing::Dot,
            Style::Svg => Drawing::Svg,
        };
        let mut drawn = machine.draw(form, &marks);
        if !drawn.ends_with('\n') {
            drawn.push('\n');
        }
        output::text(&drawn)?;
        Ok(Outcome::Done)
    }

    /// The definition to which a saga is pinned, and the marks of the saga.
    fn of_saga(&self, id: &str) -> anyhow::Result<(Read, Marks)> {
        let node = &self.which.node;
        let id = encoded(id);
        let saga = get(node, &path(&format!("/{id}")))?;
        let timeline = timeline_of(node, &id)?;
        let name = encoded(saga["type"].as_str().unwrap_or_default());
        let place = format!("/api/v1/saga-definitions/{name}");
        let named = get(node, &place)?;
        let versions = named["versions"].as_array().into_iter().flatten();
        let pinned = versions
            .filter(|version| version["hash"] == saga["definition"])
            .find_map(|version| version["version"].as_u64());
        let definition = match pinned {
            Some(version) => get(node, &format!("{place}?version={version}"))?,
            None => {
                output::note("its version is not deployed any more; this is the current one")?;
                named
            }
        };
        Ok((
            Definition::of(&definition["definition"]),
            marks(&saga, &timeline),
        ))
    }
}

type Read = Result<wharf_saga::definition::Accepted, wharf_saga::definition::Problems>;

/// Where each state stands; of a state that was visited often, the last visit says it.
fn marks(saga: &Value, timeline: &Value) -> Marks {
    let mut marks = Marks::new();
    for visit in timeline["steps"].as_array().into_iter().flatten() {
        let undone = |note: &Value| note["what"].get("undone").is_some();
        let mut notes = visit["notes"].as_array().into_iter().flatten();
        let mark = if notes.any(undone) {
            Mark::Undone
        } else if !visit["left"].is_null() {
            Mark::Done
        } else if saga["ended"].is_null() && saga["status"] == "RUNNING" {
            Mark::Running
        } else {
            Mark::Failed
        };
        marks.insert(visit["name"].as_str().unwrap_or_default().to_owned(), mark);
    }
    let mut put = |steps: &Value, mark| {
        for step in steps.as_array().into_iter().flatten() {
            marks.insert(step["name"].as_str().unwrap_or_default().to_owned(), mark);
        }
    };
    put(&saga["current"], Mark::Running);
    put(&saga["parked_steps"], Mark::Parked);
    marks
}

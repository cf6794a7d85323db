//! What people do to sagas: one by its id, or all that a filter means.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::filter::Filter;
use super::payload::{given, put};
use super::{bulk, path, post};
use crate::cli::{Outcome, Usage};
use crate::node_api::NodeApi;
use crate::output::{self, Format, OutputArguments, cell};
use crate::schema::encoded;

macro_rules! help {
    ($($name:ident: $examples:literal)*) => {
        $(pub(super) const $name: &str = concat!("Examples:\n", $examples, "

With an id it acts on that saga. With a filter it counts the sagas that are meant, asks, and acts on
exactly as many; --dry-run only counts and lists them. Who, when and why are kept in `_wharf.audit`.

Exit codes: 0 done, 1 some were refused or none was meant, 2 wrong usage, 3 the node refused.");)*
    };
}

help! {
    PAUSE: "  wharf saga pause $id --reason 'the warehouse is moving'
  wharf saga pause --type checkout --reason 'the warehouse is moving' --dry-run"
    RESUME: "  wharf saga resume $id --reason 'the warehouse has moved'
  wharf saga resume --type checkout --paused --reason 'the warehouse has moved' --yes"
    RETRY: "  wharf saga retry $id --reason 'the carrier is back'
  wharf saga retry $id --step 3 --reason 'do not wait for the next attempt'
  wharf saga retry --status PARKED --at Ship --reason 'the carrier is back'"
    SKIP: "  wharf saga skip $id --data '{\"order\": 17, \"shipped\": true}' --reason 'brought in person'"
    MARK: "  wharf saga mark $id --as completed --result '{\"parcel\": 5}' --reason 'it was sent after all'
  wharf saga mark $id --as compensated --reason 'the money went back by hand'"
    EDIT: "  wharf saga edit $id --input '{\"city\": \"Köln\"}' --reason 'the address was wrong' --retry
  wharf saga edit $id --input @address.json --reason 'the address was wrong'"
    REDRIVE: "  wharf saga redrive $id --reason 'the definition was right after all'
  wharf saga redrive --type import --status COMPENSATED --reason 'the disk has room again'"
    ABORT: "  wharf saga show $id --undo                        what would be undone
  wharf saga abort $id --reason 'ordered by mistake'
  wharf saga abort --type checkout --older-than 2d --reason 'never paid' --dry-run"
}

/// Which sagas, who and why.
#[derive(Debug, Args)]
pub(super) struct Order {
    /// The saga; or say with a filter which ones
    #[arg(value_name = "ID")]
    pub(super) id: Option<String>,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: String,
    /// Who, for the audit [default: the user of the system]
    #[arg(long, value_name = "NAME")]
    pub(super) by: Option<String>,
    /// Only count and list the sagas that the filter means
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask before acting on many
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) output: OutputArguments,
    #[command(flatten)]
    pub(super) filter: Filter,
    #[command(flatten)]
    pub(super) node: NodeApi,
}

/// An action that takes nothing.
#[derive(Debug, Args)]
pub(crate) struct Plain {
    #[command(flatten)]
    order: Order,
}

/// `retry`.
#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// The step, by its number in `show` [default: the only one that is parked]
    #[arg(long, value_name = "N")]
    step: Option<u32>,
    #[command(flatten)]
    order: Order,
}

/// `skip`.
#[derive(Debug, Args)]
pub(crate) struct Skip {
    /// The step, by its number in `show` [default: the only one that is parked]
    #[arg(long, value_name = "N")]
    step: Option<u32>,
    /// The data that the next state gets, all of it: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON")]
    data: String,
    #[command(flatten)]
    order: Order,
}

/// What a step is said to be.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum As {
    /// It was done; with --result it goes on behind it
    Completed,
    /// It is undone, or was never done
    Compensated,
}

/// `mark`.
#[derive(Debug, Args)]
pub(crate) struct Mark {
    /// The step, by its number in `show` [default: the only one that is parked]
    #[arg(long, value_name = "N")]
    step: Option<u32>,
    /// What it is
    #[arg(long = "as", value_enum, value_name = "WHAT")]
    mark: As,
    /// Of a completed step: what its worker would have answered, as JSON, @FILE, or -
    #[arg(long, value_name = "JSON")]
    result: Option<String>,
    #[command(flatten)]
    order: Order,
}

/// `edit`.
#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// The step, by its number in `show` [default: the only one that is parked]
    #[arg(long, value_name = "N")]
    step: Option<u32>,
    /// The new input: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON")]
    input: String,
    /// Retry it at once; only with an id
    #[arg(long)]
    retry: bool,
    #[command(flatten)]
    order: Order,
}

impl Plain {
    /// Acts.
    pub(crate) fn run(self, action: &str) -> anyhow::Result<Outcome> {
        self.order.run(action, json!({}))
    }
}

impl Retry {
    /// Retries.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let mut rest = json!({});
        put(&mut rest, "step", self.step);
        self.order.run("retry", rest)
    }
}

impl Skip {
    /// Skips.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let mut rest = json!({ "output": given("--data", &self.data)? });
        put(&mut rest, "step", self.step);
        self.order.run("skip", rest)
    }
}

impl Mark {
    /// Marks.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let mut rest = match self.mark {
            As::Completed => json!({ "as": "completed" }),
            As::Compensated => json!({ "as": "compensated" }),
        };
        if let Some(result) = &self.result {
            if matches!(self.mark, As::Compensated) {
                let message = "--result goes with --as completed: what is undone has no result";
                return Err(Usage(message.to_owned()).into());
            }
            put(&mut rest, "output", Some(given("--result", result)?));
        }
        put(&mut rest, "step", self.step);
        self.order.run("mark", rest)
    }
}

impl Edit {
    /// Edits.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        if self.retry && self.order.id.is_none() {
            let message = "--retry goes with an id; with a filter, edit and then retry";
            return Err(Usage(message.to_owned()).into());
        }
        let mut rest = json!({ "input": given("--input", &self.input)? });
        put(&mut rest, "step", self.step);
        if !self.retry {
            return self.order.run("edit", rest);
        }
        let id = self.order.one()?;
        self.order.act(&id, "edit", rest)?;
        let mut again = json!({});
        put(&mut again, "step", self.step);
        self.order.told(&self.order.act(&id, "retry", again)?)
    }
}

impl Order {
    fn run(&self, action: &str, rest: Value) -> anyhow::Result<Outcome> {
        if self.id.is_none() && self.filter.is_empty() {
            let message = "say which saga: an id, or a filter such as --type and --status";
            return Err(Usage(message.to_owned()).into());
        }
        if self.id.is_none() {
            return bulk::run(self, action, rest);
        }
        let id = self.one()?;
        let row = self.act(&id, action, rest)?;
        self.told(&row)
    }

    /// The id, when one saga is meant.
    fn one(&self) -> anyhow::Result<String> {
        if !self.filter.is_empty() {
            let message = "an id and a filter were given; one of them says which saga";
            return Err(Usage(message.to_owned()).into());
        }
        if self.dry_run {
            let message = "--dry-run counts what a filter means; of one saga, `wharf saga show ID \
                           --undo` tells what an abort would undo";
            return Err(Usage(message.to_owned()).into());
        }
        Ok(self.id.clone().unwrap_or_default())
    }

    /// Acts on one saga and gives its row.
    fn act(&self, id: &str, action: &str, rest: Value) -> anyhow::Result<Value> {
        let tail = format!("/{}/{action}", encoded(id));
        post(&self.node, &path(&tail), &self.body(rest))
    }

    fn told(&self, row: &Value) -> anyhow::Result<Outcome> {
        match self.output.format {
            Format::Table => {
                let paused = if row["paused"] == true {
                    ", paused"
                } else {
                    ""
                };
                let (id, status) = (cell(&row["id"]), cell(&row["status"]));
                output::note(&format!("{id} is {status}{paused}"))?;
            }
            format => output::one(format, row)?,
        }
        Ok(Outcome::Done)
    }

    /// What the API takes: the action's own fields, who and why.
    pub(super) fn body(&self, mut rest: Value) -> Value {
        let by = self.by.clone().unwrap_or_else(user);
        put(&mut rest, "by", Some(by));
        put(&mut rest, "reason", Some(self.reason.clone()));
        rest
    }
}

/// Who is at the keyboard: the name of the system's user, or its number.
pub(super) fn user() -> String {
    let named = ["USER", "LOGNAME", "USERNAME"]
        .into_iter()
        .find_map(|name| {
            let value = std::env::var(name).ok()?;
            (!value.trim().is_empty()).then_some(value)
        });
    named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

//! `wharf saga`: sagas that a node orchestrates, what people do to them, and their definitions.
//!
//! Definitions are read, checked, drawn and converted here, with nothing but their files; everything
//! else is asked of a node.

mod act;
mod bulk;
mod convert;
mod define;
mod draw;
mod filter;
mod list;
mod payload;
mod show;
mod start;
mod timeline;

use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;
use wharf_message::Code;
use wharf_server::Problem;

use crate::cli::Outcome;
use crate::node_api::{Answer, NodeApi};
use crate::output::clean;
use crate::schema::encoded;

/// Run, watch, repair and abort sagas; check, deploy, convert and draw their definitions.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  wharf saga validate checkout.yaml
  wharf saga deploy checkout.yaml
  wharf saga start checkout --key order-17 --input '{\"order\": 17}'
  wharf saga list --status PARKED
  wharf saga show $id
  wharf saga retry $id --reason 'the carrier is back'
  wharf saga abort --type checkout --older-than 2d --reason 'never paid' --dry-run")]
pub(crate) enum Command {
    /// List sagas, the newest first
    List(list::List),
    /// Show a saga: where it stands, what happened, what would be undone
    Show(show::Show),
    /// Start a saga, once for each key
    Start(start::Start),
    /// Send a signal to a saga
    Signal(start::Signal),
    /// Stop sagas after what is in flight
    #[command(after_help = act::PAUSE)]
    Pause(act::Plain),
    /// Go on with sagas that were paused, or parked at their deadline
    #[command(after_help = act::RESUME)]
    Resume(act::Plain),
    /// Try a parked step now, or one that waits for its next attempt
    #[command(after_help = act::RETRY)]
    Retry(act::Retry),
    /// Go on behind a parked step
    #[command(after_help = act::SKIP)]
    Skip(act::Skip),
    /// Say that a parked step was completed or undone by hand
    #[command(after_help = act::MARK)]
    Mark(act::Mark),
    /// Give a parked step another input; a retry then uses it
    #[command(after_help = act::EDIT)]
    Edit(act::Edit),
    /// Take up sagas that failed and undid nothing, where they failed
    #[command(after_help = act::REDRIVE)]
    Redrive(act::Plain),
    /// Undo what sagas did, and end them
    #[command(after_help = act::ABORT)]
    Abort(act::Plain),
    /// Check a definition and deploy it
    Deploy(define::Deploy),
    /// Check definitions, without a node
    Validate(define::Validate),
    /// Turn a saga made by hand with Catch into one with Compensate, and report on it
    Import(convert::Import),
    /// Write a definition as plain Amazon States Language, its undo as states
    Export(convert::Export),
    /// Draw a definition, or a saga on its way through it
    Draw(draw::Draw),
}

/// Runs `wharf saga …`.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::List(list) => list.run(),
        Command::Show(show) => show.run(),
        Command::Start(start) => start.run(),
        Command::Signal(signal) => signal.run(),
        Command::Pause(plain) => plain.run("pause"),
        Command::Resume(plain) => plain.run("resume"),
        Command::Retry(retry) => retry.run(),
        Command::Skip(skip) => skip.run(),
        Command::Mark(mark) => mark.run(),
        Command::Edit(edit) => edit.run(),
        Command::Redrive(plain) => plain.run("redrive"),
        Command::Abort(plain) => plain.run("abort"),
        Command::Deploy(deploy) => deploy.run(),
        Command::Validate(validate) => validate.run(),
        Command::Import(import) => import.run(),
        Command::Export(export) => export.run(),
        Command::Draw(draw) => draw.run(),
    }
}

fn path(tail: &str) -> String {
    format!("/api/v1/sagas{tail}")
}

fn get(node: &NodeApi, path: &str) -> anyhow::Result<Value> {
    good(node.ask("GET", path, Duration::ZERO)?)
}

/// The whole timeline of a saga, page by page.
fn timeline_of(node: &NodeApi, id: &str) -> anyhow::Result<Value> {
    let place = path(&format!("/{id}/timeline"));
    let mut whole = get(node, &place)?;
    while let Some(next) = whole.as_object_mut().and_then(|whole| whole.remove("next")) {
        let next = encoded(next.as_str().unwrap_or_default());
        let mut page = get(node, &format!("{place}?after={next}"))?;
        for part in ["steps", "events"] {
            if let (Some(all), Some(more)) = (whole[part].as_array_mut(), page[part].as_array_mut())
            {
                all.append(more);
            }
        }
        if let Some(next) = page.get("next") {
            whole["next"] = next.clone();
        }
    }
    Ok(whole)
}

fn post(node: &NodeApi, path: &str, body: &Value) -> anyhow::Result<Value> {
    good(node.send("POST", path, Some(body), Duration::ZERO)?)
}

/// The body of a good answer; otherwise what the node says of it, and what to do then.
fn good(answer: Answer) -> anyhow::Result<Value> {
    if answer.status < 300 {
        return Ok(answer.body);
    }
    let text = |key: &str| clean(answer.body[key].as_str().unwrap_or_default());
    let Some(code) = Code::parse(&text("code")) else {
        let fix = "`saga.enabled` switches sagas on; is it the HTTP address of a Wharf node?";
        let what = format!("the node answers with {}", answer.status);
        return Err(Problem::plain(what, text("detail"), fix).into());
    };
    let fix = match code {
        Code::SAGA_UNKNOWN => "`wharf saga list` shows those that there are",
        Code::SAGA_DEFINITION_UNKNOWN => "`wharf saga list --definitions` shows what is deployed",
        Code::SAGA_ACTION_REFUSED => "`wharf saga show ID` tells where it stands",
        Code::SAGA_KEY_TAKEN => "take another key, or the input it was started with",
        Code::SAGA_UNAVAILABLE | Code::SAGA_BUSY => {
            "try again later; the same key is the same saga"
        }
        _ => "change what it says and try again",
    };
    Err(Problem::new(code, text("title"), text("detail"), fix).into())
}

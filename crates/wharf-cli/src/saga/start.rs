//! `wharf saga start` and `signal`.

use clap::Args;
use serde_json::{Value, json};

use super::payload::{self, given};
use super::{path, post};
use crate::cli::Outcome;
use crate::client::pair;
use crate::node_api::NodeApi;
use crate::output::{self, Format, OutputArguments, cell};
use crate::schema::encoded;

/// Start a saga, once for each key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf saga start checkout --key order-17 --input '{\"order\": 17}'
  wharf saga start checkout --key order-17 --input @order.json --attribute country=DE
  id=$(wharf saga start checkout)               each call starts another, as there is no key

It prints the id of the saga. A key that was used before gives the saga that is there.

Exit codes: 0 it is there, 2 wrong usage, 3 the node could not be asked or refused.")]
pub(crate) struct Start {
    /// The type: the name of a deployed definition
    #[arg(value_name = "TYPE")]
    saga_type: String,
    /// The idempotency key: one type and one key are one saga
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The input: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", default_value = "{}")]
    input: String,
    /// The version of the definition: a number or an alias [default: the current one]
    #[arg(long = "definition-version", value_name = "VERSION")]
    version: Option<String>,
    /// The business case
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// An attribute to search by; may come again
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = pair)]
    attributes: Vec<(String, String)>,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    node: NodeApi,
}

/// Send a signal to a saga.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf saga signal $id Approved
  wharf saga signal $id Approved --payload '{\"by\": \"ada\"}'

A signal that comes before anybody waits for it is kept.

Exit codes: 0 it was taken, 2 wrong usage, 3 there is no such saga, or the node refused.")]
pub(crate) struct Signal {
    /// The saga
    #[arg(value_name = "ID")]
    id: String,
    /// The signal's name
    #[arg(value_name = "SIGNAL")]
    name: String,
    /// What comes with it: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", default_value = "null")]
    payload: String,
    #[command(flatten)]
    node: NodeApi,
}

impl Start {
    /// Starts.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let attributes: serde_json::Map<String, Value> = self
            .attributes
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        let mut body = json!({
            "type": self.saga_type,
            "input": given("--input", &self.input)?,
            "attributes": attributes,
        });
        payload::put(&mut body, "key", self.key);
        payload::put(&mut body, "version", self.version);
        payload::put(&mut body, "correlation_id", self.correlation_id);
        let answer = post(&self.node, &path(""), &body)?;
        match self.output.format {
            Format::Table => output::text(&(cell(&answer["id"]) + "\n"))?,
            format => output::one(format, &answer)?,
        }
        if answer["new"] == false {
            let status = cell(&answer["status"]);
            output::note(&format!("it was started before, and is {status}"))?;
        }
        Ok(Outcome::Done)
    }
}

impl Signal {
    /// Sends.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let body = json!({
            "name": self.name,
            "payload": given("--payload", &self.payload)?,
        });
        let tail = format!("/{}/signals", encoded(&self.id));
        post(&self.node, &path(&tail), &body)?;
        output::note(&format!("{} has the signal {}", self.id, self.name))?;
        Ok(Outcome::Done)
    }
}

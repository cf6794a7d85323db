//! `wharf outbox status` and `drain`: how the relays of a node stand.

use std::time::Duration;

use clap::Args;
use serde_json::Value;
use wharf_server::config::Period;

use crate::cli::Outcome;
use crate::node_api::{NodeApi, taken};
use crate::output::{self, OutputArguments};

/// What is in the columns of the table.
const HEADER: [&str; 10] = [
    "RELAY",
    "SOURCE",
    "STATE",
    "ROWS",
    "ASIDE",
    "LAG",
    "BEHIND",
    "SLOT",
    "RETAINED",
    "LAST TROUBLE",
];

/// What to do when the node says no.
const FIX: &str = "`wharf outbox status` shows what there is";

/// Show how the relays of a node stand.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf outbox status
  wharf outbox status orders -o json | jq '.[0].lag'
  wharf outbox status --http node.internal:8080

Exit codes: 0 every relay runs or stands by, 1 one does not, 3 the node could not be asked.")]
pub(crate) struct Status {
    /// Only this relay
    relay: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
    #[command(flatten)]
    node: NodeApi,
}

/// Wait until a relay has nothing left to do.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wharf outbox drain orders
  wharf outbox drain orders --timeout 10m && systemctl stop shop

Exit codes: 0 nothing is left, 1 something still was after the time-out, 3 could not run.")]
pub(crate) struct Drain {
    /// The relay
    relay: String,
    /// How long to wait at most
    #[arg(long, default_value = "60s", value_name = "TIME")]
    timeout: Period,
    #[command(flatten)]
    node: NodeApi,
}

impl Status {
    /// Prints the relays.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let relays = match &self.relay {
            Some(name) => {
                let path = format!("/api/v1/relays/{}", encoded(name));
                vec![self.node.ask("GET", &path, Duration::ZERO)?.good(FIX)?]
            }
            None => {
                let answer = self.node.ask("GET", "/api/v1/relays", Duration::ZERO)?;
                let mut body = answer.good(FIX)?;
                taken(&mut body["relays"])
            }
        };
        if relays.is_empty() {
            output::note("this node has no relays; `[relay.<name>]` in wharf.toml makes one")?;
        }
        output::rows(self.output.format, &HEADER, &relays, cells)?;
        let works = |relay: &Value| {
            let state = relay["state"].as_str().unwrap_or_default();
            matches!(state, "connecting" | "running" | "standby")
        };
        Ok(match relays.iter().all(works) {
            true => Outcome::Done,
            false => Outcome::Negative,
        })
    }
}

impl Drain {
    /// Waits.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let name = encoded(&self.relay);
        let path = format!("/api/v1/relays/{name}/drain?timeout={}", self.timeout);
        let answer = self.node.ask("POST", &path, self.timeout.0)?;
        if answer.status != 504 {
            answer.good(FIX)?;
            output::note(&format!("{}: nothing is left", self.relay))?;
            return Ok(Outcome::Done);
        }
        let cells = cells(&answer.body);
        let (relay, state, lag, behind) = (&self.relay, &cells[2], &cells[5], &cells[6]);
        output::note(&format!(
            "{relay}: not drained; it is {state}, left: {lag}, behind: {behind}"
        ))?;
        if let Some(what) = answer.body["trouble"]["what"].as_str() {
            output::note(&format!("last trouble: {what}"))?;
        }
        Ok(Outcome::Negative)
    }
}

/// A name as a part of a path.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let encode = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    name.bytes().map(encode).collect()
}

/// A relay's cells.
fn cells(relay: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let lag = &relay["lag"];
    let left = match (&lag["rows"], lag["bytes"].as_u64()) {
        (Value::Null, Some(bytes)) => size(bytes),
        (rows, None) => text(rows),
        (rows, Some(bytes)) => format!("{rows} ({})", size(bytes)),
    };
    let behind = lag["seconds"]
        .as_f64()
        .map(|seconds| format!("{seconds:.1}s"));
    let slot = match (lag["slot"].as_str(), lag["slot_status"].as_str()) {
        (Some(slot), Some(status)) => format!("{slot} ({status})"),
        (slot, _) => slot.unwrap_or("-").to_owned(),
    };
    let trouble = &relay["trouble"];
    let trouble = match (trouble["code"].as_str(), trouble["what"].as_str()) {
        (Some(code), Some(what)) => format!("{code} {what}"),
        _ => "-".to_owned(),
    };
    let dash = || "-".to_owned();
    vec![
        text(&relay["name"]),
        text(&relay["source"]),
        text(&relay["state"]),
        text(&relay["rows"]),
        text(&relay["set_aside"]),
        left,
        behind.unwrap_or_else(dash),
        slot,
        lag["retained_bytes"].as_u64().map_or_else(dash, size),
        trouble,
    ]
}

/// A size for people, in the largest unit that leaves at least 1.
fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes >> shift > 0);
    match unit {
        Some((name, shift)) => {
            let tenths = bytes.saturating_mul(10) >> shift;
            format!("{}.{}{name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_shown_in_a_line_whatever_is_known_of_it() {
        let relay = serde_json::json!({
            "name": "orders", "source": "postgres log", "state": "running", "rows": 12, "set_aside": 0,
            "lag": {"rows": 3, "bytes": 1_572_864, "seconds": 0.5, "slot": "wharf_orders",
                "slot_status": "reserved", "retained_bytes": 100},
            "trouble": {"code": "WHARF-5303", "what": "it was down"},
        });
        let expected = [
            "orders",
            "postgres log",
            "running",
            "12",
            "0",
            "3 (1.5MiB)",
            "0.5s",
            "wharf_orders (reserved)",
            "100B",
            "WHARF-5303 it was down",
        ];
        assert_eq!(cells(&relay), expected);
        assert_eq!(cells(&Value::Null).len(), HEADER.len());
        assert_eq!(encoded("a b/ü"), "a%20b%2F%C3%BC");
    }
}

//! Which sagas are meant: the options that `list` and every action share.

use clap::Args;
use serde_json::{Map, Value};

use crate::client::pair;
use crate::schema::encoded;

/// Which sagas.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which sagas")]
pub(super) struct Filter {
    /// Of this type
    #[arg(long = "type", value_name = "TYPE")]
    saga_type: Option<String>,
    /// Standing so: RUNNING, COMPENSATING, PARKED, COMPLETED, COMPENSATED, ABORTED_BY_OPERATOR
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Paused, or not
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    paused: Option<bool>,
    /// In this state of its definition
    #[arg(long = "at", value_name = "STATE")]
    at: Option<String>,
    /// Of the definition with this hash
    #[arg(long, value_name = "HASH")]
    definition: Option<String>,
    /// Of this business case
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// With this attribute; may come again, and then all must fit
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = pair)]
    attributes: Vec<(String, String)>,
    /// Started longer ago than this, as in 10m or 2d
    #[arg(long, value_name = "AGE")]
    older_than: Option<String>,
    /// Started before this moment, in RFC 3339
    #[arg(long, value_name = "TIME")]
    started_before: Option<String>,
    /// Started at this moment or later
    #[arg(long, value_name = "TIME")]
    started_after: Option<String>,
    /// Nothing happened to it since this moment
    #[arg(long, value_name = "TIME")]
    updated_before: Option<String>,
}

impl Filter {
    /// What was said, by the names of the API.
    fn said(&self) -> Vec<(String, String)> {
        let plain = [
            ("type", &self.saga_type),
            ("status", &self.status),
            ("step", &self.at),
            ("definition", &self.definition),
            ("correlation_id", &self.correlation_id),
            ("older_than", &self.older_than),
            ("started_before", &self.started_before),
            ("started_after", &self.started_after),
            ("updated_before", &self.updated_before),
        ];
        let plain = plain.into_iter().filter_map(|(name, value)| {
            let value = value.as_ref()?;
            Some((name.to_owned(), value.clone()))
        });
        let paused = self
            .paused
            .map(|paused| ("paused".to_owned(), paused.to_string()));
        let attributes = self.attributes.iter();
        let attributes =
            attributes.map(|(name, value)| (format!("attribute.{name}"), value.clone()));
        plain.chain(paused).chain(attributes).collect()
    }

    /// Whether nothing was said, which means every saga.
    pub(super) fn is_empty(&self) -> bool {
        self.said().is_empty()
    }

    /// For the body of a bulk action.
    pub(super) fn object(&self) -> Map<String, Value> {
        let said = self.said().into_iter();
        said.map(|(name, value)| (name, Value::from(value)))
            .collect()
    }

    /// For a query; each parameter ends with `&`.
    pub(super) fn query(&self) -> String {
        let said = self.said().into_iter();
        said.map(|(name, value)| format!("{}={}&", encoded(&name), encoded(&value)))
            .collect()
    }
}

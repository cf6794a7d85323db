//! DescribeClientQuotas: the quotas of the entities that match (KIP-546).

use std::collections::HashSet;

use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use wharf_broker::{Error, ErrorKind, QuotaEntity, QuotaEntry, QuotaName};

use super::Card;
use super::quota_entity::{Kind, quota_name, unknown};
use crate::error::error_code;
use crate::frame::Call;
use crate::shape::{BOOL, INT8, Shape, TEXT, array};
use crate::wire::{message, text};
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 48,
    name: "DescribeClientQuotas",
    advertised: 0..=1,
    answered: 0..=1,
    kips: &[546, 612],
    shape: Shape::new(1, &[array(&[TEXT, INT8, TEXT]), BOOL]),
    notes: "",
};

// How a component matches a name.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

/// What a component asks of one kind of name.
struct Filter {
    kind: Kind,
    /// This name, or any.
    name: Option<QuotaName>,
}

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature of every answer"
)]
fn answer(call: &Call, request: DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    let response = DescribeClientQuotasResponse::default();
    let filters = match filters(&request.components) {
        Ok(filters) => filters,
        Err(error) => {
            return response
                .with_error_code(error_code(error.kind))
                .with_error_message(Some(message(&error)))
                .with_entries(None);
        }
    };
    let entries = call.broker.quotas(&call.cx);
    let matching = entries
        .iter()
        .filter(|entry| matches(&entry.entity, &filters, request.strict));
    response
        .with_error_message(None)
        .with_entries(Some(matching.map(described).collect()))
}

fn filters(components: &[ComponentData]) -> Result<Vec<Filter>, Error> {
    let mut seen = HashSet::new();
    let mut filters = Vec::with_capacity(components.len());
    for component in components {
        let filter = filter(component)?;
        if !seen.insert(filter.kind) {
            return invalid(format!(
                "{} is asked for more than once",
                filter.kind.name()
            ));
        }
        filters.push(filter);
    }
    if seen.contains(&Kind::Ip) && seen.len() > 1 {
        return invalid("an address has no user and no client id");
    }
    Ok(filters)
}

fn filter(component: &ComponentData) -> Result<Filter, Error> {
    let Some(kind) = Kind::from_name(&component.entity_type) else {
        return Err(unknown(
            &component.entity_type,
            ErrorKind::UnsupportedVersion,
        ));
    };
    let name = match (component.match_type, &component._match) {
        (EXACT, Some(name)) => Some(quota_name(Some(name))),
        (DEFAULT, None) => Some(QuotaName::Default),
        (ANY, None) => None,
        (EXACT | DEFAULT | ANY, _) => {
            return invalid("an exact match has a name, and no other has one");
        }
        (other, _) => return invalid(format!("there is no kind of match {other}")),
    };
    Ok(Filter { kind, name })
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::new(ErrorKind::InvalidRequest, message))
}

/// Whether an entity has every name asked for; when `strict`, and no other.
fn matches(entity: &QuotaEntity, filters: &[Filter], strict: bool) -> bool {
    let has = |filter: &Filter| match (filter.kind.of(entity), &filter.name) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(name), Some(asked)) => name == asked,
    };
    let count = Kind::ALL
        .into_iter()
        .filter(|kind| kind.of(entity).is_some())
        .count();
    filters.iter().all(has) && (!strict || count == filters.len())
}

fn described(entry: &QuotaEntry) -> EntryData {
    let entity = Kind::ALL.into_iter().filter_map(|kind| {
        let name = match kind.of(&entry.entity)? {
            QuotaName::Default => None,
            QuotaName::Named(name) => Some(text(&**name)),
        };
        Some(
            EntityData::default()
                .with_entity_type(text(kind.name()))
                .with_entity_name(name),
        )
    });
    let values = entry.values.iter().map(|(key, value)| {
        ValueData::default()
            .with_key(text(key.name()))
            .with_value(*value)
    });
    EntryData::default()
        .with_entity(entity.collect())
        .with_values(values.collect())
}

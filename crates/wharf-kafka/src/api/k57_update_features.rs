//! UpdateFeatures: a level that is in use may be asked for again; no level changes (KIP-584).
//!
//! The levels belong to the program (`features.rs`), so an update that would change one is
//! refused. All updates of a request hold or none does.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::Card;
use super::repeated::repeated;
use crate::error::NONE;
use crate::features;
use crate::frame::Call;
use crate::shape::{BOOL, INT8, INT16, INT32, Shape, TEXT, array};
use crate::wire::text;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: 57,
    name: "UpdateFeatures",
    advertised: 0..=2,
    answered: 0..=2,
    kips: &[584, 778],
    shape: Shape::new(
        0,
        &[
            INT32,
            array(&[TEXT, INT16, BOOL.to(0), INT8.from(1)]),
            BOOL.from(1),
        ],
    ),
    notes: "A level in use may be set again. Any other is refused with INVALID_UPDATE_VERSION: \
            levels belong to the version of Wharf.",
};

/// Upgrade, safe downgrade, unsafe downgrade.
const UPGRADE_TYPES: std::ops::RangeInclusive<i8> = 1..=3;
/// The last version with one result per feature.
const RESULTS_TO: i16 = 1;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(answer)
}

fn answer(call: &Call, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let updates = request.feature_updates;
    let response = UpdateFeaturesResponse::default().with_error_message(None);
    let refuse = |error: ResponseError, message: String| {
        UpdateFeaturesResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(text(message)))
    };
    if let Some(twice) = repeated(updates.iter().map(|one| &one.feature))
        .into_iter()
        .next()
    {
        let message = format!("the feature {:?} is named more than once", shown(twice));
        return refuse(ResponseError::InvalidRequest, message);
    }
    let refusals: Vec<_> = updates
        .into_iter()
        .map(|one| (refusal(&one, call.version()), one.feature))
        .collect();
    if call.version() > RESULTS_TO {
        let first = refusals.into_iter().find_map(|(refusal, _)| refusal);
        return first.map_or(response, |message| {
            refuse(ResponseError::InvalidUpdateVersion, message)
        });
    }
    let results = refusals.into_iter().map(|(refusal, feature)| {
        let error = refusal
            .as_ref()
            .map_or(NONE, |_| ResponseError::InvalidUpdateVersion.code());
        UpdatableFeatureResult::default()
            .with_feature(feature)
            .with_error_code(error)
            .with_error_message(refusal.map(text))
    });
    response.with_results(results.collect())
}

/// Why an update cannot be, if it cannot.
fn refusal(update: &FeatureUpdateKey, version: i16) -> Option<String> {
    let (name, wanted) = (shown(&update.feature), update.max_version_level);
    let typed = version > 0;
    if typed && !UPGRADE_TYPES.contains(&update.upgrade_type) {
        return Some(format!("there is no upgrade type {}", update.upgrade_type));
    }
    match features::find(&update.feature) {
        None if wanted == 0 => None,
        None => Some(format!("this node has no feature {name:?}")),
        Some(feature) if feature.level == wanted => None,
        Some(feature) => Some(format!(
            "{name} is at level {} in this version of Wharf and cannot be set to {wanted}",
            feature.level
        )),
    }
}

/// A name as an error repeats it.
fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

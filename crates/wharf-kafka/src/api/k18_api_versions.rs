//! ApiVersions: which keys in which versions. Asked before anything else, so a version from the
//! future is answered too: in version 0, with the ranges (KIP-35, KIP-511).

use futures_util::FutureExt;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::{API_VERSIONS_KEY, APIS, Card};
use crate::error::NONE;
use crate::features::{self, FEATURES};
use crate::frame::{Call, Reply};
use crate::shape::{Shape, TEXT};
use crate::wire::text;
use crate::{Disconnect, Outcome};

pub(super) static CARD: Card = Card {
    key: API_VERSIONS_KEY,
    name: "ApiVersions",
    advertised: 0..=4,
    answered: 0..=4,
    kips: &[35, 482, 511],
    shape: Shape::new(3, &[TEXT.from(3), TEXT.from(3)]),
    notes: "A version that is not known is answered in version 0 with UNSUPPORTED_VERSION and the \
            ranges.",
};

/// The first version that tells features (KIP-584).
const FEATURES_FROM: i16 = 3;
/// The first version that may tell a supported level of 0; clients of earlier ones choke on it.
const LEVEL_ZERO_FROM: i16 = 4;

pub(super) fn handle(call: Call) -> Result<Outcome, Disconnect> {
    call.answer_now(|call, request: ApiVersionsRequest| {
        let named = call.version() < 3
            || is_software_name(&request.client_software_name)
                && is_software_name(&request.client_software_version);
        match named {
            true if call.version() >= FEATURES_FROM => with_features(ranges(NONE), call.version()),
            true => ranges(NONE),
            false => refusal(ResponseError::InvalidRequest.code()),
        }
    })
}

/// The answer to a version that is not known.
pub(crate) fn answer_unknown_version(reply: Reply) -> Outcome {
    let response = ranges(ResponseError::UnsupportedVersion.code());
    Outcome::Answer(async move { reply.encode_as(&response, 0) }.boxed())
}

fn ranges(error: i16) -> ApiVersionsResponse {
    let range = |card: &Card| {
        ApiVersion::default()
            .with_api_key(card.key)
            .with_min_version(*card.advertised.start())
            .with_max_version(*card.advertised.end())
    };
    refusal(error).with_api_keys(APIS.iter().map(|api| range(api.card)).collect())
}

fn with_features(answer: ApiVersionsResponse, version: i16) -> ApiVersionsResponse {
    let lowest = if version >= LEVEL_ZERO_FROM { 0 } else { 1 };
    let supported = FEATURES
        .iter()
        .filter(|feature| feature.min >= lowest)
        .map(|feature| {
            SupportedFeatureKey::default()
                .with_name(text(feature.name))
                .with_min_version(feature.min)
                .with_max_version(feature.max)
        });
    let finalized = FEATURES
        .iter()
        .filter(|feature| feature.level > 0)
        .map(|feature| {
            FinalizedFeatureKey::default()
                .with_name(text(feature.name))
                .with_min_version_level(feature.level)
                .with_max_version_level(feature.level)
        });
    answer
        .with_supported_features(supported.collect())
        .with_finalized_features(finalized.collect())
        .with_finalized_features_epoch(features::EPOCH)
}

fn refusal(error: i16) -> ApiVersionsResponse {
    ApiVersionsResponse::default().with_error_code(error)
}

/// Kafka's rule for the names of client software: letters, digits, dots and dashes, beginning and
/// ending with a letter or digit.
fn is_software_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    end(name.chars().next()) && end(name.chars().next_back()) && name.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kafkas_rule() {
        for name in ["a", "apache-kafka-java", "librdkafka", "2.12.1", "1-a"] {
            assert!(is_software_name(name), "{name}");
        }
        for name in ["", "-a", "a.", "a b", "ä", "a_b"] {
            assert!(!is_software_name(name), "{name}");
        }
    }
}

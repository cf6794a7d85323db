//! What a checkout is: reserve, charge, ship, tell the customer, and what undoes the first two.

use serde_json::json;
use wharf::saga::{Retry, Saga, Step, Undo};

/// The type of the saga.
pub const NAME: &str = "checkout";

pub(crate) const RESERVE: &str = "shop.reserve-stock";
pub(crate) const RELEASE: &str = "shop.release-stock";
pub(crate) const CHARGE: &str = "shop.charge-card";
pub(crate) const REFUND: &str = "shop.refund-card";
pub(crate) const SHIP: &str = "shop.arrange-shipping";
pub(crate) const TELL: &str = "shop.tell-customer";

/// How long a service may take for one attempt, in seconds.
const ATTEMPT_SECONDS: u64 = 30;

/// The definition, as it is deployed.
pub fn definition() -> Saga {
    // What a service refuses has a name of its own and is not asked again.
    let again = || {
        Retry::on(&["Retryable", "States.Timeout"])
            .interval(1)
            .attempts(8)
    };
    let step = |topic| Step::topic(topic).timeout(ATTEMPT_SECONDS);
    let undo = |topic| {
        // An undo that is refused by name is not asked again either: its saga waits for a person.
        let retry = Retry::any().interval(1).attempts(20).delay_max(30);
        let undo = Undo::topic(topic).timeout(ATTEMPT_SECONDS).retry(retry);
        undo.arguments(json!({
            "order.$": "$.input.order",
            "card.$": "$.input.card",
            "total_cents.$": "$.input.total_cents",
        }))
    };
    Saga::define(NAME)
        .comment("A basket becomes a parcel, or nothing at all.")
        .step("ReserveStock", step(RESERVE).result_path("$.reservation"))
        .retry(again())
        .undo(undo(RELEASE))
        .step("ChargeCard", step(CHARGE).result_path("$.payment"))
        .retry(again())
        .undo(undo(REFUND))
        .step("ArrangeShipping", step(SHIP).result_path("$.parcel"))
        .retry(again())
        .pivot("ArrangeShipping")
        .step("TellCustomer", step(TELL).result_path("$.told"))
        .retry(again())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_has_no_problems_and_nothing_to_remark() {
        let accepted = definition().build().unwrap();
        assert_eq!(accepted.remarks, []);
    }
}

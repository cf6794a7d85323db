//! Choreographies: the lens, contracts and their checks, verdicts on healthy and on broken instances.

mod check;
mod contract;
mod healthy;
mod lens;
mod monitor;
mod world;

/// The contract of the shop.
pub(crate) const SHOP: &str = include_str!("../../../../../examples/shop/choreography.yaml");

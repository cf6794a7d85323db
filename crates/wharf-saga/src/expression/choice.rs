//! When a rule of a Choice holds, in both languages.

use super::{Budget, Failure, Scope};
use crate::definition::Condition;

/// Whether a condition holds.
pub fn holds(condition: &Condition, scope: &Scope<'_>, budget: Budget) -> Result<bool, Failure> {
    let _ = (condition, scope, budget);
    Err(Failure::new(Failure::RUNTIME, "being built"))
}

//! What a saga is to do: the model of a definition, its text forms and its checks.
//!
//! A [`Definition`] is a [`Machine`] in Amazon States Language that was checked, with the hash of
//! what it says. A saga is pinned to that hash for its whole life, so the hash must depend on what
//! the machine does, and never on how somebody wrote it down: JSON or YAML, the order of keys, a
//! default that was spelled out.
//!
//! Nothing here evaluates an expression; nothing here knows a running saga.

mod hash;
mod model;

pub use hash::Hash;
pub use model::{
    Assign, Catcher, Choice, Comparison, Compensation, Condition, Data, Fail, Flow, Given, Items,
    Jitter, JsonataData, Kind, Machine, Map, Next, OnDeadline, OnFailure, OnUnknown, Order,
    Parallel, Pass, PathData, Policy, QueryLanguage, Relation, Retrier, Rule, Selection, State,
    States, Task, Test, Wait,
};

/// A machine that was checked, with the hash of what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// What the saga is to do.
    pub machine: Machine,
    /// SHA-256 of the canonical form.
    pub hash: Hash,
    /// The machine as JSON without spaces, keys sorted, defaults left out. It is itself a
    /// definition: read again, it has the same hash.
    pub canonical: String,
}

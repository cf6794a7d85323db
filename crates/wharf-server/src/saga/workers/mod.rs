//! Who does the work: each kind of worker, and how its answers come back.
//!
//! Whatever a worker sends is an input of its saga, fenced by the dispatch it names; no worker's
//! answer is trusted further than that.

pub(crate) mod activity;
pub(crate) mod claim;
mod follow;
pub(crate) mod handler;
pub(crate) mod http;
pub(crate) mod topic;
mod waiting;

pub(super) use follow::{replies, starts};

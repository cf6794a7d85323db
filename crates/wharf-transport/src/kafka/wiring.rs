//! What every subscription of a transport has in common: its way out and its questions.

use std::sync::Arc;

use super::Options;
use super::admin::Admin;
use super::outbox::Outbox;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Wiring {
    pub(super) options: Options,
    pub(super) outbox: Arc<Outbox>,
    pub(super) admin: Arc<Admin>,
}

//! 10: a saga keeps to the definition that it was started with, whatever is deployed later.

use std::collections::BTreeSet;

use wharf_saga::definition::Machine;
use wharf_saga::machine::What;

use super::{Broken, broken};
use crate::sagas::definitions::{resources, states};

pub(crate) const PROMISE: &str = "a saga keeps to the definition that it was started with";

/// What a saga may do.
#[derive(Debug)]
pub(crate) struct Pinned {
    states: BTreeSet<String>,
    resources: BTreeSet<String>,
}

impl Pinned {
    pub(crate) fn to(machine: &Machine) -> Self {
        Self {
            states: states(machine),
            resources: resources(machine),
        }
    }

    pub(crate) fn fact(&self, what: &What) -> Result<(), Broken> {
        let (kind, name, known) = match what {
            What::Entered { state, .. } => ("enters", state, &self.states),
            What::Dispatched(sent) => ("asks", &sent.resource, &self.resources),
            _ => return Ok(()),
        };
        if known.contains(name) {
            return Ok(());
        }
        broken(
            PROMISE,
            format!("a saga {kind} {name}, which its definition does not"),
        )
    }
}

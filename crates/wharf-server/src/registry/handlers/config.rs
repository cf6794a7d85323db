//! `/config`: levels and what goes with them. Reading says `compatibilityLevel`; changing takes and
//! gives back `compatibility`.

use wharf_schema::registry::{Config, ConfigUpdate, Decision, Refusal, Registry};

use super::change;
use crate::registry::answer::Answer;
use crate::registry::request::Request;
use crate::registry::store::Change;

/// `GET /config`, `GET /config/{subject}`.
pub(in crate::registry) fn get(registry: &Registry, request: &Request) -> Result<Answer, Refusal> {
    let default_to_global = request.is("defaultToGlobal");
    Answer::json(&registry.config(&request.subject(), default_to_global)?)
}

/// `PUT /config`, `PUT /config/{subject}`.
pub(in crate::registry) fn put(request: &Request) -> Result<Change, Refusal> {
    let update: ConfigUpdate = request.json()?;
    let scope = request.subject();
    Ok(change(move |registry, _now| {
        let decision = registry.put_config(&scope, &update)?;
        Ok(Decision {
            records: decision.records,
            // What was changed, not all that there is.
            answer: update.clone(),
        })
    }))
}

/// `DELETE /config`, `DELETE /config/{subject}`: the answer is what it was.
pub(in crate::registry) fn delete(request: &Request) -> Result<Change, Refusal> {
    let scope = request.subject();
    Ok(change::<Config>(move |registry, _now| {
        registry.delete_config(&scope)
    }))
}

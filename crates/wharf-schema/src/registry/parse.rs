//! Schemas that were understood, kept for a while: most requests are about the same few.
//!
//! What is kept under a name is decided by that name alone: the text, and the texts of everything it
//! refers to. So one cache serves every working copy and every context, and nothing in it is ever
//! out of date. The name is a SHA-256, because what a stranger's schema is taken for must not be
//! his choice.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sha2::{Digest, Sha256};

use super::state::State;
use super::subject::Subject;
use super::types::{Content, Refusal, Settings};
use crate::model::{Reference, SchemaType};
use crate::{Dependency, Parsed};

/// A schema that was understood, with what is asked of it most.
#[derive(Debug)]
pub(super) struct Understood {
    pub(super) parsed: Arc<Parsed>,
    canonical: OnceLock<Arc<str>>,
    normalized: OnceLock<Arc<str>>,
    resolved: OnceLock<Option<Arc<str>>>,
}

impl Understood {
    fn new(parsed: Parsed) -> Self {
        Self {
            parsed: Arc::new(parsed),
            canonical: OnceLock::new(),
            normalized: OnceLock::new(),
            resolved: OnceLock::new(),
        }
    }

    pub(super) fn canonical(&self) -> Arc<str> {
        let text = || self.parsed.canonical().into();
        Arc::clone(self.canonical.get_or_init(text))
    }

    pub(super) fn normalized(&self) -> Arc<str> {
        let text = || self.parsed.normalized().into();
        Arc::clone(self.normalized.get_or_init(text))
    }

    /// The text with everything that it refers to written out, where the kind has such a form.
    pub(super) fn resolved(&self) -> Option<Arc<str>> {
        let text = || self.parsed.formatted("resolved").map(Arc::from);
        self.resolved.get_or_init(text).clone()
    }
}

type Name = [u8; 32];

/// The schemas understood lately, in two generations: when the young one is full, it becomes the old
/// one, and what nobody asked for meanwhile is gone.
pub(super) struct Cache {
    generations: Mutex<Generations>,
    /// Schemas in one generation.
    len_max: usize,
    /// Bytes that they take.
    bytes_max: usize,
}

/// Schemas by name, each with the bytes of its text.
type Generation = HashMap<Name, (Arc<Understood>, usize)>;

#[derive(Default)]
struct Generations {
    young: Generation,
    young_bytes: usize,
    old: Generation,
}

impl Cache {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            generations: Mutex::default(),
            len_max: (settings.parsed_max / 2).max(1),
            bytes_max: (settings.parsed_bytes_max / 2).max(1),
        }
    }

    fn get(&self, name: &Name) -> Option<Arc<Understood>> {
        let mut generations = self.lock();
        if let Some((found, _)) = generations.young.get(name) {
            return Some(Arc::clone(found));
        }
        let (found, bytes) = generations.old.remove(name)?;
        self.keep(&mut generations, *name, &found, bytes);
        Some(found)
    }

    fn put(&self, name: Name, understood: &Arc<Understood>, bytes: usize) {
        self.keep(&mut self.lock(), name, understood, bytes);
    }

    fn keep(&self, all: &mut Generations, name: Name, understood: &Arc<Understood>, bytes: usize) {
        if all.young.len() >= self.len_max || all.young_bytes.saturating_add(bytes) > self.bytes_max
        {
            all.old = std::mem::take(&mut all.young);
            all.young_bytes = 0;
        }
        if all
            .young
            .insert(name, (Arc::clone(understood), bytes))
            .is_none()
        {
            all.young_bytes += bytes;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // Each change is whole in itself, so a panic elsewhere leaves nothing half done.
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at most {} schemas", 2 * self.len_max)
    }
}

/// A text with what it refers to, before it is understood.
pub(super) struct Source<'a> {
    pub(super) subject: &'a Subject,
    pub(super) kind: SchemaType,
    pub(super) text: &'a str,
    pub(super) references: &'a [Reference],
    /// Whether it is held to what only new schemas must keep, and may not refer to soft-deleted
    /// versions.
    pub(super) is_new: bool,
}

/// Understands a text, or finds that it was understood lately.
pub(super) fn understand(
    state: &State,
    settings: &Settings,
    cache: &Cache,
    source: &Source<'_>,
) -> Result<Arc<Understood>, Refusal> {
    let resolved = resolve(state, settings, source)?;
    let names = [true, false].map(|is_new| name(source, &resolved, is_new));
    let usable = if source.is_new { &names[..1] } else { &names };
    if let Some(found) = usable.iter().find_map(|name| cache.get(name)) {
        return Ok(found);
    }
    let dependencies: Vec<Dependency> = resolved
        .into_iter()
        .map(|(name, content)| Dependency {
            name: name.to_owned(),
            text: content.schema.to_string(),
        })
        .collect();
    let (kind, text, limits) = (source.kind, source.text, &settings.limits);
    let parsed = match Parsed::parse(kind, text, &dependencies, limits) {
        Err(_) if !source.is_new => {
            Parsed::parse_stored(kind, text, &dependencies, limits).map(|parsed| (names[1], parsed))
        }
        parsed => parsed.map(|parsed| (names[0], parsed)),
    };
    let (name, parsed) = parsed.map_err(|invalid| {
        Refusal::new(
            42201,
            format!("Invalid schema of type {kind}, details: {invalid}"),
        )
    })?;
    let texts = dependencies.iter().map(|dependency| dependency.text.len());
    let text_bytes = texts.sum::<usize>() + text.len();
    let bytes = parsed.memory_bytes().unwrap_or(0).max(text_bytes);
    let understood = Arc::new(Understood::new(parsed));
    cache.put(name, &understood, bytes);
    Ok(understood)
}

/// What a text is kept under, as one that keeps what new schemas must, or that need not.
fn name(source: &Source<'_>, resolved: &[(&str, &Content)], is_new: bool) -> Name {
    let mut hash = Sha256::new();
    hash.update([u8::from(is_new)]);
    hash.update(source.kind.as_str());
    let below = resolved
        .iter()
        .flat_map(|(name, content)| [*name, &*content.schema]);
    for text in std::iter::once(source.text).chain(below) {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

/// What is to be done to list what a text refers to.
enum Step<'a> {
    /// Resolve a reference of a subject.
    Resolve(&'a Reference, Subject),
    /// List it, now that those below it are listed.
    List(&'a str, &'a Content),
}

/// Everything that a text refers to, directly or not, each after what it refers to itself.
fn resolve<'a>(
    state: &'a State,
    settings: &Settings,
    source: &Source<'a>,
) -> Result<Vec<(&'a str, &'a Content)>, Refusal> {
    let mut found = Vec::new();
    if source.references.is_empty() {
        return Ok(found);
    }
    let mut names: HashSet<&str> = HashSet::new();
    let below = |references: &'a [Reference], of: &Subject, steps: &mut Vec<Step<'a>>| {
        let resolve = |reference| Step::Resolve(reference, of.clone());
        steps.extend(references.iter().rev().map(resolve));
    };
    let mut steps = Vec::new();
    below(source.references, source.subject, &mut steps);
    while let Some(step) = steps.pop() {
        match step {
            Step::List(name, content) => found.push((name, content)),
            Step::Resolve(reference, of) => {
                if !names.insert(&reference.name) {
                    continue;
                }
                if names.len() > settings.references_max {
                    let text = format!(
                        "it refers to more than {} schemas, directly or through others",
                        settings.references_max
                    );
                    return Err(Refusal::new(42201, text));
                }
                let target = Subject::parse(&reference.subject).within(of.context());
                let version = state.version(target.as_str(), reference.version);
                let Some(version) = version.filter(|version| !(source.is_new && version.deleted))
                else {
                    return Err(missing(reference, &target));
                };
                steps.push(Step::List(&reference.name, &version.content));
                below(&version.content.references, &target, &mut steps);
            }
        }
    }
    Ok(found)
}

fn missing(reference: &Reference, target: &Subject) -> Refusal {
    Refusal::new(
        42201,
        format!(
            "No schema reference found for subject \"{target}\" and version {}, which is referred to \
             as {}",
            reference.version, reference.name
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_kept_are_bounded_in_number_and_in_bytes() {
        let settings = Settings {
            parsed_max: 4,
            parsed_bytes_max: 100,
            ..Settings::default()
        };
        let cache = Cache::new(&settings);
        let parsed = Parsed::parse(SchemaType::Avro, "\"int\"", &[], &settings.limits).unwrap();
        let understood = Arc::new(Understood::new(parsed));
        for name in 0..10 {
            cache.put([name; 32], &understood, 1);
        }
        assert!(cache.get(&[9; 32]).is_some() && cache.get(&[0; 32]).is_none());
        assert!(Arc::strong_count(&understood) <= 1 + 4);
        for name in 10..20 {
            cache.put([name; 32], &understood, 40);
        }
        assert!(
            Arc::strong_count(&understood) <= 1 + 2,
            "one of 40 bytes in each"
        );
    }
}

//! Random commands against a model that is nothing but lists, and the topic under them: replayed,
//! compacted, and cut.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const SUBJECTS: [&str; 4] = ["a", "b", ":.c:a", ":.c:d"];
const TEXTS: [&str; 6] = [
    r#""string""#,
    r#"{"type":"string"}"#,
    r#""long""#,
    r#"{"type":"record","name":"R","fields":[]}"#,
    r#"{ "name":"R", "fields":[], "type":"record"}"#,
    r#"{"type":"enum","name":"E","symbols":["A"]}"#,
];

#[derive(Clone, Debug)]
enum Command {
    Register {
        subject: usize,
        text: usize,
        owner: Option<u8>,
    },
    DeleteVersion {
        subject: usize,
        version: i32,
        permanent: bool,
    },
    DeleteSubject {
        subject: usize,
        permanent: bool,
    },
    Config {
        subject: usize,
        normalize: bool,
    },
    DeleteConfig {
        subject: usize,
    },
    Mode {
        subject: usize,
        read_only: bool,
    },
}

fn command() -> impl Strategy<Value = Command> {
    let subject = 0..SUBJECTS.len();
    prop_oneof![
        6 => (subject.clone(), 0..TEXTS.len(), prop::option::weighted(0.2, 0..2_u8))
            .prop_map(|(subject, text, owner)| Command::Register { subject, text, owner }),
        4 => (subject.clone(), 1..5, any::<bool>())
            .prop_map(|(subject, version, permanent)| Command::DeleteVersion {
                subject, version, permanent
            }),
        2 => (subject.clone(), any::<bool>())
            .prop_map(|(subject, permanent)| Command::DeleteSubject { subject, permanent }),
        1 => (subject.clone(), any::<bool>())
            .prop_map(|(subject, normalize)| Command::Config { subject, normalize }),
        1 => subject.clone().prop_map(|subject| Command::DeleteConfig { subject }),
        1 => (subject, prop::bool::weighted(0.3))
            .prop_map(|(subject, read_only)| Command::Mode { subject, read_only }),
    ]
}

/// What a version says: its canonical text and the owner in its metadata.
type Says = (String, Option<u8>);

#[derive(Clone, Debug)]
struct Version {
    number: i32,
    id: i32,
    says: Says,
    deleted: bool,
}

/// The naive model.
#[derive(Clone, Debug, Default)]
struct Model {
    subjects: BTreeMap<usize, Vec<Version>>,
    /// Per context, the highest id ever given.
    highest: BTreeMap<String, i32>,
    read_only: BTreeSet<usize>,
}

fn context(subject: usize) -> String {
    Subject::parse(SUBJECTS[subject]).context().to_owned()
}

impl Model {
    fn versions(&self, subject: usize) -> &[Version] {
        self.subjects.get(&subject).map_or(&[], Vec::as_slice)
    }

    /// The number and id that registering gives, or the code of its refusal.
    fn register(
        &mut self,
        subject: usize,
        text: usize,
        owner: Option<u8>,
    ) -> Result<(i32, i32), u32> {
        let canonical = ["\"string\"", "\"string\"", "\"long\"", "R", "R", "E"][text].to_owned();
        let says = (canonical, owner);
        let live = |version: &&Version| !version.deleted && version.says == says;
        let same = self.versions(subject).iter().rfind(live);
        if let Some(same) = same {
            return Ok((same.number, same.id));
        }
        if self.read_only.contains(&subject) {
            return Err(42205);
        }
        let latest = self
            .versions(subject)
            .iter()
            .rev()
            .find(|version| !version.deleted);
        // What is not said is taken over from the version before.
        let says = (says.0, says.1.or(latest.and_then(|latest| latest.says.1)));
        let same = self
            .versions(subject)
            .iter()
            .filter(|v| !v.deleted && v.says == says);
        if let Some(same) = same.max_by_key(|version| version.number) {
            return Ok((same.number, same.id));
        }
        let number = self
            .versions(subject)
            .last()
            .map_or(1, |last| last.number + 1);
        let context_of = context(subject);
        let mut all = self
            .subjects
            .iter()
            .filter(|(other, _)| context(**other) == context_of);
        let known =
            all.find_map(|(_, versions)| versions.iter().find(|version| version.says == says));
        let id = known.map_or_else(
            || {
                let highest = self.highest.entry(context_of).or_default();
                *highest += 1;
                *highest
            },
            |known| known.id,
        );
        let versions = self.subjects.entry(subject).or_default();
        versions.retain(|version| !(version.deleted && version.id == id));
        versions.push(Version {
            number,
            id,
            says,
            deleted: false,
        });
        Ok((number, id))
    }

    fn delete_version(&mut self, subject: usize, number: i32, permanent: bool) -> Result<(), u32> {
        let read_only = self.read_only.contains(&subject);
        let versions = self
            .subjects
            .get_mut(&subject)
            .filter(|versions| !versions.is_empty());
        let versions = versions.ok_or(40401_u32)?;
        let index = versions.iter().position(|version| version.number == number);
        let index = index.ok_or(40402_u32)?;
        match (versions[index].deleted, permanent) {
            (true, false) => return Err(40406),
            _ if read_only => return Err(42205),
            (false, true) => return Err(40407),
            (true, true) => drop(versions.remove(index)),
            (false, false) => versions[index].deleted = true,
        }
        self.forget_settings(subject, permanent);
        Ok(())
    }

    fn delete_subject(&mut self, subject: usize, permanent: bool) -> Result<Vec<i32>, u32> {
        let read_only = self.read_only.contains(&subject);
        let versions = self
            .subjects
            .get_mut(&subject)
            .filter(|versions| !versions.is_empty());
        let versions = versions.ok_or(40401_u32)?;
        let live = versions.iter().any(|version| !version.deleted);
        match (live, permanent) {
            (false, false) => return Err(40404),
            _ if read_only => return Err(42205),
            (true, true) => return Err(40405),
            _ => {}
        }
        let gone = versions
            .iter()
            .filter(|version| permanent || !version.deleted);
        let gone: Vec<i32> = gone.map(|version| version.number).collect();
        if permanent {
            versions.clear();
        } else {
            versions
                .iter_mut()
                .for_each(|version| version.deleted = true);
        }
        self.forget_settings(subject, permanent);
        Ok(gone)
    }

    /// A subject without live versions loses its mode when the last one is deleted softly.
    fn forget_settings(&mut self, subject: usize, permanent: bool) {
        if !permanent && self.versions(subject).iter().all(|version| version.deleted) {
            self.read_only.remove(&subject);
        }
    }
}

fn code<T>(result: Result<T, Refusal>) -> Result<T, u32> {
    result.map_err(|refusal| refusal.code)
}

/// Commits what is allowed.
fn follow<T>(world: &mut World, decision: Result<Decision<T>, u32>) {
    if let Ok(decision) = decision {
        world.commit(Ok(decision));
    }
}

/// Runs a command on both and compares the answers.
fn run(world: &mut World, model: &mut Model, command: &Command) {
    let now = world.now();
    match *command {
        Command::Register {
            subject,
            text,
            owner,
        } => {
            let mut request = avro(TEXTS[text]);
            request.metadata = owner.map(|owner| {
                crate::model::Metadata::default().with_property("owner", owner.to_string())
            });
            let options = RegisterOptions::default();
            let name = SUBJECTS[subject].into();
            let decision = code(world.registry.register(&name, &request, options, now));
            let expected = model.register(subject, text, owner);
            let answer = decision.as_ref().map(|d| (d.answer.version, d.answer.id));
            assert_eq!(answer, expected.as_ref().copied(), "{command:?}");
            follow(world, decision);
        }
        Command::DeleteVersion {
            subject,
            version,
            permanent,
        } => {
            let (name, spec) = (SUBJECTS[subject].into(), VersionSpec::Number(version));
            let decision = code(world.registry.delete_version(&name, spec, permanent));
            let expected = model.delete_version(subject, version, permanent);
            let answer = decision.as_ref().map(|_| ()).map_err(|code| *code);
            assert_eq!(answer, expected, "{command:?}");
            follow(world, decision);
        }
        Command::DeleteSubject { subject, permanent } => {
            let name = SUBJECTS[subject].into();
            let decision = code(world.registry.delete_subject(&name, permanent));
            let expected = model.delete_subject(subject, permanent);
            assert_eq!(
                decision.as_ref().map(|d| &d.answer),
                expected.as_ref(),
                "{command:?}"
            );
            follow(world, decision);
        }
        Command::Config { subject, normalize } if !model.read_only.contains(&subject) => {
            world.config(
                SUBJECTS[subject],
                &format!(r#"{{"normalize":{normalize}}}"#),
            );
        }
        Command::DeleteConfig { subject } if !model.read_only.contains(&subject) => {
            if let Ok(decision) = world.registry.delete_config(&SUBJECTS[subject].into()) {
                world.commit(Ok(decision));
            }
        }
        Command::Mode { subject, read_only } => {
            let mode = if read_only {
                Mode::ReadOnly
            } else {
                Mode::ReadWrite
            };
            world.mode(SUBJECTS[subject], mode);
            if read_only {
                model.read_only.insert(subject);
            } else {
                model.read_only.remove(&subject);
            }
        }
        Command::Config { .. } | Command::DeleteConfig { .. } => {}
    }
}

fn agree(world: &World, model: &Model) {
    for (index, name) in SUBJECTS.iter().enumerate() {
        let history = world.registry.history(&Subject::parse(name));
        let is: Vec<_> = history
            .iter()
            .map(|v| (v.version, v.id, v.deleted))
            .collect();
        let model = model.versions(index).iter();
        let should: Vec<_> = model.map(|v| (v.number, v.id, v.deleted)).collect();
        assert_eq!(is, should, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_registry_behaves_like_its_model_and_its_topic_says_the_same(
        commands in prop::collection::vec(command(), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new();
        // Every text may follow every other.
        world.config("", r#"{"compatibility":"NONE"}"#);
        world.config(":.c:", r#"{"compatibility":"NONE"}"#);
        let mut model = Model::default();
        let mut given: BTreeMap<(String, i32), String> = BTreeMap::new();
        let mut states = vec![(world.log.len(), seen(&world.registry))];
        for command in &commands {
            run(&mut world, &mut model, command);
            agree(&world, &model);
            states.push((world.log.len(), seen(&world.registry)));
            for version in world.registry.schemas(&SchemasQuery {
                subject_prefix: ":*:".to_owned(), filter: Filter::All, ..SchemasQuery::default()
            }) {
                let context = Subject::parse(&version.subject).context().to_owned();
                let content = format!("{:?}", version.content);
                let first = given.entry((context, version.id)).or_insert_with(|| content.clone());
                prop_assert_eq!(&*first, &content, "an id means one schema for ever");
            }
        }
        let end = seen(&world.registry);
        prop_assert_eq!(&seen(&world.replayed()), &end);
        prop_assert_eq!(&seen(&replay(&compacted(&world.log, false))), &end);
        prop_assert_eq!(&seen(&replay(&compacted(&world.log, true))), &end);
        // A log that ends between two changes shows what was there between them.
        let (length, state) = &states[cut.index(states.len())];
        prop_assert_eq!(&seen(&replay(&world.log[..*length])), state);
        prop_assert!(world.registry.repairs().is_empty());
    }

    #[test]
    fn no_bytes_make_a_registry_panic(
        records in prop::collection::vec(
            (prop::option::of(any_json()), prop::option::of(any_json())), 0..20),
    ) {
        let mut registry = Registry::new(Settings::default());
        for (offset, (key, value)) in records.iter().enumerate() {
            let (key, value) = (key.as_ref().map(String::as_bytes), value.as_ref().map(String::as_bytes));
            registry.apply(i64::try_from(offset).unwrap(), Timestamp::ZERO, key, value);
        }
        seen(&registry);
        registry.repairs();
    }
}

/// Keys and values that are nearly right.
fn any_json() -> impl Strategy<Value = String> {
    let keytype = prop_oneof![
        Just("SCHEMA"),
        Just("CONFIG"),
        Just("MODE"),
        Just("NOOP"),
        Just("DELETE_SUBJECT"),
        Just("CLEAR_SUBJECT"),
        Just("CONTEXT"),
        Just("ASSOC"),
        Just("?"),
    ];
    let subject = prop_oneof![
        Just("s"),
        Just(""),
        Just(":.c:s"),
        Just(":.c:"),
        Just(":*:"),
        Just("é:")
    ];
    let number = prop_oneof![
        Just(-1_i64),
        Just(0),
        Just(1),
        Just(2),
        Just(i64::from(i32::MAX)),
        any::<i64>()
    ];
    prop_oneof![
        8 => (keytype, subject.clone(), number.clone(), 0..3).prop_map(|(keytype, subject, version, magic)| {
            format!(r#"{{"keytype":"{keytype}","subject":"{subject}","version":{version},"magic":{magic},"context":".c"}}"#)
        }),
        8 => (subject, number.clone(), number, any::<bool>()).prop_map(|(subject, version, id, deleted)| {
            format!(r#"{{"subject":"{subject}","version":{version},"id":{id},"schema":"\"string\"","deleted":{deleted},"mode":"IMPORT","compatibilityLevel":"FULL","references":[{{"name":"n","subject":"s","version":1}}]}}"#)
        }),
        1 => any::<String>(),
    ]
}

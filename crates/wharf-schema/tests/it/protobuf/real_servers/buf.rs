//! Verdicts beside those of a real `buf` (`WHARF_BUF` names its binary), on files and changes made
//! by chance.
//!
//! One run of `buf breaking` judges many pairs at once: each pair is a file of its own. The rules
//! that agree, and where we differ on purpose, are listed in docs/specs/compatibility.md; a set of
//! elements (message and field) must be the same on both sides of each.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use proptest::collection::vec;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::Value;
use wharf_schema::compat::{Difference, Policy};
use wharf_schema::{Limits, protobuf::Schema};

use super::super::generate::{Field, File, Kind, change, file};

/// How many pairs one run judges, and how many runs there are.
const PAIRS: usize = 150;
const RUNS: usize = 4;

/// The rules of buf's category for Confluent's registry, and two of its wire category that say more
/// exactly what the registry's verdict is about.
const RULES: &str = r#"{"version":"v2","breaking":{"use":["CSR","FIELD_WIRE_COMPATIBLE_TYPE","FIELD_WIRE_COMPATIBLE_CARDINALITY"]}}"#;

/// Rules and kinds that name the same elements.
const SAME: [(&str, &[&str]); 10] = [
    ("MESSAGE_NO_DELETE", &["MESSAGE_REMOVED"]),
    ("ENUM_VALUE_NO_DELETE", &["ENUM_CONST_REMOVED"]),
    ("ENUM_VALUE_SAME_NAME", &["ENUM_CONST_CHANGED"]),
    ("FIELD_SAME_NAME", &["FIELD_NAME_CHANGED"]),
    ("FIELD_SAME_JSON_NAME", &["FIELD_JSON_NAME_CHANGED"]),
    (
        "FIELD_NO_DELETE_UNLESS_NUMBER_RESERVED",
        &["FIELD_NUMBER_NOT_RESERVED"],
    ),
    ("ONEOF_NO_DELETE", &["ONEOF_REMOVED"]),
    (
        "MESSAGE_SAME_REQUIRED_FIELDS",
        &[
            "REQUIRED_FIELD_ADDED",
            "REQUIRED_FIELD_REMOVED",
            "FIELD_REQUIRED_CHANGED",
        ],
    ),
    (
        "FIELD_WIRE_COMPATIBLE_CARDINALITY of a list",
        &["FIELD_CARDINALITY_CHANGED"],
    ),
    (
        "FIELD_SAME_ONEOF inside to outside",
        &["ONEOF_FIELD_MOVED_TO_TOP_LEVEL"],
    ),
];

/// An element: a message or enum and the number or name of what in it is meant.
type Element = (String, String);

struct Pair {
    old: File,
    new: File,
    /// What tells its package from those of the other pairs.
    scope: String,
}

impl Pair {
    /// Whether both files have a field, and what is asked of the two is true.
    fn both(&self, (message, number): &Element, is_so: impl Fn(&Field, &Field) -> bool) -> bool {
        let field = |file: &File| -> Option<Field> {
            let mut messages = file.messages.iter();
            let message = messages.find(|one| format!("M{}", one.name) == *message)?;
            let mut fields = message.fields.iter();
            fields
                .find(|one| one.number.to_string() == *number)
                .cloned()
        };
        let both = field(&self.old).zip(field(&self.new));
        both.is_some_and(|(old, new)| is_so(&old, &new))
    }

    fn texts(&self) -> (String, String) {
        (self.old.text(&self.scope), self.new.text(&self.scope))
    }
}

/// What buf says: the elements by rule.
type Said = BTreeMap<String, BTreeSet<Element>>;

#[test]
fn verdicts_on_generated_changes_agree_with_buf() {
    let buf = std::env::var_os("WHARF_BUF").expect("WHARF_BUF names the binary of buf");
    let mut runner = TestRunner::default();
    let strategy = (file(), vec(change(), 1..3));
    for _ in 0..RUNS {
        let pairs: Vec<Pair> = (0..PAIRS)
            .map(|at| {
                let (old, changes) = strategy.new_tree(&mut runner).unwrap().current();
                Pair {
                    new: changes.iter().fold(old.clone(), File::with),
                    old,
                    scope: format!("x{at}"),
                }
            })
            .collect();
        let said = judged(&buf, &pairs);
        for (at, pair) in pairs.iter().enumerate() {
            let nothing = Said::new();
            agree(pair, said.get(&at).unwrap_or(&nothing));
        }
    }
}

fn judged(buf: &OsStr, pairs: &[Pair]) -> BTreeMap<usize, Said> {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    for side in [&old, &new] {
        std::fs::create_dir(side).unwrap();
    }
    let write = |folder: &Path, at: usize, text: &str| {
        std::fs::write(folder.join(format!("{at}.proto")), text).unwrap();
    };
    for (at, pair) in pairs.iter().enumerate() {
        let texts = pair.texts();
        write(&old, at, &texts.0);
        write(&new, at, &texts.1);
    }
    let output = Command::new(buf)
        .args(["breaking", ".", "--error-format", "json", "--config", RULES])
        .arg("--against")
        .arg(&old)
        .current_dir(&new)
        .env("BUF_CACHE_DIR", folder.path().join("cache"))
        .output()
        .unwrap();
    // 100 says that something breaks; anything else than that or 0 is a failure of buf itself.
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 100)), "{errors}");
    let mut said: BTreeMap<usize, Said> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let path = line["path"].as_str().unwrap();
        let at = path.trim_end_matches(".proto").parse().unwrap();
        let (rule, element) = element(
            line["type"].as_str().unwrap(),
            line["message"].as_str().unwrap(),
        );
        let rules = said.entry(at).or_default();
        rules.entry(rule).or_default().insert(element);
    }
    said
}

/// The element that buf's sentence is about, with what tells two uses of one rule apart.
fn element(rule: &str, sentence: &str) -> (String, Element) {
    let after = |word: &str| {
        let rest = &sentence[sentence.find(word)? + word.len()..];
        rest.split('"').nth(1).map(str::to_owned)
    };
    let rule = match rule {
        "FIELD_SAME_ONEOF" if sentence.contains("inside to outside") => {
            "FIELD_SAME_ONEOF inside to outside".to_owned()
        }
        "FIELD_WIRE_COMPATIBLE_CARDINALITY" => {
            let is_list = |word: &str| after(word).is_some_and(|label| label == "repeated");
            let is_map = |word: &str| after(word).is_some_and(|label| label == "map");
            let lists = usize::from(is_list(" from ")) + usize::from(is_list(" to "));
            if lists == 1 && !is_map(" from ") && !is_map(" to ") {
                "FIELD_WIRE_COMPATIBLE_CARDINALITY of a list".to_owned()
            } else {
                rule.to_owned()
            }
        }
        other => other.to_owned(),
    };
    let scope = after("on message ")
        .or_else(|| after("on enum "))
        .or_else(|| after("message "))
        .or_else(|| after("Message "));
    let inner = after("ield ")
        .or_else(|| after("enum value "))
        .or_else(|| after("Enum value "))
        .or_else(|| after("oneof "));
    (rule, (scope.unwrap_or_default(), inner.unwrap_or_default()))
}

/// Our differences as elements: the first and the last step of the path in the sentence.
fn found(differences: &[Difference], kinds: &[&str]) -> BTreeSet<Element> {
    let chosen = differences
        .iter()
        .filter(|difference| kinds.contains(&difference.kind));
    chosen
        .map(|difference| {
            let rest = difference.message.split("'#/").nth(1).unwrap();
            let mut steps = rest.split('\'').next().unwrap().split('/');
            let first = steps.next().unwrap_or_default().to_owned();
            (first, steps.next_back().unwrap_or_default().to_owned())
        })
        .collect()
}

fn agree(pair: &Pair, said: &Said) {
    let (old, new) = pair.texts();
    let parse = |text: &str| Schema::parse(text, &[], &Limits::default()).unwrap();
    let (writer, reader) = (parse(&old), parse(&new));
    let differences = reader
        .reads(&writer, Policy::Strict, &Limits::default())
        .unwrap();
    let kinds: Vec<_> = differences
        .iter()
        .map(|one| (one.kind, &one.path))
        .collect();
    let context =
        format!("{old}\n--- became ---\n{new}\n--- ours ---\n{kinds:#?}\n--- buf ---\n{said:#?}");
    let none = BTreeSet::new();
    let of = |rule: &str| said.get(rule).unwrap_or(&none).clone();
    let is_moved = !found_any(&differences, "PACKAGE_CHANGED");
    assert_eq!(of("FILE_SAME_PACKAGE").is_empty(), is_moved, "{context}");
    if !is_moved {
        // Buf compares types by their full names: with the package, all of them are others.
        return;
    }
    for (rule, kinds) in SAME {
        // The entry of a map is no message of its own for us.
        let mut said = of(rule);
        said.retain(|element| entry_number(element).is_none());
        assert_eq!(said, found(&differences, kinds), "{rule}: {context}");
    }
    let moved = of("FIELD_SAME_ONEOF");
    let ours = found(
        &differences,
        &[
            "MULTIPLE_FIELDS_MOVED_TO_ONEOF",
            "FIELD_MOVED_TO_EXISTING_ONEOF",
        ],
    );
    for (message, _) in &ours {
        let is_found = moved.iter().any(|(one, _)| one == message);
        assert!(is_found, "only we find {message}: {context}");
    }
    types_agree(
        pair,
        &differences,
        &of("FIELD_WIRE_COMPATIBLE_TYPE"),
        &context,
    );
}

fn found_any(differences: &[Difference], kind: &str) -> bool {
    differences.iter().any(|one| one.kind == kind)
}

/// Buf finds every change of type that breaks, and beyond them only those that we warn of.
fn types_agree(pair: &Pair, differences: &[Difference], said: &BTreeSet<Element>, context: &str) {
    let broken = found(
        differences,
        &[
            "FIELD_KIND_CHANGED",
            "FIELD_SCALAR_KIND_CHANGED",
            "FIELD_NAMED_TYPE_CHANGED",
        ],
    );
    let warned = found(differences, &["FIELD_SCALAR_TYPE_CHANGED"]);
    // In the entry of a map, the field is the map's: the name says which, not of which message.
    let numbers: BTreeSet<String> = said.iter().filter_map(entry_number).collect();
    let is_found = |one: &&Element| said.contains(*one) || numbers.contains(&one.1);
    let missed: Vec<_> = broken.iter().filter(|one| !is_found(one)).collect();
    assert!(missed.is_empty(), "buf does not find {missed:?}: {context}");
    let known: BTreeSet<&Element> = broken.union(&warned).collect();
    let is_ours = |one: &&Element| match entry_number(one) {
        Some(number) => known.iter().any(|ours| ours.1 == number),
        // A renamed map has another type of entry for buf.
        None => known.contains(*one) || pair.both(one, |old, new| is_map(old) && is_map(new)),
    };
    let silent: Vec<_> = said.iter().filter(|one| !is_ours(one)).collect();
    assert!(silent.is_empty(), "only buf finds {silent:?}: {context}");
}

fn is_map(field: &Field) -> bool {
    matches!(field.kind, Kind::Map(..))
}

/// The number of the map field that an element is in the entry of: `F7Entry` is that of 7, and so
/// is `F57Entry` after the field was renamed.
fn entry_number((scope, _): &Element) -> Option<String> {
    let entry = scope.rsplit('.').next()?;
    let name: u32 = entry
        .strip_prefix('F')?
        .strip_suffix("Entry")?
        .parse()
        .ok()?;
    Some((if name > 50 { name - 50 } else { name }).to_string())
}

//! The parts of the suite: what each needs, starts and runs.
//!
//! Every part gets a node of its own in a fresh data directory; nothing is shared between them but
//! the built binary and the Apache Kafka that clients are compared on.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use harness::{Database, DatabaseKind, Launch};

use super::compat::{self, PREFIX, Peer};
use super::{
    Outcome, buf, claims, counted, debezium, features, registry, step_functions, transports,
};
use crate::shell::{self, say};
use crate::workspace::{EVERYTHING, REAL_SERVERS, Workspace};
use crate::{check, fuzz, setup, tidy};

/// One part of the suite.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) run: fn(&Context<'_>) -> Result<Outcome>,
}

/// All parts, the quick ones first.
pub(super) const PARTS: &[Part] = &[
    Part {
        name: "format",
        about: "rustfmt changes nothing",
        run: |cx| check::format(cx.workspace),
    },
    Part {
        name: "tidy",
        about: "the project's own rules",
        run: |cx| tidy::part(cx.workspace),
    },
    Part {
        name: "clippy",
        about: "no lint speaks up",
        run: |cx| check::clippy(cx.workspace),
    },
    Part {
        name: "deny",
        about: "licences, sources and bans",
        run: |cx| check::deny(cx.workspace),
    },
    Part {
        name: "rust",
        about: "the Rust tests that need no server but a database",
        run: rust,
    },
    Part {
        name: "transports",
        about: "the library's transports against the real servers",
        run: transports::part,
    },
    Part {
        name: "claim-check",
        about: "the library's claim checks in S3, against moto's server",
        run: claims::part,
    },
    Part {
        name: "compat/features",
        about: "every client has a case for every feature, or a reason",
        run: features::part,
    },
    Part {
        name: "compat/buf",
        about: "verdicts on changes of Protobuf schemas beside those of PyPI's buf",
        run: buf::part,
    },
    Part {
        name: "compat/kcat",
        about: "Debian's kcat",
        run: |cx| compat::client(cx, "kcat"),
    },
    Part {
        name: "compat/confluent-kafka",
        about: "PyPI's confluent-kafka",
        run: |cx| compat::client(cx, "confluent-kafka"),
    },
    Part {
        name: "compat/kafka-python",
        about: "PyPI's kafka-python",
        run: |cx| compat::client(cx, "kafka-python"),
    },
    Part {
        name: "compat/aiokafka",
        about: "PyPI's aiokafka",
        run: |cx| compat::client(cx, "aiokafka"),
    },
    Part {
        name: "compat/rdkafka",
        about: "the rdkafka crate",
        run: |cx| compat::client(cx, "rdkafka"),
    },
    Part {
        name: "compat/kafkajs",
        about: "npm's kafkajs",
        run: |cx| compat::client(cx, "kafkajs"),
    },
    Part {
        name: "compat/franz-go",
        about: "the Go module franz-go",
        run: |cx| compat::client(cx, "franz-go"),
    },
    Part {
        name: "compat/sarama",
        about: "the Go module sarama",
        run: |cx| compat::client(cx, "sarama"),
    },
    Part {
        name: "compat/kafka-go",
        about: "segmentio's Go module kafka-go",
        run: |cx| compat::client(cx, "kafka-go"),
    },
    Part {
        name: "compat/kafka-tools",
        about: "Apache Kafka's own command-line tools",
        run: |cx| compat::java(cx, "kafka-tools"),
    },
    Part {
        name: "compat/streams",
        about: "Kafka Streams with exactly-once processing",
        run: |cx| compat::java(cx, "streams"),
    },
    Part {
        name: "compat/mirror-maker",
        about: "MirrorMaker 2 to an Apache Kafka and back",
        run: compat::mirror_maker,
    },
    Part {
        name: "compat/registry/confluent-python",
        about: "PyPI's confluent-kafka with its serialisers and the registry",
        run: |cx| registry::client(cx, "confluent-python"),
    },
    Part {
        name: "compat/registry/confluent-javascript",
        about: "npm's @confluentinc/schemaregistry",
        run: |cx| registry::client(cx, "confluent-javascript"),
    },
    Part {
        name: "compat/registry/kafkajs",
        about: "npm's @kafkajs/confluent-schema-registry",
        run: |cx| registry::client(cx, "kafkajs"),
    },
    Part {
        name: "compat/registry/confluent-go",
        about: "the Go module confluent-kafka-go/v2/schemaregistry",
        run: |cx| registry::client(cx, "confluent-go"),
    },
    Part {
        name: "compat/registry/franz-go",
        about: "the Go module franz-go/pkg/sr",
        run: |cx| registry::client(cx, "franz-go"),
    },
    Part {
        name: "compat/registry/confluent-java",
        about: "Confluent's Java client and serialiser, as Apache Pinot ships them",
        run: |cx| registry::client(cx, "confluent-java"),
    },
    Part {
        name: "compat/registry/rust",
        about: "the crate schema_registry_converter",
        run: |cx| registry::client(cx, "rust"),
    },
    Part {
        name: "compat/boto3",
        about: "PyPI's boto3 and the AWS command line with the Step Functions API",
        run: step_functions::part,
    },
    Part {
        name: "debezium",
        about: "the outbox relay sends what a real Debezium sends, record by record",
        run: debezium::part,
    },
    Part {
        name: "duplicates",
        about: "the duplicate-delivery test finds broken consumers in Python and blames no other",
        run: duplicates,
    },
    Part {
        name: "kill",
        about: "kill -9 under load, restart, check what was promised",
        run: |cx| kill(cx, "kill", &[]),
    },
    Part {
        name: "kill/relays",
        about: "kill -9 of relays, broker, Postgres and MariaDB: each committed row arrives once",
        run: |cx| {
            setup::databases(cx.workspace)?;
            kill(cx, "kill/relays", &["--relays"])
        },
    },
    Part {
        name: "kill/sagas",
        about: "kill -9 of the orchestrator of sagas and its workers: the sum of all accounts stays",
        run: |cx| kill(cx, "kill/sagas", &["--sagas"]),
    },
    Part {
        name: "disk",
        about: "the real binary on a disk that runs full and on one that fails",
        run: disk,
    },
    Part {
        name: "demo",
        about: "the demo on SQLite, on Postgres with and without its log, partly in Python, and on each as sagas of the orchestrator, ends with numbers that add up and agree with what the node saw",
        run: demo,
    },
    Part {
        name: "bench",
        about: "the benchmarks of the library and of sagas run, in short",
        run: bench,
    },
    Part {
        name: "sim",
        about: "thousands of seeds of the simulated disk, broker and network",
        run: sim,
    },
    Part {
        name: "sim-sagas",
        about: "ten thousand seeds of simulated sagas, their workers and people, over a ledger that breaks or the log on a disk that does",
        run: sim_sagas,
    },
    Part {
        name: "fuzz",
        about: "libFuzzer for a while on each decoder, and the planted bug is found",
        run: |cx| fuzz::part(cx.workspace),
    },
];

/// The names that `--only` takes.
pub(super) fn selector() -> PossibleValuesParser {
    PossibleValuesParser::new(
        PARTS
            .iter()
            .map(|part| part.name)
            .chain(["compat", "compat/registry"]),
    )
}

/// Whether `name` is among `only`; nothing chosen means everything.
pub(super) fn selected(name: &str, only: &[String]) -> bool {
    let below = |whole: &str| {
        name.strip_prefix(whole)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    only.is_empty() || only.iter().any(|chosen| chosen == name || below(chosen))
}

/// The data directories of a run are below a folder of this name and the process id.
const RUN: &str = "run-";

/// Removes what earlier runs left, but not what one that is still at work uses.
fn remove_runs_that_ended(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(process) = name.strip_prefix(RUN) else {
            continue;
        };
        if !Path::new("/proc").join(process).exists() {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// The seeds that the simulator runs: the first, and how many.
const SIM_FROM: &str = "100000";
const SIM_SEEDS: &str = "3000";
const SIM_SAGAS: &str = "10000";

/// What the parts share.
pub(crate) struct Context<'a> {
    pub(super) workspace: &'a Workspace,
    /// Data directories of this run; removed at its end, or at the next start when it failed.
    pub(super) scratch: PathBuf,
    wharf: OnceCell<PathBuf>,
    pub(super) peer: Peer,
}

impl<'a> Context<'a> {
    pub(super) fn new(workspace: &'a Workspace) -> Result<Self> {
        remove_runs_that_ended(&workspace.keep(""))?;
        let scratch = workspace.keep(&format!("{RUN}{}", std::process::id()));
        fs::create_dir_all(&scratch)?;
        Ok(Self {
            workspace,
            scratch,
            wharf: OnceCell::new(),
            peer: Peer::default(),
        })
    }

    /// Stops what the next part has no use for.
    pub(super) fn before(&self, part: &Part) {
        if !part.name.starts_with(PREFIX) {
            self.peer.stop();
        }
    }

    /// Removes the data directories, unless somebody will want to look at them.
    pub(super) fn clean_up(&self, good: bool) {
        self.peer.stop();
        if good {
            // What cannot be removed is in the target directory, where it hurts nobody.
            fs::remove_dir_all(&self.scratch).ok();
        } else {
            say(format!(
                "Data and logs are kept until the next run: {}",
                self.scratch.display()
            ));
        }
    }

    /// The binary under test, built once.
    pub(super) fn wharf(&self) -> Result<&Path> {
        if let Some(built) = self.wharf.get() {
            return Ok(built);
        }
        let built = self.workspace.build_all("wharf")?;
        Ok(self.wharf.get_or_init(|| built))
    }
}

/// The tests that need real servers are left to the parts `transports`, `claim-check` and
/// `compat/buf`, which have them.
fn rust(cx: &Context<'_>) -> Result<Outcome> {
    setup::databases(cx.workspace)?;
    let mut command = cx.workspace.cargo(&["test", "--locked", "--no-fail-fast"]);
    command.args(EVERYTHING);
    command.args(["--", "--skip", REAL_SERVERS]);
    counted(cx.workspace, &cx.workspace.log("rust"), command)
}

/// The consumers read from a node that is configured as for the clients' cases.
fn duplicates(cx: &Context<'_>) -> Result<Outcome> {
    let interpreter = match setup::python(cx.workspace) {
        Ok(interpreter) => interpreter,
        Err(error) => return Ok(Outcome::skipped(format!("{error:#}"))),
    };
    let data = cx.scratch.join("duplicates");
    let mut launch = Launch::new(cx.wharf()?, &data, &data.with_extension("server.log"));
    let config = cx.workspace.root.join("compat/wharf.toml");
    launch.arguments = vec!["--config".to_owned(), config.display().to_string()];
    let node = launch.start()?;
    let mut command = cx
        .workspace
        .command(interpreter, &["compat/duplicates/run.py"]);
    command.arg(cx.wharf()?).arg(&node.kafka);
    command.env("TMPDIR", &cx.scratch);
    let outcome = counted(cx.workspace, &cx.workspace.log("duplicates"), command)?;
    node.stop()?;
    Ok(outcome)
}

fn kill(cx: &Context<'_>, name: &str, arguments: &[&str]) -> Result<Outcome> {
    let binary = cx.workspace.build_all("kill-test")?;
    let mut command = cx.workspace.command(binary, arguments);
    command
        .arg("--wharf")
        .arg(cx.wharf()?)
        .arg("--scratch")
        .arg(cx.scratch.join(name));
    counted(cx.workspace, &cx.workspace.log(name), command)
}

/// A small file system is mounted for it, which not everybody may do.
fn disk(cx: &Context<'_>) -> Result<Outcome> {
    if let Err(error) = setup::debian(cx.workspace, "strace", "strace") {
        return Ok(Outcome::skipped(format!("{error:#}")));
    }
    let binary = cx.workspace.build_all("disk-test")?;
    let mut command = cx.workspace.command(binary, &["--strace", "strace"]);
    command.arg("--wharf").arg(cx.wharf()?);
    command.arg("--scratch").arg(cx.scratch.join("disk"));
    let log = cx.workspace.log("disk");
    let mut outcome = counted(cx.workspace, &log, command)?;
    let text = fs::read_to_string(&log)?;
    let skipped = text.lines().filter_map(|line| line.strip_prefix("SKIP "));
    outcome.skipped.extend(skipped.map(str::to_owned));
    Ok(outcome)
}

/// The demo's own exit code says whether its numbers add up: with all services in Rust, on each
/// database, and with one in Python.
fn demo(cx: &Context<'_>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    run_demo(cx, "demo", &mut outcome, |_| {})?;
    run_demo(cx, "demo-orchestration", &mut outcome, |command| {
        command.args(["--style", "orchestration"]);
    })?;
    setup::databases(cx.workspace)?;
    for wal_level in ["logical", "replica"] {
        let setting = format!("wal_level={wal_level}");
        let database = Database::start(DatabaseKind::Postgres, &["-c", &setting])?;
        let (user, folder) = (database.user(), database.folder().display());
        let url = format!("postgres://{user}@localhost/postgres?host={folder}");
        for (style, name) in [("choreography", ""), ("orchestration", "-orchestration")] {
            run_demo(
                cx,
                &format!("demo-postgres-{wal_level}{name}"),
                &mut outcome,
                |command| {
                    command.args(["--style", style, "--postgres", &url]);
                },
            )?;
        }
    }
    match setup::python(cx.workspace) {
        Ok(interpreter) => run_demo(cx, "demo-python", &mut outcome, |command| {
            command.arg("--python-with").arg(interpreter);
        })?,
        Err(error) => outcome.skipped.push(format!("--python: {error:#}")),
    }
    Ok(outcome)
}

fn run_demo(
    cx: &Context<'_>,
    name: &str,
    outcome: &mut Outcome,
    more: impl FnOnce(&mut Command),
) -> Result<()> {
    let mut command = cx
        .workspace
        .command(cx.wharf()?, &["demo", "--orders", "500", "--for", "2m"]);
    command.arg("--keep").arg(cx.scratch.join(name));
    more(&mut command);
    ran(cx, outcome, name, command)
}

/// One command of a part: it passes or fails as a whole.
fn ran(cx: &Context<'_>, outcome: &mut Outcome, name: &str, mut command: Command) -> Result<()> {
    let log = cx.workspace.log(name);
    if shell::logged(&mut command, &log, |_| {})?.success() {
        outcome.passed += 1;
    } else {
        outcome.failed += 1;
        shell::show_tail(&log);
    }
    Ok(())
}

/// Little of everything that two benchmarks measure, of sagas without the peers: their figures mean nothing
/// here.
fn bench(cx: &Context<'_>) -> Result<Outcome> {
    let wharf = cx.wharf()?;
    let bench = wharf.with_file_name("wharf-bench");
    let mut command = cx.workspace.command(&bench, &["library", "--quick"]);
    command.arg("--wharf").arg(wharf);
    command.arg("--scratch").arg(cx.scratch.join("bench"));
    command.arg("--out").arg(cx.scratch.join("bench-page"));
    let mut outcome = Outcome::default();
    match setup::go_program(cx.workspace, "bench/peers/watermill", "watermill", ".") {
        Ok(program) => {
            command.arg("--watermill").arg(program);
        }
        Err(error) => outcome.skipped.push(format!("Watermill: {error:#}")),
    }
    ran(cx, &mut outcome, "bench", command)?;
    let mut command = cx.workspace.command(bench, &["saga", "--quick"]);
    command
        .args(["--servers", "wharf-rust,wharf-kafka"])
        .arg("--wharf")
        .arg(wharf);
    command.arg("--scratch").arg(cx.scratch.join("bench-saga"));
    command.arg("--out").arg(cx.scratch.join("bench-page"));
    ran(cx, &mut outcome, "bench-saga", command)?;
    Ok(outcome)
}

/// Other seeds than the Rust tests take, from a build for speed: thousands within two minutes.
fn sim(cx: &Context<'_>) -> Result<Outcome> {
    let binary = cx.workspace.build_simulator()?;
    let command = cx
        .workspace
        .command(binary, &["--from", SIM_FROM, "--seeds", SIM_SEEDS]);
    counted(cx.workspace, &cx.workspace.log("sim"), command)
}

/// The same of sagas, with every check of a debug build: to build the node for speed takes longer than
/// the seeds do.
fn sim_sagas(cx: &Context<'_>) -> Result<Outcome> {
    let binary = cx.workspace.build_all("wharf-sim")?;
    let seeds = ["--sagas", "--from", SIM_FROM, "--seeds", SIM_SAGAS];
    let command = cx.workspace.command(binary, &seeds);
    counted(cx.workspace, &cx.workspace.log("sim-sagas"), command)
}

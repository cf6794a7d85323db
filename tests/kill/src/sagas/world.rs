//! The processes, and the adversary that kills and stops them.
//!
//! ```text
//!  clients, operators ─► node ─► topic `north` ─► north-1, north-2 ─► north.db
//!                          └───► HTTP ──────────► south-1, south-2 ─► south.db
//! ```

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Group, Launch, Mount, Node, Port};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::json;

use super::bank::Bank;
use super::machines::{self, NORTH, TYPES};
use super::worker::WORKER;
use super::{BANKS, http};
use crate::random::Random;
use crate::say;

/// The budget of a start, for an unoptimised build on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(15);
/// How long a worker may take until it answers after its start.
const SERVES_WITHIN: Duration = Duration::from_secs(20);
/// The size of the node's disk, where one may be mounted for it.
const DISK_BYTES: u64 = 160 << 20;
/// What fills it.
const BALLAST: &str = "ballast";
/// How many records the node gets meanwhile that nobody reads, and how large they are: more than its
/// journal has room for.
const PRESSED: usize = 24;
const PRESSED_BYTES: usize = 900_000;
/// While this file exists, no undo is declined out of a mood.
const SWEET: &str = "sweet";

/// What is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    Node,
    /// The node, and again while it starts.
    NodeTwice,
    /// One worker that reads the topic.
    Reader,
    /// One worker that is asked over HTTP.
    Server,
    NodeAndWorkers,
    /// The disk of the node runs full, and has room again after a while; it may be killed meanwhile.
    FullDisk,
    /// These are stopped for a while (SIGSTOP), long enough that others believe them dead.
    FrozenNode,
    FrozenReader,
    FrozenServer,
}

/// What is struck in turn: each in any order, and then each again.
pub(super) const VICTIMS: [Victim; 10] = [
    Victim::Node,
    Victim::Node,
    Victim::NodeTwice,
    Victim::Reader,
    Victim::Server,
    Victim::NodeAndWorkers,
    Victim::FullDisk,
    Victim::FrozenNode,
    Victim::FrozenReader,
    Victim::FrozenServer,
];

/// A worker's process, which is started again whenever it ended.
struct Worker {
    name: String,
    bank: &'static str,
    /// Its address, of one that is asked over HTTP.
    address: Option<(String, Port)>,
    group: Option<Group>,
    lives: u64,
    frozen: bool,
}

/// The processes.
pub(super) struct World {
    launch: Launch,
    node: Option<Node>,
    workers: Vec<Worker>,
    _ports: [Port; 2],
    /// The node's disk.
    disk: Option<Mount>,
    scratch: PathBuf,
    seed: u64,
    /// How often a process was killed, and how often a worker ended itself.
    pub(super) kills: u64,
    pub(super) deaths: u64,
    /// How often somebody met a full disk.
    pub(super) fulls: u64,
}

impl World {
    /// Starts everything, with its data below `scratch`; alarms go to that address.
    pub(super) fn start(binary: &Path, scratch: &Path, webhook: &str, seed: u64) -> Result<Self> {
        for bank in BANKS {
            let file = scratch.join(bank).with_extension("db");
            Bank::open(&file)?.found(&machines::accounts(bank))?;
        }
        let disk = Mount::of(&scratch.join("disk"), DISK_BYTES);
        if let Err(error) = &disk {
            say(&format!(
                "SKIP full disks: a file system cannot be mounted: {error:#}"
            ));
        }
        let ports = [Port::reserve()?, Port::reserve()?];
        let [kafka, api] = ports
            .each_ref()
            .map(|port| format!("127.0.0.1:{}", port.number()));
        let mut launch = Launch::new(
            binary,
            &scratch.join("disk").join("data"),
            &scratch.join("server.log"),
        );
        let config = scratch.join("wharf.toml");
        let text = format!(
            "[groups]\ninitial-rebalance-delay = \"100ms\"\n[log]\njournal-file-size = \"8MiB\"\n\
             journal-files-max = 2\n[saga]\npartitions = 3\nhttp-timeout = \"6s\"\n\
             alarm-webhook = \"http://{webhook}/alarms\"\n"
        );
        std::fs::write(&config, text)?;
        launch.arguments = vec!["--config".to_owned(), config.display().to_string()];
        launch.kafka_listen = kafka;
        launch.http_listen = api;
        let node = launch.start()?;
        let mut workers = Vec::new();
        for (bank, number) in [(NORTH, 1), (NORTH, 2), ("south", 1), ("south", 2)] {
            let port = Port::reserve()?;
            let address = format!("127.0.0.1:{}", port.number());
            workers.push(Worker {
                name: format!("{bank}-{number}"),
                bank,
                address: (bank != NORTH).then_some((address, port)),
                group: None,
                lives: 0,
                frozen: false,
            });
        }
        let mut world = Self {
            launch,
            node: Some(node),
            workers,
            _ports: ports,
            disk: disk.ok(),
            scratch: scratch.to_owned(),
            seed,
            kills: 0,
            deaths: 0,
            fulls: 0,
        };
        world.deploy()?;
        world.tend()?;
        Ok(world)
    }

    fn deploy(&self) -> Result<()> {
        let addresses: Vec<&str> = self.south().collect();
        let &[south, other] = addresses.as_slice() else {
            anyhow::bail!("there are not two workers in the south");
        };
        for name in TYPES {
            let definition = machines::definition(name, [south, other]);
            let path = format!("/api/v1/saga-definitions/{name}?by=ada");
            let (status, told) = http::ask(self.api(), "PUT", &path, Some(&definition))?;
            ensure!(status == 201, "{name}: {status} {told}");
        }
        Ok(())
    }

    pub(super) fn kafka(&self) -> &str {
        &self.launch.kafka_listen
    }

    pub(super) fn api(&self) -> &str {
        &self.launch.http_listen
    }

    pub(super) fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn south(&self) -> impl Iterator<Item = &str> {
        let addresses = self
            .workers
            .iter()
            .filter_map(|worker| worker.address.as_ref());
        addresses.map(|(address, _)| address.as_str())
    }

    /// Whether the node has a disk of its own, which can be filled.
    pub(super) fn has_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Whether undos are declined out of a mood.
    pub(super) fn sweeten(&self, sweet: bool) -> Result<()> {
        let file = self.scratch.join(SWEET);
        match sweet {
            true => std::fs::write(file, "")?,
            false if file.exists() => std::fs::remove_file(file)?,
            false => {}
        }
        Ok(())
    }

    /// Starts every worker that is not there.
    pub(super) fn tend(&mut self) -> Result<()> {
        let Self {
            launch,
            workers,
            scratch,
            seed,
            deaths,
            ..
        } = self;
        for (number, worker) in (0_u64..).zip(workers) {
            if let Some(group) = &mut worker.group
                && let Some(status) = group.ended()?
            {
                ensure!(
                    status.code().is_none(),
                    "{} ended with {status}; see its log",
                    worker.name
                );
                worker.group = None;
                *deaths += 1;
            }
            if worker.group.is_none() {
                worker.lives += 1;
                let seed = Random::new(*seed ^ (number << 32) ^ worker.lives).next();
                worker.group = Some(spawn(worker, launch, scratch, seed)?);
            }
        }
        Ok(())
    }

    /// Whether no worker over HTTP is in the middle of a request.
    pub(super) fn is_idle(&self) -> bool {
        self.south().all(|address| {
            let told = http::read(address, "/");
            told.is_ok_and(|told| told == json!({ "busy": 0 }))
        })
    }

    /// Waits for a time of no meaning, while workers that died come back.
    pub(super) fn pass(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        loop {
            self.tend()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::park_timeout(left.min(Duration::from_millis(100)));
        }
    }

    /// Kills or stops, waits for a while, and starts again.
    pub(super) fn strike(&mut self, victim: Victim, random: &mut Random) -> Result<()> {
        let reader = usize::try_from(random.below(2))?;
        let server = 2 + usize::try_from(random.below(2))?;
        match victim {
            Victim::Node => self.kill_node()?,
            Victim::NodeTwice => {
                self.kill_node()?;
                let life = Duration::from_millis(random.below(400));
                self.launch.start_and_kill(life)?;
                self.kills += 1;
            }
            Victim::Reader => self.kill_worker(reader)?,
            Victim::Server => self.kill_worker(server)?,
            Victim::NodeAndWorkers => {
                let node_first = random.below(2) == 0;
                if node_first {
                    self.kill_node()?;
                }
                for worker in 0..self.workers.len() {
                    self.kill_worker(worker)?;
                }
                if !node_first {
                    self.kill_node()?;
                }
            }
            Victim::FullDisk => self.fill_disk(random)?,
            Victim::FrozenNode => {
                self.freeze(None);
                self.pass(Duration::from_millis(300 + random.below(2_000)))?;
                self.thaw();
            }
            Victim::FrozenReader | Victim::FrozenServer => {
                let worker = match victim {
                    Victim::FrozenReader => reader,
                    _ => server,
                };
                self.freeze(Some(worker));
                // Beyond the time-out of a step, now and then beyond that of a member of the group.
                self.pass(Duration::from_millis(5_000 + random.below(5_000)))?;
                if random.below(2) == 0 {
                    self.kill_node()?;
                    self.up()?;
                }
                self.thaw();
            }
        }
        self.pass(Duration::from_millis(random.below(400)))?;
        self.up()
    }

    /// Leaves no room on the node's disk for a while.
    fn fill_disk(&mut self, random: &mut Random) -> Result<()> {
        if self.disk.is_none() {
            return Ok(());
        }
        let ballast = self.scratch.join("disk").join(BALLAST);
        let until = Instant::now() + Duration::from_millis(2_000 + random.below(2_000));
        let is_killed = random.below(2) == 0;
        let producer = self.presser()?;
        let mut file = File::create(&ballast)?;
        take_all(&mut file);
        let pressed = vec![7; PRESSED_BYTES];
        for _ in 0..PRESSED {
            // What is refused shows that there is no room.
            let record = BaseRecord::<(), [u8]>::to(BALLAST).payload(&pressed);
            producer.send(record).ok();
        }
        let mut is_full = false;
        while Instant::now() < until {
            producer.poll(Duration::ZERO);
            is_full |= self.is_in_trouble();
            // What the node gives free is taken, too.
            take_all(&mut file);
            self.pass(Duration::from_millis(20))?;
        }
        self.fulls += u64::from(is_full);
        if is_killed {
            self.kill_node()?;
        }
        drop(file);
        Ok(std::fs::remove_file(ballast)?)
    }

    /// Hands the node more than its journal holds, which it cannot put anywhere else. The topic is
    /// made while there is room.
    fn presser(&self) -> Result<BaseProducer> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.kafka())
            .set("message.timeout.ms", "5000")
            .create()?;
        let record = BaseRecord::<(), str>::to(BALLAST).payload("first");
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(Duration::from_secs(5))?;
        Ok(producer)
    }

    /// Whether the node says that sagas cannot use their topics.
    fn is_in_trouble(&self) -> bool {
        let told = http::read(self.api(), "/api/v1/sagas/counts");
        told.is_ok_and(|told| told["trouble"].is_string())
    }

    fn freeze(&mut self, worker: Option<usize>) {
        let Some(worker) = worker.and_then(|index| self.workers.get_mut(index)) else {
            if let Some(node) = &self.node {
                node.freeze();
            }
            return;
        };
        if let Some(group) = &worker.group {
            group.freeze();
            worker.frozen = true;
        }
    }

    fn thaw(&mut self) {
        if let Some(node) = &self.node {
            node.thaw();
        }
        for worker in &mut self.workers {
            if let Some(group) = worker.group.as_ref().filter(|_| worker.frozen) {
                group.thaw();
            }
            worker.frozen = false;
        }
    }

    fn kill_node(&mut self) -> Result<()> {
        let node = self.node.take().context("the node is gone")?;
        self.kills += 1;
        node.kill()
    }

    fn kill_worker(&mut self, index: usize) -> Result<()> {
        let worker = self.workers.get_mut(index).context("no such worker")?;
        if let Some(mut group) = worker.group.take() {
            group.kill()?;
            self.kills += 1;
        }
        Ok(())
    }

    fn up(&mut self) -> Result<()> {
        if self.node.is_none() {
            let node = self.launch.start()?;
            let took = node.started_in;
            ensure!(took <= START_WITHIN, "a start took {took:?}");
            self.node = Some(node);
        }
        self.tend()
    }

    /// Kills the node, and starts it again.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.kill_node()?;
        self.up()
    }

    /// Waits until every worker over HTTP serves.
    pub(super) fn serve(&mut self) -> Result<()> {
        let deadline = Instant::now() + SERVES_WITHIN;
        while !self.is_idle() {
            ensure!(Instant::now() < deadline, "a worker does not serve");
            self.pass(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Stops the node in an orderly way, and ends the workers.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.workers.clear();
        let stopped = self.node.take().map_or(Ok(()), Node::stop);
        self.disk = None;
        stopped
    }
}

/// Writes until there is no room.
fn take_all(file: &mut File) {
    while file.write_all(&[7; 64 << 10]).is_ok() {}
    while file.write_all(&[7; 512]).is_ok() {}
}

fn spawn(worker: &Worker, launch: &Launch, scratch: &Path, seed: u64) -> Result<Group> {
    let log = scratch.join(format!("{}.log", worker.name));
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([WORKER, "--name", &worker.name, "--seed", &seed.to_string()])
        .arg("--bank")
        .arg(scratch.join(worker.bank).with_extension("db"))
        .arg("--sweet")
        .arg(scratch.join(SWEET))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    match &worker.address {
        Some((address, _)) => command.args(["--http", address, "--api", &launch.http_listen]),
        None => command.args(["--topic", NORTH, "--kafka", &launch.kafka_listen]),
    };
    Group::spawn(&mut command)
}

//! One seed over the network: Kafka clients in virtual time, whose encoded requests go through
//! connections that delay them, are cut, and lose answers after the effect.
//!
//! Below them are the protocol, the broker and the log on the disk that fails. What the clients were
//! answered is compared with what is there after every restart.

mod clients;
mod connection;
mod member;
mod producer;
mod reader;
mod wire;

use bytes::Bytes;
use wharf_broker::{Runtime, TopicRef};
use wharf_kafka::{Endpoint, Service};
use wharf_log::disk::simulated::{Faults, Random, SimulatedDisk};

use crate::broker::{self, EPOCH, Node, client};
use crate::checkers::{Broken, Written, broken};
use crate::lives::{Lives, World};
use crate::plan::{Fault, Mix, Plan, pick};
use crate::report::Report;
use crate::view::View;
use clients::{Client, Knowledge, Outbox};
use connection::{Event, Network};
use member::{GROUP, MemberClient};
use producer::ProducerClient;
use reader::ReaderClient;
use wire::{PARTITIONS, TOPIC};

/// How long one step is at most, in milliseconds.
const STEP_MS: u64 = 60;
/// How many steps of the network make one of the plan.
const STEPS: u32 = 4;

struct Connected {
    client: Box<dyn Client>,
    /// Its connection; none right after a cut.
    connection: Option<u64>,
}

pub(crate) struct NetworkSimulation {
    random: Random,
    mix: Mix,
    steps: u32,
    disk: SimulatedDisk,
    node: Node,
    service: Service,
    network: Network,
    clients: Vec<Connected>,
    known: Knowledge,
    report: Report,
}

impl Lives for NetworkSimulation {
    fn world(&mut self) -> World<'_> {
        World {
            random: &mut self.random,
            mix: &self.mix,
            disk: &self.disk,
            report: &mut self.report,
            steps: self.steps,
        }
    }

    fn dies_within(_: &mut Random) -> u64 {
        300
    }

    fn step(&mut self) -> Result<(), Broken> {
        self.change_faults();
        for index in 0..self.clients.len() {
            self.act(index);
        }
        let events = self.network.step(&self.node, &self.service, self.now())?;
        self.node.runtime.step();
        if self.random.percent(70) {
            self.node.log.committer.run_pending(self.node.runtime.now());
            self.node.runtime.step();
        }
        if self.disk.is_off() {
            // Refusals of a dying node are not heard.
            return Ok(());
        }
        for event in events {
            self.meet(event)?;
        }
        if self.random.percent(self.mix.maintenance_percent) {
            let (policy, now) = (self.node.broker.retention_policy(), self.node.runtime.now());
            self.node.log.maintenance.run(&policy, now);
        }
        let passed = std::time::Duration::from_millis(self.random.below(STEP_MS));
        self.node
            .runtime
            .advance_to(self.node.runtime.steady().after(passed));
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Broken> {
        let kill = self.mix.faults.contains(&Fault::Kill) && self.random.coin();
        let now = self.node.runtime.now();
        self.node.runtime.stop();
        for event in self.network.node_died() {
            self.meet(event)?;
        }
        self.disk.set_faults(Faults::default());
        self.disk = if kill {
            self.disk.kill()
        } else {
            self.disk.crash()
        };
        self.disk.set_faults(Faults::default());
        self.known.disk_may_refuse = false;
        self.known.life += 1;
        self.report.kills += u64::from(kill);
        self.report.power_losses += u64::from(!kill);
        self.node = broker::open(&self.disk, &self.mix, now, &mut self.random)?;
        self.service = service(&self.node);
        self.count();
        self.check()
    }
}

impl NetworkSimulation {
    pub(crate) fn start(seed: u64, plan: &Plan) -> Result<Self, Broken> {
        let mut random = Random::new(seed ^ 0x4E37);
        let mix = Mix::draw(plan, &mut random);
        let disk = SimulatedDisk::new(random.next_u64(), Faults::default());
        let node = broker::open(&disk, &mix, EPOCH, &mut random)?;
        let mut clients: Vec<Box<dyn Client>> = Vec::new();
        for index in 0..3 {
            clients.push(Box::new(ProducerClient::new(index)));
        }
        for partition in 0..PARTITIONS {
            clients.push(Box::new(ReaderClient::new(partition)));
        }
        for index in 0..2 {
            clients.push(Box::new(MemberClient::new(index)));
        }
        let connected = |client| Connected {
            client,
            connection: None,
        };
        Ok(Self {
            service: service(&node),
            network: Network::new(random.fork()),
            clients: clients.into_iter().map(connected).collect(),
            known: Knowledge::default(),
            report: Report::default(),
            steps: plan.steps * STEPS,
            random,
            mix,
            disk,
            node,
        })
    }

    fn now(&self) -> i64 {
        self.node.runtime.steady().as_millis()
    }

    /// A client connects, or sends what it has to send.
    fn act(&mut self, index: usize) {
        let now = self.now();
        let Some(Connected { client, connection }) = self.clients.get_mut(index) else {
            return;
        };
        let Some(id) = *connection else {
            if self.random.percent(30) {
                *connection = Some(self.network.connect(index));
            }
            return;
        };
        let mut out = Outbox::default();
        client.act(&mut out, &mut self.known, &mut self.random);
        for frame in out.frames {
            self.network.send(id, frame, now);
        }
    }

    fn meet(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Answer(index, answer) => self.answer(index, answer),
            Event::Cut(index) => {
                if let Some(connected) = self.clients.get_mut(index) {
                    connected.client.cut();
                    connected.connection = None;
                }
                Ok(())
            }
        }
    }

    fn answer(&mut self, index: usize, answer: Bytes) -> Result<(), Broken> {
        match self.clients.get_mut(index) {
            Some(connected) => connected.client.answer(answer, &mut self.known),
            None => Ok(()),
        }
    }

    fn change_faults(&mut self) {
        let has = |fault| self.mix.faults.contains(&fault);
        if has(Fault::FailedSync) && self.random.one_in(300) {
            let sync_failure_one_in = *pick(&[1, 4], &mut self.random);
            self.disk.set_faults(Faults {
                sync_failure_one_in,
                ..Faults::default()
            });
            self.known.disk_may_refuse = true;
        } else if has(Fault::FullDisk) && !self.known.disk_may_refuse && self.random.one_in(200) {
            let spare = *pick(&[0, 5_000, 100_000], &mut self.random);
            self.disk.set_faults(Faults {
                capacity_bytes: Some(self.disk.used_bytes() + spare),
                ..Faults::default()
            });
            self.known.disk_may_refuse = true;
        }
    }

    fn count(&mut self) {
        let (network, known) = (&self.network, &self.known);
        let report = &mut self.report;
        report.requests = network.requests;
        report.cuts = network.cuts;
        report.answers_lost = network.answers_lost;
        report.sent_again = known.sent_again;
        report.assignments = known.assignments;
        report.fetched = known.fetched;
        report.network_acknowledged = known.sent.count() as u64;
    }

    fn check(&mut self) -> Result<(), Broken> {
        let broker = &self.node.broker;
        let view = View::read(&self.node.log.reader, &mut self.random, &Written::default())?;
        let topic = broker.topic(&TopicRef::Name(TOPIC.to_owned()));
        for partition in 0..PARTITIONS {
            let at = usize::try_from(partition).unwrap_or(0);
            let id = topic
                .as_ref()
                .ok()
                .and_then(|topic| topic.partitions.get(at));
            let batches = id.and_then(|id| view.partitions.get(id));
            let batches = batches.map_or(&[][..], |found| &found.batches);
            self.known.sent.check(partition, batches)?;
        }
        self.known.commits.check(|name| {
            let partition = name.parse().ok()?;
            let wanted = [(TopicRef::Name(TOPIC.to_owned()), partition)];
            let found = broker
                .committed_offsets(&client(), GROUP, None, Some(&wanted))
                .ok()?;
            let offset = found.into_iter().next()?.ok()?.offset;
            (offset >= 0).then_some(offset)
        })?;
        if self.known.sent.count() > 0 && topic.is_err() {
            return broken("acknowledged topics, settings and offsets survive", TOPIC);
        }
        Ok(())
    }
}

fn service(node: &Node) -> Service {
    let endpoint = Endpoint {
        host: "sim".to_owned(),
        port: 9092,
    };
    Service::new(node.broker.clone(), endpoint)
}

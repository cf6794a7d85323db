//! All rows of one server, in a fixed order, in one go.
//!
//! Invariants: a row that fails says why and the next one goes on; a row is measured only while the
//! server's share of the time lasts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use hdrhistogram::Histogram;

use crate::clients::{self, Client, Codec, Kafka, Mock, Topic, raw};
use crate::limits::{seconds, write_out};
use crate::load::{self, Moved, Payloads, Rate};
use crate::report::{Cell, Outcome, Report, Shape};
use crate::servers::{Place, Protocol, Running, Server, Tool, Usage, own_cpu};
use crate::shapes::{self, Load, QUANTILES};
use crate::{Options, say};

/// Messages a second while consumers read the tail.
const TAIL_RATE: u64 = 1_000;
/// How many partitions lie idle while the memory is looked at.
const IDLE_TOPICS: usize = 100;
const IDLE_PARTITIONS: usize = 1_000;
/// Which of a load's rows is that of the client that only moves bytes.
const FETCH: usize = 2;

/// One server under measurement.
pub(crate) struct Session<'a> {
    options: &'a Options,
    report: &'a mut Report,
    server: &'a Server,
    scratch: &'a Path,
    deadline: Instant,
    running: Option<Running>,
    topics: usize,
    noise: Payloads,
}

impl<'a> Session<'a> {
    /// Measures everything that is wanted of one server.
    pub(crate) fn run(
        options: &'a Options,
        report: &'a mut Report,
        server: &'a Server,
        tool: Result<&Tool>,
        deadline: Instant,
    ) -> Result<()> {
        let mut session = Self {
            options,
            report,
            server,
            scratch: &options.scratch,
            deadline,
            running: None,
            topics: 0,
            noise: Payloads::noise(1024),
        };
        // A client that panics spoils the rows of its own server only.
        let ended = tool.and_then(|tool| {
            let measuring = AssertUnwindSafe(|| session.all(tool));
            catch_unwind(measuring).unwrap_or_else(|_panic| bail!("its client panicked"))
        });
        if harness::interrupted() {
            bail!("interrupted");
        }
        if let Err(error) = ended {
            say(format!("    {}: {error:#}", server.name));
            session.give_up(&format!("{error:#}"));
        }
        Ok(())
    }

    fn all(&mut self, tool: &Tool) -> Result<()> {
        let mut place = Place::new(self.server, tool, self.scratch)?;
        let running = place.start()?;
        let started = running.started_in.as_secs_f64() * 1e3;
        self.running = Some(running);
        self.value(
            &shapes::start("empty", "with an empty data directory"),
            started,
        );
        self.memory("idle", "idle and empty");
        if let Err(error) = self.warm_up() {
            // The rows will say what is wrong.
            say(format!("    warming up: {error:#}"));
        }
        // The most telling rows first: whoever is slow has no time for the others.
        let (telling, others): (Vec<Load>, Vec<Load>) = shapes::loads(self.options.is_quick())
            .into_iter()
            .partition(|load| load.is_headline());
        for load in telling {
            self.throughput(load);
        }
        self.latencies();
        for load in others {
            self.throughput(load);
        }
        self.restarts(&mut place)?;
        drop(place);
        self.idle_partitions(tool);
        Ok(())
    }

    /// Lets the server, and the compiler of its virtual machine if it has one, see every kind of load
    /// before anything is measured.
    fn warm_up(&mut self) -> Result<()> {
        let topic = self.topic(10);
        let client = self.client()?;
        client.make(&topic)?;
        let length = seconds(self.options.seconds());
        let moved = load::produce(&*client, &topic, &self.noise, Codec::None, length)?;
        load::consume(&*client, &topic, moved.messages)?;
        load::one_at_a_time(&*client, &topic, &self.noise, length / 4)?;
        client.remove(&topic)
    }

    /// Every row that has no cell of this server yet gets one that says why.
    fn give_up(&mut self, why: &str) {
        self.running = None;
        let rows: Vec<Shape> = self
            .report
            .rows
            .iter()
            .map(|row| row.shape.clone())
            .collect();
        for shape in rows {
            let row = self.report.row(&shape.key);
            let has_cell =
                row.is_some_and(|row| row.cells.iter().any(|cell| cell.server == self.server.key));
            if !has_cell {
                self.missing(&shape, why);
            }
        }
    }

    fn missing(&mut self, shape: &Shape, why: &str) {
        self.add(shape, Outcome::Missing(why.to_owned()), String::new());
    }

    fn value(&mut self, shape: &Shape, value: f64) {
        if self.options.wants(&shape.key) {
            self.add(shape, Outcome::Values(vec![value]), String::new());
        }
    }

    fn add(&mut self, shape: &Shape, outcome: Outcome, note: String) {
        let cell = Cell {
            server: self.server.key,
            outcome,
            note,
        };
        self.report.add(shape, cell);
    }

    /// Measures a row if it is wanted and there is time; what fails says why.
    fn row(&mut self, shape: &Shape, measure: impl FnOnce(&mut Self) -> Result<Vec<f64>>) {
        if !self.options.wants(&shape.key) {
            return;
        }
        match self.ready().and_then(|()| measure(self)) {
            Ok(values) => self.add(shape, Outcome::Values(values), String::new()),
            Err(error) => self.missing(shape, &format!("{error:#}")),
        }
    }

    /// Whether the next measurement may begin; writes out what the last one left.
    fn ready(&mut self) -> Result<()> {
        ensure!(!harness::interrupted(), "interrupted");
        ensure!(
            Instant::now() < self.deadline,
            "this server's share of the run's time was used up"
        );
        write_out(self.scratch)
    }

    fn running(&mut self) -> Result<&mut Running> {
        self.running.as_mut().context("the server is gone")
    }

    fn client(&mut self) -> Result<Box<dyn Client>> {
        let protocol = self.server.protocol;
        let address = self.running()?.address.clone();
        clients::connect(protocol, &address)
    }

    fn topic(&mut self, partitions: usize) -> Topic {
        self.topics += 1;
        Topic::new(format!("bench{}", self.topics), partitions)
    }

    fn memory(&mut self, key: &str, title: &str) {
        self.row(&shapes::memory(key, title), |session| {
            Ok(vec![
                Usage::of_group(session.running()?.id())?.memory as f64 / 1e6,
            ])
        });
    }

    /// What the protocol or its client cannot do.
    fn can(&self, load: Load) -> Result<()> {
        let protocol = self.server.protocol;
        if load.is_compressed && protocol != Protocol::Kafka {
            bail!("its client does not compress");
        }
        if load.partitions > 100 && protocol == Protocol::Amqp {
            bail!("1,000 quorum queues are 1,000 consensus groups, which it is not made for");
        }
        Ok(())
    }

    /// Produces and reads back; fills several rows.
    fn throughput(&mut self, load: Load) {
        let shapes = [load.produce(), load.consume(), load.fetch()];
        let is_fetched = load.is_headline();
        let wanted = shapes.iter().take(if is_fetched { 3 } else { 2 });
        let cpu = [load.cpu("produce"), load.cpu("read")];
        let wants_cpu = load.partitions == 1 && !load.is_compressed;
        let is_wanted = wanted.clone().any(|shape| self.options.wants(&shape.key))
            || (wants_cpu && cpu.iter().any(|shape| self.options.wants(&shape.key)));
        if !is_wanted {
            return;
        }
        let rounds = if load.is_headline() {
            self.options.rounds()
        } else {
            1
        };
        let mut measured: Vec<Rounds> = vec![Rounds::default(); 3];
        let mut outcome = self.can(load);
        for _ in 0..rounds {
            outcome = outcome.and_then(|()| {
                self.ready()?;
                self.round(load, is_fetched, &mut measured)
            });
        }
        for (at, (shape, rounds)) in wanted.zip(&measured).enumerate() {
            if !self.options.wants(&shape.key) {
                continue;
            }
            match (rounds.values(), &outcome) {
                (Some(values), Ok(())) => self.add(shape, Outcome::Values(values), rounds.note()),
                (Some(values), Err(error)) => {
                    let note = format!("{}; the next one failed: {error:#}", rounds.note());
                    self.add(shape, Outcome::Values(values), note);
                }
                (None, _) if at == FETCH && self.server.protocol != Protocol::Kafka => {
                    self.missing(shape, "only for servers that speak Kafka's protocol");
                }
                (None, Err(error)) => self.missing(shape, &format!("{error:#}")),
                (None, Ok(())) => self.missing(shape, "no round was measured"),
            }
        }
        for (shape, rounds) in cpu.iter().zip(&measured).filter(|_| wants_cpu) {
            match (rounds.cpu_per_million(), &outcome) {
                (Some(seconds), _) => self.value(shape, seconds),
                (None, Err(error)) => {
                    let why = format!("{error:#}");
                    self.missing(shape, &why);
                }
                (None, Ok(())) => {}
            }
        }
        if load.is_headline() && load.partitions == 1 {
            self.memory(
                "loaded",
                "after writing and reading back several hundred MB",
            );
        }
    }

    fn round(&mut self, load: Load, is_fetched: bool, measured: &mut [Rounds]) -> Result<()> {
        let topic = self.topic(load.partitions);
        let client = self.client()?;
        client.make(&topic)?;
        let (payloads, codec) = if load.is_compressed {
            (Payloads::text(load.bytes), Codec::Lz4)
        } else {
            (Payloads::noise(load.bytes), Codec::None)
        };
        let length = seconds(self.options.length_of(load));
        let produced = self.metered(&mut measured[0], || {
            load::produce(&*client, &topic, &payloads, codec, length)
        });
        let messages = produced.context("producing")?.messages;
        self.metered(&mut measured[1], || {
            load::consume(&*client, &topic, messages)
        })
        .context("reading back")?;
        if is_fetched && self.server.protocol == Protocol::Kafka {
            let address = self.running()?.address.clone();
            self.metered(&mut measured[FETCH], || {
                let read = raw::read_all(&address, &topic, messages)?;
                Ok(Moved {
                    messages,
                    bytes: read.bytes,
                    took: read.took,
                })
            })
            .context("reading back without a client's own work")?;
        }
        if let Err(error) = client.remove(&topic) {
            // It only takes room from now on.
            say(format!("    removing {}: {error:#}", topic.name));
        }
        Ok(())
    }

    /// Runs a load and notes its speed and who used the processor.
    fn metered(
        &mut self,
        rounds: &mut Rounds,
        load: impl FnOnce() -> Result<Moved>,
    ) -> Result<Moved> {
        let (client, server) = (own_cpu()?, Usage::of_group(self.running()?.id())?.cpu);
        let began = Instant::now();
        let moved = load()?;
        let took = began.elapsed().as_secs_f64();
        let server_cpu = Usage::of_group(self.running()?.id())?.cpu - server;
        rounds.0.push(Round {
            speed: moved.megabytes_per_second(),
            client_cores: (own_cpu()? - client) / took,
            server_cores: server_cpu / took,
            cpu_per_million: server_cpu * 1e6 / moved.messages.max(1) as f64,
        });
        Ok(moved)
    }

    fn latencies(&mut self) {
        let length = seconds(self.options.seconds());
        self.row(&shapes::one(), |session| {
            let topic = session.topic(1);
            let client = session.client()?;
            client.make(&topic)?;
            let durations = load::one_at_a_time(&*client, &topic, &session.noise, length)?;
            client.remove(&topic)?;
            Ok(percentiles(&durations))
        });
        for rate in [1_000, 10_000] {
            let shape = shapes::end_to_end(rate);
            self.row(&shape, |session| session.end_to_end(rate, 1));
        }
        for consumers in [1, 10, 100] {
            let shape = shapes::tail(consumers, TAIL_RATE);
            if consumers > 1 && self.server.protocol == Protocol::Amqp {
                if self.options.wants(&shape.key) {
                    self.missing(&shape, "a queue gives each message to one consumer");
                }
                continue;
            }
            self.row(&shape, |session| session.end_to_end(TAIL_RATE, consumers));
        }
    }

    fn end_to_end(&mut self, per_second: u64, consumers: usize) -> Result<Vec<f64>> {
        let topic = self.topic(1);
        let client = self.client()?;
        client.make(&topic)?;
        let rate = Rate {
            per_second,
            length: seconds(self.options.seconds()),
            consumers,
        };
        let durations = load::end_to_end(&*client, &topic, &self.noise, rate)?;
        client.remove(&topic)?;
        Ok(percentiles(&durations))
    }

    /// Kills the server under load and stops it in order; looks how soon it is back each time.
    fn restarts(&mut self, place: &mut Place<'_>) -> Result<()> {
        let killed = shapes::start("killed", "after a kill under load");
        let stopped = shapes::start("stopped", "after an orderly stop");
        if !self.options.wants(&killed.key) && !self.options.wants(&stopped.key) {
            return Ok(());
        }
        let topic = self.topic(100);
        let client = self.client()?;
        client.make(&topic)?;
        let length = seconds(self.options.seconds());
        load::produce(&*client, &topic, &self.noise, Codec::None, length)?;
        drop(client);
        let running = self.running.take().context("the server is gone")?;
        running.kill()?;
        self.row_after(place, &killed)?;
        let running = self.running.take().context("the server is gone")?;
        running.stop()?;
        self.row_after(place, &stopped)?;
        let running = self.running.take().context("the server is gone")?;
        running.stop()
    }

    fn row_after(&mut self, place: &mut Place<'_>, shape: &Shape) -> Result<()> {
        let running = place.start()?;
        let took = running.started_in.as_secs_f64() * 1e3;
        self.running = Some(running);
        self.value(shape, took);
        Ok(())
    }

    /// Memory with very many partitions that nobody uses.
    fn idle_partitions(&mut self, tool: &Tool) {
        let shape = shapes::memory("partitions", "with 100,000 idle partitions");
        let is_wharf = self.server.key == "wharf";
        self.row(&shape, |session| {
            ensure!(
                is_wharf,
                "only Wharf has a target; others keep files for each partition"
            );
            let mut place = Place::new(session.server, tool, session.scratch)?;
            let running = session.running.insert(place.start()?);
            let client = Kafka::new(&running.address);
            let topics: Vec<Topic> = (0..IDLE_TOPICS)
                .map(|number| Topic::new(format!("idle{number}"), IDLE_PARTITIONS))
                .collect();
            for some in topics.chunks(10) {
                client.make_all(some)?;
            }
            let memory = Usage::of_group(running.id())?.memory as f64 / 1e6;
            session.running = None;
            Ok(vec![memory])
        });
        self.running = None;
    }
}

/// What several rounds of one load gave.
#[derive(Clone, Debug, Default)]
struct Rounds(Vec<Round>);

#[derive(Clone, Copy, Debug)]
struct Round {
    speed: f64,
    client_cores: f64,
    server_cores: f64,
    cpu_per_million: f64,
}

impl Rounds {
    /// The median of one field.
    fn median(&self, field: impl Fn(&Round) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.0.iter().map(field).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// The columns of a throughput.
    fn values(&self) -> Option<Vec<f64>> {
        let speeds = || self.0.iter().map(|round| round.speed);
        Some(vec![
            self.median(|round| round.speed)?,
            speeds().fold(f64::MAX, f64::min),
            speeds().fold(0.0, f64::max),
            self.median(|round| round.client_cores)?,
            self.median(|round| round.server_cores)?,
        ])
    }

    fn cpu_per_million(&self) -> Option<f64> {
        self.median(|round| round.cpu_per_million)
    }

    fn note(&self) -> String {
        match self.0.len() {
            1 => "one round".to_owned(),
            more => format!("{more} rounds"),
        }
    }
}

/// The columns of a latency, in microseconds.
fn percentiles(durations: &Histogram<u64>) -> Vec<f64> {
    QUANTILES
        .iter()
        .map(|quantile| durations.value_at_quantile(*quantile) as f64 / 1e3)
        .collect()
}

/// What the client alone can do with a load.
pub(crate) fn ceiling(options: &Options, load: Load) -> Result<f64> {
    let topic = Topic::new("ceiling", load.partitions);
    let mock = Mock::new(&topic)?;
    let (payloads, codec) = if load.is_compressed {
        (Payloads::text(load.bytes), Codec::Lz4)
    } else {
        (Payloads::noise(load.bytes), Codec::None)
    };
    let length = seconds(options.seconds() / 2.0);
    let moved = load::produce(&mock.client, &topic, &payloads, codec, length)
        .map_err(|error| anyhow!("the client against itself: {error:#}"))?;
    Ok(moved.megabytes_per_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_not_moved_by_one_odd_round() {
        let round = |speed| Round {
            speed,
            client_cores: 1.0,
            server_cores: 0.5,
            cpu_per_million: 2.0,
        };
        let rounds = Rounds(vec![round(5.0), round(900.0), round(6.0)]);
        let values = rounds.values().expect("there are rounds");
        assert_eq!(values, [6.0, 5.0, 900.0, 1.0, 0.5]);
        assert!(Rounds::default().values().is_none());
    }
}

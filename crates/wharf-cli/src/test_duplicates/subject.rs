//! The consumer under test: a process that reads a topic of a broker, and what is seen of it.
//!
//! A message is given by publishing it, a duplicate by publishing it again. Where the consumer is
//! depends on what its group has committed, so a crash after the effects and before settling is made
//! thus: wait until it has committed, kill it, take the commit back, start it again. It is quiet
//! when its group has committed everything that was published; nothing here waits for time to pass,
//! but for the moments in the middle of a delivery at which it is killed.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rdkafka::admin::{AdminClient, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use tempfile::TempDir;
use wharf::testing::duplicates::{Effects, Fault, Faults, Given, How, Point, Subject};
use wharf_server::Problem;

use super::commands::{Names, printed, tail};
use super::emitted::{self, Ends};
use super::process::{Process, check_interrupt};
use super::{Duplicates, members, messages};
use crate::client::{PATIENCE, admin_options, refused};
use crate::output;

/// How often it is looked whether the consumer is quiet.
const PAUSE: Duration = Duration::from_millis(20);
/// How long after a message was published the consumer is killed in the n-th moment of a delivery.
const MOMENT: Duration = Duration::from_millis(15);
/// A consumer that ends by itself is started so often again in one run.
const STARTS_MAX: u32 = 5;
/// The table that shows what was never settled.
const UNSETTLED: &str = "messages not settled";

/// A consumer, and all that it is tested with.
pub(super) struct Consumer<'a> {
    asked: &'a Duplicates,
    admin: AdminClient<DefaultClientContext>,
    producer: FutureProducer,
    scratch: TempDir,
    /// What makes the names of this test's runs different from those of others.
    word: String,
    messages: usize,
    runs: usize,
    /// Whether a run has come to its end: the consumer works at all.
    works: bool,
    run: Option<Run>,
}

/// One run.
struct Run {
    names: Names,
    /// Asks on behalf of the group.
    observer: BaseConsumer,
    process: Option<Process>,
    starts: u32,
    /// Where each position of the schedule is in the topic.
    places: HashMap<i64, (i32, i64)>,
    /// The end of what was published, by partition.
    ends: BTreeMap<i32, i64>,
    /// Where the emitted topics ended at the beginning.
    emitted: Ends,
    /// The consumer does not settle what it got: nothing more is waited for.
    stuck: bool,
}

impl<'a> Consumer<'a> {
    /// One that has not begun yet.
    pub(super) fn open(asked: &'a Duplicates, messages: usize) -> Result<Self> {
        let config = asked
            .connection
            .config_over(&[("enable.idempotence", "true"), ("linger.ms", "0")]);
        let word = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self {
            asked,
            admin: asked.connection.admin()?,
            producer: asked.connection.create(&config)?,
            scratch: tempfile::Builder::new().prefix("wharf-test-").tempdir()?,
            word: word.chars().take(8).collect(),
            messages,
            runs: 0,
            works: false,
            run: None,
        })
    }

    /// Ends the consumer and removes what was made on the broker, as far as that is possible.
    pub(super) async fn close(mut self) {
        self.end_run().await;
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("consumer.log")
    }

    fn run(&mut self) -> Result<&mut Run> {
        self.run.as_mut().context("a run begins with a reset")
    }

    /// The names of the next run.
    fn next_names(&mut self) -> Names {
        self.runs += 1;
        let run = format!("{}-{}", self.word, self.runs);
        let own = |name: &str| match self.asked.run {
            Some(_) => format!("{name}.{run}"),
            None => name.to_owned(),
        };
        Names {
            broker: self.asked.connection.broker.clone(),
            topic: own(self.asked.topic.as_str()),
            group: own(self.asked.group.as_str()),
            run,
        }
    }

    async fn end_run(&mut self) {
        let Some(mut run) = self.run.take() else {
            return;
        };
        run.process = None;
        if self.asked.run.is_none() {
            return;
        }
        // Whatever stays behind has a name of its own and hurts nobody.
        if let Err(error) = members::remove(&self.asked.connection, &run.observer, &run.names.group)
        {
            tracing::debug!(%error, "a group keeps its members");
        }
        let options = admin_options(false);
        self.admin
            .delete_groups(&[&run.names.group], &options)
            .await
            .ok();
        self.admin
            .delete_topics(&[&run.names.topic], &options)
            .await
            .ok();
    }

    async fn create_topic(&self, name: &str) -> Result<()> {
        // The messages may have been recorded long ago.
        let topic = NewTopic::new(name, self.asked.partitions, TopicReplication::Fixed(-1))
            .set("retention.ms", "-1");
        let created = self
            .admin
            .create_topics([&topic], &admin_options(false))
            .await;
        let created = created.map_err(|error| self.asked.connection.explain(&error))?;
        created
            .into_iter()
            .try_for_each(|one| one.map(drop).map_err(|(name, code)| refused(&name, code)))
    }

    /// Starts the consumer where its group is.
    fn start(&mut self) -> Result<()> {
        let log = self.log();
        if let Some(line) = &self.asked.run {
            let run = self.run.as_mut().context("a run begins with a reset")?;
            run.process = None;
            run.process = Some(Process::start(run.names.command(line), &log)?);
            run.starts += 1;
        }
        Ok(())
    }

    /// Kills the consumer. What it had committed is taken back to `back`, then it starts again.
    fn kill_and_start(&mut self, back: &BTreeMap<i32, i64>) -> Result<()> {
        let run = self.run.as_mut().context("a run begins with a reset")?;
        run.process = None;
        members::remove(&self.asked.connection, &run.observer, &run.names.group)?;
        run.commit(back)
            .map_err(|error| self.asked.connection.explain(&error))?;
        run.starts = 0;
        self.start()
    }

    /// Publishes a message, unless it was before. Answers its partition and offset.
    async fn publish(&mut self, given: &Given) -> Result<(i32, i64)> {
        let run = self.run.as_mut().context("a run begins with a reset")?;
        if let Some(place) = run.places.get(&given.position.offset) {
            return Ok(*place);
        }
        let message = messages::for_run(&given.message, &run.names);
        let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
        for (key, value) in message.headers.iter() {
            headers = headers.insert(Header { key, value });
        }
        let mut record = FutureRecord::<[u8], [u8]>::to(&run.names.topic).headers(headers);
        record.key = message.key.as_deref();
        record.payload = message.payload.as_deref();
        // A topic that is others' too deletes what is old; there the time is that of publishing.
        let time = message.timestamp.filter(|_| self.asked.run.is_some());
        record.timestamp = time.map(wharf_message::Timestamp::as_millis);
        let delivered = self.producer.send(record, PATIENCE).await;
        let delivered = delivered.map_err(|(error, _)| self.asked.connection.explain(&error))?;
        let place = (delivered.partition, delivered.offset);
        run.places.insert(given.position.offset, place);
        let end = run.ends.entry(place.0).or_default();
        *end = (*end).max(place.1 + 1);
        Ok(place)
    }

    /// Waits until the group has committed everything. A consumer that ends is started again, as
    /// whatever runs it would do; one that settles nothing more is given up.
    fn quiet(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.asked.patience;
        loop {
            check_interrupt()?;
            let explain = |error| self.asked.connection.explain(&error);
            let run = self.run.as_mut().context("a run begins with a reset")?;
            if run.stuck || run.lag().map_err(explain)? == 0 {
                return Ok(());
            }
            let ended = run.process.as_ref().map_or(Ok(false), Process::has_ended)?;
            if Instant::now() > deadline || ended && run.starts == STARTS_MAX {
                return self.give_up(ended);
            }
            if ended {
                let (observer, group) = (&run.observer, &run.names.group);
                members::remove(&self.asked.connection, observer, group)?;
                self.start()?;
            }
            thread::park_timeout(PAUSE);
        }
    }

    /// While the consumer has not worked yet there is nothing to judge; later this is an effect.
    fn give_up(&mut self, ended: bool) -> Result<()> {
        let log = tail(&self.log());
        let patience = humantime::format_duration(self.asked.patience);
        let has_run = self.asked.run.is_some();
        let run = self.run.as_mut().context("a run begins with a reset")?;
        run.stuck = true;
        if self.works {
            let printed = if has_run {
                format!("; it printed:\n{log}")
            } else {
                String::new()
            };
            return output::note(&format!("the consumer does not settle everything{printed}"));
        }
        let what = if ended {
            "the consumer ends by itself".to_owned()
        } else {
            format!("the consumer has not committed everything within {patience}")
        };
        let why = if has_run {
            format!(
                "it should read the topic {} in the group {}; it printed:\n{log}",
                run.names.topic, run.names.group
            )
        } else {
            format!(
                "it should read the topic {} in the group {}",
                run.names.topic, run.names.group
            )
        };
        let fix = "hand it {broker}, {topic} and {group} (or the variables WHARF_BROKER, WHARF_TOPIC, \
                   WHARF_GROUP), and let it commit what it has handled";
        Err(Problem::plain(what, why, fix).into())
    }
}

impl Run {
    fn commit(&self, offsets: &BTreeMap<i32, i64>) -> Result<(), rdkafka::error::KafkaError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.names.topic, *partition, Offset::Offset(*offset))?;
        }
        self.observer.commit(&list, CommitMode::Sync)
    }

    /// How many of the published messages the group has not committed.
    fn lag(&self) -> Result<i64, rdkafka::error::KafkaError> {
        if self.ends.is_empty() {
            return Ok(0);
        }
        let mut list = TopicPartitionList::new();
        for partition in self.ends.keys() {
            list.add_partition(&self.names.topic, *partition);
        }
        let committed = self.observer.committed_offsets(list, PATIENCE)?;
        let behind = committed.elements().into_iter().map(|one| {
            let end = self.ends.get(&one.partition()).copied().unwrap_or(0);
            match one.offset() {
                Offset::Offset(offset) => (end - offset).max(0),
                _ => end,
            }
        });
        Ok(behind.sum())
    }
}

impl Subject for Consumer<'_> {
    type Error = anyhow::Error;

    fn faults(&self) -> Faults {
        let mut faults: Faults = [Fault::Copy, Fault::Reorder, Fault::ReorderWithinKey]
            .into_iter()
            .collect();
        if self.asked.run.is_some() {
            let killing = [Fault::Crash, Fault::Midway, Fault::Restart, Fault::Rewind];
            faults = killing.into_iter().fold(faults, Faults::with);
        }
        match self.asked.later {
            Some(_) => faults.with(Fault::Window),
            None => faults,
        }
    }

    async fn reset(&mut self) -> Result<()> {
        self.end_run().await;
        check_interrupt()?;
        let names = self.next_names();
        if let Some(line) = &self.asked.reset {
            printed(
                &names,
                "--reset",
                line,
                self.scratch.path(),
                self.asked.patience,
            )?;
        }
        if self.asked.run.is_some() {
            self.create_topic(&names.topic).await?;
        }
        let mut run = Run {
            observer: self.asked.connection.observer(&names.group)?,
            names,
            process: None,
            starts: 0,
            places: HashMap::with_capacity(self.messages),
            ends: BTreeMap::new(),
            emitted: Ends::new(),
            stuck: false,
        };
        for topic in &self.asked.emitted {
            let name = run.names.put_in(topic);
            let ends = emitted::ends(&self.asked.connection, &run.observer, &name)?;
            run.emitted.insert(topic.clone(), ends);
        }
        if self.asked.run.is_some() {
            // So that it reads from the beginning, whatever it does where it has no offset.
            let beginning = (0..self.asked.partitions)
                .map(|partition| (partition, 0))
                .collect();
            run.commit(&beginning)
                .map_err(|error| self.asked.connection.explain(&error))?;
        }
        self.run = Some(run);
        self.start()
    }

    async fn deliver(&mut self, given: &Given, how: How) -> Result<()> {
        match how {
            How::Settled | How::Copy => {
                self.publish(given).await?;
                Ok(())
            }
            How::Crash(Point::After) => {
                let (partition, offset) = self.publish(given).await?;
                self.quiet()?;
                self.kill_and_start(&BTreeMap::from([(partition, offset)]))
            }
            How::Crash(Point::Before) => {
                self.quiet()?;
                self.run()?.process = None;
                self.publish(given).await?;
                self.kill_and_start(&BTreeMap::new())
            }
            How::Crash(Point::Midway(moment)) => {
                self.quiet()?;
                self.publish(given).await?;
                let until = Instant::now() + MOMENT * moment;
                while Instant::now() < until {
                    thread::park_timeout(until - Instant::now());
                }
                self.kill_and_start(&BTreeMap::new())
            }
            How::Race => anyhow::bail!("two instances cannot get one message of a partition"),
        }
    }

    async fn restart(&mut self) -> Result<()> {
        self.quiet()?;
        self.kill_and_start(&BTreeMap::new())
    }

    async fn rewind(&mut self, last: &[Given]) -> Result<()> {
        self.quiet()?;
        let run = self.run()?;
        let mut back = BTreeMap::<i32, i64>::new();
        for (partition, offset) in last
            .iter()
            .filter_map(|one| run.places.get(&one.position.offset))
        {
            let first = back.entry(*partition).or_insert(*offset);
            *first = (*first).min(*offset);
        }
        self.kill_and_start(&back)
    }

    async fn pass_window(&mut self) -> Result<()> {
        self.quiet()?;
        if let Some(line) = &self.asked.later {
            let run = self.run.as_ref().context("a run begins with a reset")?;
            printed(
                &run.names,
                "--later",
                line,
                self.scratch.path(),
                self.asked.patience,
            )?;
        }
        Ok(())
    }

    async fn effects(&mut self) -> Result<Effects> {
        self.quiet()?;
        self.works = true;
        let run = self.run.as_ref().context("a run begins with a reset")?;
        let mut effects = Effects::new();
        if let Some(line) = &self.asked.probe {
            let scratch = self.scratch.path();
            let text = printed(&run.names, "--probe", line, scratch, self.asked.patience)?;
            effects.push_probe(&run.names.take_out(&text));
        }
        emitted::read(
            &self.asked.connection,
            &run.emitted,
            &run.names,
            &mut effects,
        )?;
        if run.stuck {
            let lag = run
                .lag()
                .map_err(|error| self.asked.connection.explain(&error))?;
            effects.push_row(UNSETTLED, lag);
        }
        Ok(effects)
    }
}

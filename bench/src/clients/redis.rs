//! Redis streams with the redis crate: a stream key for each partition, commands in pipelines of
//! which two are always under way.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use redis::{Connection, Value};

use super::window::{Gate, Window};
use super::{Client, Codec, Consumer, From, Pace, Producer, Topic, WITHIN};

/// How many messages may be under way.
const UNDER_WAY: u64 = 4_000;
/// The most commands in one pipeline.
const PIPELINE: usize = 500;
/// How many pipelines are under way at once.
const PIPELINES: usize = 2;
/// How many entries one read asks for.
const COUNT: usize = 1_000;

/// A Redis server.
pub(crate) struct Redis {
    client: redis::Client,
}

impl Redis {
    pub(super) fn connect(address: &str) -> Result<Self> {
        Ok(Self {
            client: redis::Client::open(format!("redis://{address}/"))?,
        })
    }

    fn connection(&self) -> Result<Connection> {
        let connection = self.client.get_connection()?;
        connection.set_read_timeout(Some(WITHIN))?;
        connection.set_write_timeout(Some(WITHIN))?;
        Ok(connection)
    }
}

impl Client for Redis {
    /// A stream comes into being with its first entry.
    fn make(&self, _topic: &Topic) -> Result<()> {
        Ok(())
    }

    fn remove(&self, topic: &Topic) -> Result<()> {
        let mut command = redis::cmd("UNLINK");
        for key in topic.parts() {
            command.arg(key);
        }
        command.exec(&mut self.connection()?)?;
        Ok(())
    }

    fn producer(&self, topic: &Topic, _pace: Pace, _codec: Codec) -> Result<Box<dyn Producer>> {
        let mut connection = self.connection()?;
        let window = Window::new(UNDER_WAY);
        let gate = window.gate();
        let keys: Vec<String> = topic.parts().collect();
        let (messages, queue) = mpsc::channel();
        thread::spawn(move || {
            if let Err(error) = publish(&mut connection, &keys, &queue, &gate) {
                gate.leave(Err(error.to_string()));
            }
        });
        Ok(Box::new(RedisProducer { messages, window }))
    }

    fn consumer(&self, topic: &Topic, from: From) -> Result<Box<dyn Consumer>> {
        let mut connection = self.connection()?;
        let mut places = Vec::new();
        for key in topic.parts() {
            let last = match from {
                From::Beginning => "0".to_owned(),
                From::End => last_id(&mut connection, &key)?,
            };
            places.push((key, last));
        }
        Ok(Box::new(RedisConsumer { connection, places }))
    }
}

/// The id of the last entry of a stream; `0` when there is none.
fn last_id(connection: &mut Connection, key: &str) -> Result<String> {
    let newest: Value = redis::cmd("XREVRANGE")
        .arg(key)
        .arg("+")
        .arg("-")
        .arg("COUNT")
        .arg(1)
        .query(connection)?;
    let Value::Array(entries) = newest else {
        return Ok("0".to_owned());
    };
    match entries.first() {
        Some(entry) => Ok(entry_parts(entry)?.0.to_owned()),
        None => Ok("0".to_owned()),
    }
}

/// Sends what waits as pipelines and reads their answers, in order.
fn publish(
    connection: &mut Connection,
    keys: &[String],
    queue: &mpsc::Receiver<(usize, Vec<u8>)>,
    gate: &Gate,
) -> Result<()> {
    let mut under_way = VecDeque::new();
    loop {
        let first = if under_way.is_empty() {
            match queue.recv() {
                Ok(message) => Some(message),
                Err(mpsc::RecvError) => return Ok(()),
            }
        } else {
            queue.try_recv().ok()
        };
        let had_none = first.is_none();
        if let Some(first) = first {
            let mut commands = Vec::new();
            let mut count = 0;
            for (partition, payload) in std::iter::once(first).chain(queue.try_iter()) {
                let mut command = redis::cmd("XADD");
                command.arg(&keys[partition]).arg("*").arg("m").arg(payload);
                command.write_packed_command(&mut commands);
                count += 1;
                if count == PIPELINE {
                    break;
                }
            }
            connection.send_packed_command(&commands)?;
            under_way.push_back(count);
        }
        if had_none || under_way.len() >= PIPELINES {
            for _ in 0..under_way.pop_front().unwrap_or(0) {
                let answer = connection.recv_response()?;
                gate.leave(match answer {
                    Value::BulkString(_) | Value::SimpleString(_) => Ok(()),
                    other => Err(format!("{other:?}")),
                });
            }
        }
    }
}

struct RedisProducer {
    messages: mpsc::Sender<(usize, Vec<u8>)>,
    window: Window,
}

impl Producer for RedisProducer {
    fn send(&mut self, partition: usize, payload: &[u8]) -> Result<()> {
        self.window.enter(WITHIN)?;
        let message = (partition, payload.to_vec());
        self.messages.send(message).context("the client has ended")
    }

    fn flush(&mut self) -> Result<()> {
        self.window.drain(WITHIN)
    }
}

struct RedisConsumer {
    connection: Connection,
    /// The streams with the ids read last.
    places: Vec<(String, String)>,
}

impl Consumer for RedisConsumer {
    fn poll(&mut self, patience: Duration, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(COUNT);
        command
            .arg("BLOCK")
            .arg(patience.as_millis().max(1).to_string());
        command.arg("STREAMS");
        for (key, _) in &self.places {
            command.arg(key);
        }
        for (_, id) in &self.places {
            command.arg(id);
        }
        let Value::Array(streams) = command.query(&mut self.connection)? else {
            return Ok(());
        };
        for stream in &streams {
            let Value::Array(parts) = stream else {
                bail!("an answer of an unknown form");
            };
            let [Value::BulkString(key), Value::Array(entries)] = parts.as_slice() else {
                bail!("an answer of an unknown form");
            };
            for entry in entries {
                each(entry_parts(entry)?.1);
            }
            let place = self
                .places
                .iter_mut()
                .find(|(known, _)| known.as_bytes() == key.as_slice());
            if let (Some((_, id)), Some(last)) = (place, entries.last()) {
                entry_parts(last)?.0.clone_into(id);
            }
        }
        Ok(())
    }
}

/// The id and the payload of an entry.
fn entry_parts(entry: &Value) -> Result<(&str, &[u8])> {
    if let Value::Array(parts) = entry
        && let [Value::BulkString(id), Value::Array(fields)] = parts.as_slice()
        && let [_, Value::BulkString(payload)] = fields.as_slice()
    {
        return Ok((std::str::from_utf8(id)?, payload));
    }
    bail!("an entry of an unknown form")
}

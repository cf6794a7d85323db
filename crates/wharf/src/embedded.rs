//! A broker inside the program: a data directory, a log, topics and groups, and no port.
//!
//! | address | data directory |
//! |---|---|
//! | `embedded:///var/lib/shop` | that one, created when missing |
//! | `embedded:data/shop` | that one, from the working directory on |
//! | `embedded://temporary` | a new one that goes with the last connection: for tests |
//!
//! `?kafka=127.0.0.1:9092` lets other processes take part, with the command line or any Kafka client;
//! `?http=127.0.0.1:8080` shows metrics and health. Connections of one program to one directory share
//! its node; it is stopped in order when the last of them is shut down.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::Mutex as AsyncMutex;
use wharf_message::transport::{
    Capabilities, Deliveries, Error, Position, Publish, Subscribe, Subscription, TopicHistory,
    Transport,
};
use wharf_message::{Message, TopicName};
use wharf_server::config::Address;
use wharf_server::{Config, EmbeddedNode, Listeners, Problem};
use wharf_transport::embedded::EmbeddedTransport;

use crate::bus::BusError;

/// The scheme of the addresses.
const SCHEME: &str = "embedded:";
/// Stands for a directory of its own.
const TEMPORARY: &str = "//temporary";
/// The journal of a temporary node is small: nothing in it lasts.
const TEMPORARY_JOURNAL_BYTES: u64 = 8 << 20;

/// The nodes of this program by directory. Held while one is opened or stopped, so that nobody
/// meets one that is half of either.
static NODES: AsyncMutex<Option<HashMap<PathBuf, Weak<Running>>>> = AsyncMutex::const_new(None);

/// A connection to the node of a data directory in this program.
#[derive(Debug)]
pub struct Embedded {
    transport: EmbeddedTransport,
    node: Mutex<Option<Arc<Running>>>,
}

#[derive(Debug)]
struct Running {
    node: EmbeddedNode,
    listeners: Listeners,
    /// Goes when the node has gone.
    temporary: Option<TempDir>,
}

/// What an address asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// `None`: a temporary one.
    data: Option<PathBuf>,
    kafka: Option<Address>,
    http: Option<Address>,
}

impl Embedded {
    /// Opens the node of an address, or joins the one that this program has open, for the service of
    /// this name. Needs a tokio runtime, which has to last as long as the node.
    ///
    /// # Errors
    /// When the address cannot be read, the directory is in use by another process, or its log cannot
    /// be opened; the error says what to do.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use wharf::embedded::Embedded;
    /// use wharf_message::transport::{Publish, Transport};
    ///
    /// let shop = Embedded::open("embedded://temporary", "shop").await?;
    /// let orders = wharf::TopicName::new("orders")?;
    /// let position = shop.publish(&orders, wharf::Message::new("one")).await?;
    /// assert_eq!(position.map(|position| position.offset), Some(0));
    /// shop.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(address: &str, service: &str) -> Result<Self, BusError> {
        let invalid = |why: String| BusError::Address {
            address: address.to_owned(),
            why,
        };
        let asked = Asked::read(address).map_err(invalid)?;
        let running = running(&asked).await.map_err(invalid)?;
        Ok(Self {
            transport: EmbeddedTransport::on(running.node.broker().clone(), service),
            node: Mutex::new(Some(running)),
        })
    }

    /// The data directory, absolute; `None` after the shutdown.
    pub fn data(&self) -> Option<PathBuf> {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        node.as_ref().map(|running| running.node.data().to_owned())
    }

    /// Where Kafka clients find the node, if it was asked to listen.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use wharf::embedded::Embedded;
    /// use wharf_message::transport::Transport;
    ///
    /// let shop = Embedded::open("embedded://temporary?kafka=127.0.0.1:0", "shop").await?;
    /// assert!(shop.kafka_address().is_some_and(|address| address.port() != 0));
    /// assert!(shop.data().is_some_and(|data| data.is_dir()));
    /// shop.shutdown().await?;
    /// assert_eq!(shop.data(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn kafka_address(&self) -> Option<std::net::SocketAddr> {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        node.as_ref()?.node.kafka_address()
    }

    /// Where the HTTP listener is, if it was asked for.
    pub fn http_address(&self) -> Option<std::net::SocketAddr> {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        node.as_ref()?.node.http_address()
    }

    /// The orchestrator of sagas of the node; `None` after the shutdown.
    #[cfg(feature = "saga")]
    pub fn sagas(&self) -> Option<crate::saga::Sagas> {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = node.as_ref()?.node.sagas().cloned();
        engine.map(crate::saga::Sagas::of)
    }

    async fn stop(&self) -> Result<(), Error> {
        let ended = self.transport.shutdown().await;
        let mut nodes = NODES.lock().await;
        let running = self
            .node
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Others are connected still: the last one stops it.
        let Some(running) = running.and_then(Arc::into_inner) else {
            return ended;
        };
        let Running {
            node, temporary, ..
        } = running;
        if let Some(nodes) = &mut *nodes {
            nodes.retain(|_, node| node.strong_count() > 0);
        }
        let stopped = node.shutdown().await;
        drop(temporary);
        ended.and(stopped.map_err(|problem| Error::Unavailable(problem.to_string())))
    }
}

/// The node that is asked for: the one that is open, or a new one.
async fn running(asked: &Asked) -> Result<Arc<Running>, String> {
    let text = |problem: Problem| problem.to_string();
    let mut nodes = NODES.lock().await;
    let nodes = nodes.get_or_insert_default();
    let listeners = Listeners {
        kafka: asked.kafka.is_some(),
        http: asked.http.is_some(),
        registry: false,
    };
    let key = asked.data.as_deref().and_then(key);
    if let Some(known) = key.and_then(|key| nodes.get(&key)?.upgrade()) {
        let lacks = |has: bool, wants: bool| wants && !has;
        if lacks(known.listeners.kafka, listeners.kafka)
            || lacks(known.listeners.http, listeners.http)
        {
            let why = "this program has the directory open already, without that listener; ask for it where the directory is opened first";
            return Err(why.to_owned());
        }
        return Ok(known);
    }
    let mut config = Config::default();
    let temporary = match &asked.data {
        Some(data) => {
            config.node.data.clone_from(data);
            None
        }
        None => {
            let temporary = tempfile::tempdir()
                .map_err(|error| format!("no temporary directory can be made: {error}"))?;
            config.node.data = temporary.path().to_owned();
            config.log.journal_file_size.0 = TEMPORARY_JOURNAL_BYTES;
            Some(temporary)
        }
    };
    if let Some(listen) = &asked.kafka {
        config.kafka.listen = listen.clone();
    }
    if let Some(listen) = &asked.http {
        config.http.listen = listen.clone();
    }
    let node = EmbeddedNode::start(config, listeners).await.map_err(text)?;
    let key = node.data().to_owned();
    let running = Arc::new(Running {
        node,
        listeners,
        temporary,
    });
    nodes.retain(|_, node| node.strong_count() > 0);
    nodes.insert(key, Arc::downgrade(&running));
    Ok(running)
}

/// The directory as the node knows it; `None` when it does not exist yet.
fn key(data: &Path) -> Option<PathBuf> {
    data.canonicalize().ok()
}

impl Asked {
    fn read(address: &str) -> Result<Self, String> {
        let rest = address
            .strip_prefix(SCHEME)
            .ok_or_else(|| format!("it does not begin with {SCHEME}"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let data = match place {
            TEMPORARY => None,
            _ => match place.strip_prefix("//") {
                Some(path) if path.starts_with('/') => Some(PathBuf::from(path)),
                Some(host) => {
                    return Err(format!(
                        "{host:?} is no data directory; write embedded:///PATH, embedded:PATH or embedded:{TEMPORARY}"
                    ));
                }
                None if place.is_empty() => {
                    return Err("it names no data directory".to_owned());
                }
                None => Some(PathBuf::from(place)),
            },
        };
        let mut asked = Self {
            data,
            kafka: None,
            http: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let listen = value.parse::<Address>().map_err(|error| error.to_string());
            match name {
                "kafka" => asked.kafka = Some(listen?),
                "http" => asked.http = Some(listen?),
                other => {
                    return Err(format!(
                        "there is no option {other:?}; there are kafka and http"
                    ));
                }
            }
        }
        Ok(asked)
    }
}

impl fmt::Display for Embedded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.data() {
            Some(data) => write!(formatter, "the embedded broker in {}", data.display()),
            None => formatter.write_str("an embedded broker that was shut down"),
        }
    }
}

impl Publish for Embedded {
    fn capabilities(&self) -> Capabilities {
        self.transport.capabilities()
    }

    fn create_topic(&self, topic: &TopicName, partitions: u32) -> BoxFuture<'_, Result<(), Error>> {
        self.transport.create_topic(topic, partitions)
    }

    fn publish(
        &self,
        topic: &TopicName,
        message: Message,
    ) -> BoxFuture<'_, Result<Option<Position>, Error>> {
        self.transport.publish(topic, message)
    }
}

impl Subscribe for Embedded {
    fn subscribe(
        &self,
        subscription: Subscription,
    ) -> BoxFuture<'_, Result<Box<dyn Deliveries>, Error>> {
        self.transport.subscribe(subscription)
    }
}

impl Transport for Embedded {
    fn name(&self) -> &'static str {
        self.transport.name()
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.stop())
    }

    fn history(&self) -> Result<Arc<dyn TopicHistory>, Error> {
        self.transport.history()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_where_the_data_is_and_what_listens() {
        let asked = |address: &str| Asked::read(address).unwrap();
        let data = |address: &str| asked(address).data;
        assert_eq!(
            data("embedded:///var/lib/shop"),
            Some("/var/lib/shop".into())
        );
        assert_eq!(data("embedded:data/shop"), Some("data/shop".into()));
        assert_eq!(data("embedded:/data"), Some("/data".into()));
        assert_eq!(data("embedded://temporary"), None);
        let listening = asked("embedded:///x?kafka=127.0.0.1:9092&http=[::1]:0");
        assert_eq!(listening.kafka, Some(Address::new("127.0.0.1", 9092)));
        assert_eq!(listening.http, Some(Address::new("::1", 0)));
        for wrong in [
            "embedded:",
            "embedded://shop",
            "embedded:///x?kafka=9092",
            "embedded:///x?port=1",
            "kafka://x",
        ] {
            assert!(Asked::read(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn connections_of_a_program_share_the_node_and_the_last_one_stops_it() {
        let data = tempfile::tempdir().unwrap();
        let address = format!("embedded://{}", data.path().display());
        let first = Embedded::open(&address, "first").await.unwrap();
        let second = Embedded::open(&address, "second").await.unwrap();
        let orders = TopicName::new("orders").unwrap();
        first.publish(&orders, Message::new("one")).await.unwrap();
        first.shutdown().await.unwrap();
        let published = second.publish(&orders, Message::new("two")).await.unwrap();
        assert_eq!(published.map(|position| position.offset), Some(1));
        let listening = format!("{address}?kafka=127.0.0.1:0");
        let refused = Embedded::open(&listening, "third").await.unwrap_err();
        assert!(
            refused.to_string().contains("without that listener"),
            "{refused}"
        );
        second.shutdown().await.unwrap();
        let again = Embedded::open(&listening, "again").await.unwrap();
        assert!(again.kafka_address().is_some());
        let published = again.publish(&orders, Message::new("three")).await.unwrap();
        assert_eq!(published.map(|position| position.offset), Some(2));
        again.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn a_temporary_node_leaves_nothing_behind() {
        let node = Embedded::open("embedded://temporary", "test")
            .await
            .unwrap();
        let data = node.data().unwrap();
        assert!(data.exists());
        node.shutdown().await.unwrap();
        assert!(!data.exists());
        assert_eq!(node.data(), None);
    }
}

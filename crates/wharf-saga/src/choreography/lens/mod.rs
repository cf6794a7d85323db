//! The lens: live sagas derived from traffic, without any declaration.
//!
//! Records that one id correlates are an instance; what it begins with is its type. What caused an
//! event is the event before it, or else the one before it in time. The graph of a type is the sum
//! of its instances.
//!
//! Invariants: instances, events of one, names, types and edges are bounded, and what is let go of is
//! counted. As long as nothing is let go of, the graph is the same in whatever order topics are read.

mod graph;
mod sketch;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use wharf_message::Timestamp;

use super::correlation::{Correlation, Found};
use super::observed::{Observed, hash};
use graph::{Follows, Mined};
pub use sketch::Sketch;
pub use view::{Dropped, Edge, Event, Graph, Instance, Kind, Missing, Step};

/// What is counted under one name when there are too many.
pub const OTHER: &str = "(other)";
/// Of so many times that an event came, what followed less often than once is rare.
const RARE_ONE_IN: u64 = 100;
/// Something is missing where it follows at least this often of a hundred times.
const USUAL_PERCENT: u64 = 90;
/// Instances shown of what is missing.
const EXAMPLES_MAX: usize = 10;

/// What the lens bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Instances, those at rest too.
    pub instances_max: usize,
    /// Events of one instance.
    pub events_max: usize,
    /// Names of events, topics and services.
    pub names_max: usize,
    /// Types of sagas.
    pub kinds_max: usize,
    /// Edges of one type.
    pub edges_max: usize,
    /// An instance is at rest when nothing comes for this long.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            instances_max: 100_000,
            events_max: 200,
            names_max: 10_000,
            kinds_max: 500,
            edges_max: 2_000,
            idle: Duration::from_secs(600),
        }
    }
}

/// An event of an instance.
#[derive(Clone, Debug)]
struct Seen {
    event: u32,
    topic: u32,
    service: Option<u32>,
    partition: i32,
    offset: i64,
    at: Timestamp,
    id: Option<Box<str>>,
    identity: u64,
    cause: Option<u64>,
}

#[derive(Clone, Debug)]
struct Live {
    by: String,
    events: Vec<Seen>,
    dropped: u64,
    /// When something came last, and which of all times that was: its place in the order.
    place: (Timestamp, u64),
    is_at_rest: bool,
    /// The type and what was put into its graph.
    kind: u32,
    mined: Mined,
}

/// Names by number; a number is never given to another name.
#[derive(Clone, Debug)]
struct Names {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
    max: usize,
}

impl Names {
    fn new(max: usize) -> Self {
        Self {
            numbers: HashMap::new(),
            names: vec![OTHER.into()],
            max,
        }
    }

    /// The name's number, or that of [`OTHER`] when there are too many.
    fn number(&mut self, name: &str, dropped: &mut u64) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        if self.names.len() >= self.max {
            *dropped += 1;
            return 0;
        }
        let (number, name) = (
            u32::try_from(self.names.len()).unwrap_or(0),
            Arc::from(name),
        );
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    fn of(&self, number: u32) -> &str {
        let index = usize::try_from(number).unwrap_or(0);
        self.names.get(index).map_or(OTHER, |name| name)
    }
}

/// The lens.
#[derive(Clone, Debug)]
pub struct Lens {
    limits: Limits,
    correlation: Correlation,
    names: Names,
    instances: HashMap<Arc<str>, Live>,
    /// By when something came last: the order in which they come to rest and are let go of.
    order: BTreeMap<(Timestamp, u64), Arc<str>>,
    /// Those of them that are not at rest.
    awake: BTreeMap<(Timestamp, u64), Arc<str>>,
    kinds: HashMap<u32, graph::Graph>,
    dropped: Dropped,
    count: u64,
}

impl Lens {
    /// A lens that has seen nothing.
    pub fn new(correlation: Correlation, limits: Limits) -> Self {
        Self {
            limits,
            correlation,
            names: Names::new(limits.names_max),
            instances: HashMap::new(),
            order: BTreeMap::new(),
            awake: BTreeMap::new(),
            kinds: HashMap::new(),
            dropped: Dropped::default(),
            count: 0,
        }
    }

    /// Takes a record in that was read at `now`. Whether anything correlates it.
    pub fn observe(&mut self, seen: &Observed<'_>, now: Timestamp) -> bool {
        self.tick(now);
        let Some(Found { id, by }) = self.correlation.of(seen) else {
            self.dropped.uncorrelated += 1;
            return false;
        };
        let event = self.seen(seen);
        let id: Arc<str> = id.into();
        let mut live = match self.instances.remove(&id) {
            Some(live) => {
                self.order.remove(&live.place);
                self.awake.remove(&live.place);
                self.take(&live);
                live
            }
            None => Live {
                by,
                events: Vec::new(),
                dropped: 0,
                place: (now, 0),
                is_at_rest: false,
                kind: 0,
                mined: Mined::default(),
            },
        };
        self.insert(&mut live, event);
        self.count += 1;
        live.place = (now, self.count);
        live.is_at_rest = false;
        self.put(&mut live);
        self.order.insert(live.place, Arc::clone(&id));
        self.awake.insert(live.place, Arc::clone(&id));
        self.instances.insert(id, live);
        while self.instances.len() > self.limits.instances_max {
            self.let_go();
        }
        true
    }

    /// Lets instances come to rest to which nothing came for long.
    pub fn tick(&mut self, now: Timestamp) {
        while let Some(((last, _), _)) = self.awake.first_key_value()
            && now.since(*last) > self.limits.idle
        {
            let Some((_, id)) = self.awake.pop_first() else {
                return;
            };
            self.rest(&id);
        }
    }

    fn rest(&mut self, id: &Arc<str>) {
        let Some(mut live) = self.instances.remove(id) else {
            return;
        };
        self.take(&live);
        live.is_at_rest = true;
        self.put(&mut live);
        self.instances.insert(Arc::clone(id), live);
    }

    /// Lets go of the instance to which nothing came for longest; what it showed stays in the graph.
    fn let_go(&mut self) {
        let Some((place, id)) = self.order.pop_first() else {
            return;
        };
        if self.awake.remove(&place).is_some() {
            self.rest(&id);
            self.dropped.instances += 1;
        }
        self.instances.remove(&id);
    }

    fn seen(&mut self, seen: &Observed<'_>) -> Seen {
        let dropped = &mut self.dropped.names;
        Seen {
            event: self.names.number(seen.event(), dropped),
            topic: self.names.number(seen.topic, dropped),
            service: seen.service().map(|name| self.names.number(name, dropped)),
            partition: seen.partition,
            offset: seen.offset,
            at: seen.at(),
            id: seen.id().map(Into::into),
            identity: seen.identity(),
            cause: seen.cause().map(|id| hash(&[id.as_bytes()])),
        }
    }

    /// Puts an event in its place; of one message that came twice, the earlier record counts.
    fn insert(&mut self, live: &mut Live, event: Seen) {
        let names = &self.names;
        let place = |seen: &Seen| {
            (
                seen.at,
                names.of(seen.topic).to_owned(),
                seen.partition,
                seen.offset,
            )
        };
        let same = live
            .events
            .iter()
            .position(|one| one.identity == event.identity);
        if let Some(same) = same {
            self.dropped.redelivered += 1;
            if place(&live.events[same]) <= place(&event) {
                return;
            }
            live.events.remove(same);
        }
        if live.events.len() >= self.limits.events_max {
            live.dropped += 1;
            self.dropped.events += 1;
            return;
        }
        let wanted = place(&event);
        let index = live.events.partition_point(|one| place(one) < wanted);
        live.events.insert(index, event);
    }

    /// Puts what an instance shows into the graph of its type.
    fn put(&mut self, live: &mut Live) {
        live.mined = mined(live);
        let start = live.mined.start.unwrap_or(0);
        let is_room = self.kinds.len() < self.limits.kinds_max;
        live.kind = match self.kinds.contains_key(&start) || is_room {
            true => start,
            false => {
                self.dropped.kinds += 1;
                0
            }
        };
        let graph = self.kinds.entry(live.kind).or_default();
        graph.add(&live.mined, self.limits.edges_max);
    }

    fn take(&mut self, live: &Live) {
        if let Some(graph) = self.kinds.get_mut(&live.kind) {
            graph.take(&live.mined);
            if graph.instances == 0 && graph.nodes.is_empty() {
                self.kinds.remove(&live.kind);
            }
        }
    }

    /// What was let go of.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// How many instances are remembered.
    pub fn instances_len(&self) -> usize {
        self.instances.len()
    }

    /// The types of sagas, the most frequent first.
    pub fn kinds(&self) -> Vec<Kind> {
        let kind = |(number, graph): (&u32, &graph::Graph)| Kind {
            saga: self.names.of(*number).to_owned(),
            instances: graph.instances,
            events: graph.nodes.len(),
            edges: graph.edges.len(),
        };
        let mut all: Vec<Kind> = self.kinds.iter().map(kind).collect();
        all.sort_by(|one, other| {
            let by_count = other.instances.cmp(&one.instances);
            by_count.then_with(|| one.saga.cmp(&other.saga))
        });
        all
    }

    /// The names of all events seen.
    pub fn events(&self) -> Vec<String> {
        let nodes = self.kinds.values().flat_map(|graph| graph.nodes.keys());
        let mut all: Vec<String> = nodes
            .map(|number| self.names.of(*number).to_owned())
            .collect();
        all.sort();
        all.dedup();
        all
    }

    fn kind(&self, saga: &str) -> Option<(u32, &graph::Graph)> {
        let number = match saga {
            OTHER => 0,
            name => *self.names.numbers.get(name)?,
        };
        Some((number, self.kinds.get(&number)?))
    }

    /// The graph of a type.
    pub fn graph(&self, saga: &str) -> Option<Graph> {
        let (number, graph) = self.kind(saga)?;
        let name = |number: &u32| self.names.of(*number).to_owned();
        let mut events: Vec<Event> = graph
            .nodes
            .iter()
            .map(|(event, node)| self.event(*event, node))
            .collect();
        events.sort_by(|one, other| one.event.cmp(&other.event));
        let edge = |((from, to), sketch): (&(u32, u32), &Sketch)| {
            let came = graph.nodes.get(from).map_or(0, |node| node.count).max(1);
            let count = sketch.total();
            Edge {
                from: name(from),
                to: name(to),
                count,
                percent: percent(count, came),
                p50_ms: sketch.quantile(0.5),
                p99_ms: sketch.quantile(0.99),
                is_rare: came >= RARE_ONE_IN && count * RARE_ONE_IN < came,
            }
        };
        let mut edges: Vec<Edge> = graph.edges.iter().map(edge).collect();
        edges.sort_by(|one, other| (&one.from, &one.to).cmp(&(&other.from, &other.to)));
        Some(Graph {
            saga: saga.to_owned(),
            instances: graph.instances,
            events,
            edges,
            missing: self.missing(number, graph),
            edges_dropped: graph.beyond,
        })
    }

    fn event(&self, number: u32, node: &graph::Node) -> Event {
        let names = |numbers: Vec<u32>| {
            let numbers = numbers.into_iter().filter(|number| *number != u32::MAX);
            let mut names: Vec<String> = numbers
                .map(|number| self.names.of(number).to_owned())
                .collect();
            names.sort();
            names.dedup();
            names
        };
        Event {
            event: self.names.of(number).to_owned(),
            count: node.count,
            starts: node.starts,
            ends: node.ends,
            topics: names(node.places.keys().map(|(topic, _)| *topic).collect()),
            services: names(node.places.keys().map(|(_, service)| *service).collect()),
        }
    }

    /// The events that something nearly always follows, and after which instances have come to rest.
    fn missing(&self, kind: u32, graph: &graph::Graph) -> Vec<Missing> {
        let unusual = |node: &graph::Node| {
            node.ends > 0
                && (node.count - node.ends.min(node.count)) * 100 >= node.count * USUAL_PERCENT
        };
        let nodes = graph.nodes.iter().filter(|(_, node)| unusual(node));
        let mut all: Vec<Missing> = nodes
            .map(|(event, node)| {
                let of_event = graph.edges.iter().filter(|((from, _), _)| from == event);
                let mut usually: Vec<(u64, &str)> = of_event
                    .map(|((_, to), sketch)| (sketch.total(), self.names.of(*to)))
                    .collect();
                usually.sort_by(|one, other| other.cmp(one));
                let stopped = self.order.values().filter(|id| {
                    let live = self.instances.get(*id);
                    live.is_some_and(|live| live.kind == kind && live.mined.ends.contains(event))
                });
                Missing {
                    after: self.names.of(*event).to_owned(),
                    usually: usually.iter().map(|(_, name)| (*name).to_owned()).collect(),
                    instances: node.ends,
                    examples: stopped
                        .take(EXAMPLES_MAX)
                        .map(ToString::to_string)
                        .collect(),
                }
            })
            .collect();
        all.sort_by(|one, other| one.after.cmp(&other.after));
        all
    }

    /// The instances of a type, or of all; those that something came to last, first.
    pub fn instances(&self, saga: Option<&str>, count_max: usize) -> Vec<Instance> {
        let kind = saga.map(|saga| self.kind(saga).map(|(number, _)| number));
        let all = self.order.values().rev().filter_map(|id| {
            let live = self.instances.get(id)?;
            let is_kind = kind.is_none_or(|kind| kind == Some(live.kind));
            is_kind.then(|| self.shown(id, live))
        });
        all.take(count_max).collect()
    }

    /// One instance.
    pub fn instance(&self, id: &str) -> Option<Instance> {
        Some(self.shown(id, self.instances.get(id)?))
    }

    fn shown(&self, id: &str, live: &Live) -> Instance {
        let causes = causes(&live.events);
        let step = |(seen, follows): (&Seen, Option<usize>)| Step {
            event: self.names.of(seen.event).to_owned(),
            at: seen.at.to_rfc3339(),
            topic: self.names.of(seen.topic).to_owned(),
            partition: seen.partition,
            offset: seen.offset,
            id: seen.id.as_deref().map(str::to_owned),
            service: seen.service.map(|number| self.names.of(number).to_owned()),
            follows,
        };
        let at = |seen: Option<&Seen>| seen.map_or(Timestamp::ZERO, |seen| seen.at).to_rfc3339();
        Instance {
            id: id.to_owned(),
            saga: self.names.of(live.kind).to_owned(),
            by: live.by.clone(),
            began_at: at(live.events.first()),
            last_at: at(live.events.last()),
            is_at_rest: live.is_at_rest,
            events: live.events.iter().zip(causes).map(step).collect(),
            events_dropped: live.dropped,
        }
    }
}

/// What each event followed: its cause where that is known and here, else the event before it.
fn causes(events: &[Seen]) -> Vec<Option<usize>> {
    let ids: HashMap<u64, usize> = events
        .iter()
        .enumerate()
        .filter_map(|(index, seen)| Some((hash(&[seen.id.as_deref()?.as_bytes()]), index)))
        .collect();
    let cause = |(index, seen): (usize, &Seen)| {
        let named = seen.cause.and_then(|cause| ids.get(&cause));
        named
            .copied()
            .filter(|cause| *cause != index)
            .or_else(|| index.checked_sub(1))
    };
    events.iter().enumerate().map(cause).collect()
}

fn mined(live: &Live) -> Mined {
    let causes = causes(&live.events);
    let mut is_followed = vec![false; live.events.len()];
    let mut mined = Mined {
        start: live.events.first().map(|seen| seen.event),
        ..Mined::default()
    };
    for (seen, cause) in live.events.iter().zip(&causes) {
        // No service is a number of its own, which has no name.
        let service = seen.service.unwrap_or(u32::MAX);
        mined.events.push((seen.event, seen.topic, service));
        let Some(cause) = *cause else { continue };
        is_followed[cause] = true;
        let millis = seen.at.since(live.events[cause].at).as_millis();
        mined.follows.push(Follows {
            from: live.events[cause].event,
            to: seen.event,
            millis: u64::try_from(millis).unwrap_or(u64::MAX),
        });
    }
    if live.is_at_rest {
        let ends = live
            .events
            .iter()
            .zip(&is_followed)
            .filter(|(_, followed)| !**followed);
        mined.ends = ends.map(|(seen, _)| seen.event).collect();
    }
    mined
}

fn percent(count: u64, of: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let exact = count as f64 * 100.0 / of as f64;
    (exact * 10.0).round() / 10.0
}

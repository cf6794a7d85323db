//! Fetch sessions (KIP-227) as clients see them.

use std::rc::Rc;
use std::time::Duration;

use wharf_broker::{ErrorKind, Fetch, FetchPartition, FetchSession, Fetched, Options, TopicRef};

use crate::fetching::{error, fetch, from, name, produce, request, values};
use crate::support::{World, client};

const NEW_SESSION: FetchSession = FetchSession { id: 0, epoch: 0 };

/// A client's side of a session.
struct Session {
    world: Rc<World>,
    id: i32,
    epoch: i32,
}

impl Session {
    fn open(world: &Rc<World>, partitions: Vec<FetchPartition>) -> (Self, Fetched) {
        let fetched = fetch(
            world,
            Fetch {
                session: NEW_SESSION,
                ..request(partitions)
            },
        );
        assert_ne!(fetched.session_id, 0);
        let session = Self {
            world: Rc::clone(world),
            id: fetched.session_id,
            epoch: 1,
        };
        (session, fetched)
    }

    fn next(&mut self, changes: Vec<FetchPartition>, forgotten: Vec<(TopicRef, i32)>) -> Fetched {
        let session = FetchSession {
            id: self.id,
            epoch: self.epoch,
        };
        self.epoch += 1;
        fetch(
            &self.world,
            Fetch {
                session,
                forgotten,
                ..request(changes)
            },
        )
    }
}

fn told(fetched: &Fetched) -> Vec<i32> {
    fetched
        .partitions
        .iter()
        .map(|partition| partition.partition)
        .collect()
}

#[test]
fn a_session_remembers_its_partitions_and_tells_only_news() {
    let world = Rc::new(World::new());
    world.topic("orders", 3, &[]);
    let all = (0..3)
        .map(|partition| from("orders", partition, 0))
        .collect();
    let (mut session, first) = Session::open(&world, all);
    assert_eq!(told(&first), [0, 1, 2], "the first answer is full");
    assert_eq!(told(&session.next(vec![], vec![])), [] as [i32; 0]);
    produce(&world, "orders", 1, &["a"]);
    let news = session.next(vec![], vec![]);
    assert_eq!(told(&news), [1]);
    assert_eq!(values(&news.partitions[0]), ["a"]);
    assert_eq!(news.session_id, session.id);
    assert_eq!(
        told(&session.next(vec![from("orders", 1, 1)], vec![])),
        [] as [i32; 0]
    );
    produce(&world, "orders", 0, &["b"]);
    produce(&world, "orders", 2, &["c"]);
    let news = session.next(vec![], vec![(name("orders"), 0)]);
    assert_eq!(told(&news), [2], "what was forgotten is not told");
}

#[test]
fn a_moved_start_is_news_and_so_is_every_error() {
    let world = Rc::new(World::new());
    world.topic("orders", 1, &[]);
    produce(&world, "orders", 0, &["a"]);
    let (mut session, _) = Session::open(&world, vec![from("orders", 0, 1), from("none", 0, 0)]);
    let news = session.next(vec![], vec![]);
    assert_eq!(news.partitions.len(), 1);
    assert_eq!(
        error(&news.partitions[0]),
        Some(ErrorKind::UnknownTopicOrPartition)
    );
    let broker = world.broker.clone();
    world
        .run(async move {
            broker
                .delete_records(&client(), &name("orders"), 0, 1)
                .await
        })
        .unwrap();
    let news = session.next(vec![], vec![(name("none"), 0)]);
    assert_eq!((told(&news), news.partitions[0].log_start), (vec![0], 1));
}

#[test]
fn sessions_are_checked() {
    let world = Rc::new(World::new());
    world.topic("orders", 1, &[]);
    let refused = |id, epoch| {
        let session = FetchSession { id, epoch };
        let fetched = fetch(
            &world,
            Fetch {
                session,
                ..request(vec![])
            },
        );
        fetched.error.map(|error| error.kind)
    };
    let (mut session, _) = Session::open(&world, vec![from("orders", 0, 0)]);
    assert_eq!(
        refused(session.id ^ 1, 1),
        Some(ErrorKind::FetchSessionIdNotFound)
    );
    assert_eq!(
        refused(session.id, 2),
        Some(ErrorKind::InvalidFetchSessionEpoch)
    );
    let mut by_id = from("orders", 0, 0);
    by_id.topic = TopicRef::Id(uuid::Uuid::from_u128(1));
    let mixed = session.next(vec![by_id], vec![]).error.unwrap();
    assert_eq!(mixed.kind, ErrorKind::FetchSessionTopicIdError);
    session.epoch = 1;
    assert!(session.next(vec![], vec![]).error.is_none());
    assert_eq!(refused(session.id, -1), None, "closing");
    assert_eq!(
        refused(session.id, 2),
        Some(ErrorKind::FetchSessionIdNotFound)
    );
}

#[test]
fn a_session_without_partitions_ends() {
    let world = Rc::new(World::new());
    world.topic("orders", 1, &[]);
    let (mut session, _) = Session::open(&world, vec![from("orders", 0, 0)]);
    assert_eq!(
        session.next(vec![], vec![(name("orders"), 0)]).session_id,
        0
    );
    let gone = session.next(vec![], vec![]).error.unwrap();
    assert_eq!(gone.kind, ErrorKind::FetchSessionIdNotFound);
}

#[test]
fn sessions_are_evicted_when_idle_or_smaller_never_otherwise() {
    let options = Options {
        fetch_sessions_max: 1,
        ..Options::default()
    };
    let world = Rc::new(World::with(options));
    world.topic("orders", 3, &[]);
    let open = |count| {
        let all = (0..count)
            .map(|partition| from("orders", partition, 0))
            .collect();
        fetch(
            &world,
            Fetch {
                session: NEW_SESSION,
                ..request(all)
            },
        )
        .session_id
    };
    let first = open(2);
    assert_ne!(first, 0);
    assert_eq!(open(2), 0, "no room");
    let larger = open(3);
    assert_ne!(larger, 0, "a larger one is worth more");
    assert_eq!(open(1), 0);
    world.advance(Duration::from_secs(121));
    assert_ne!(open(1), 0, "the other one was idle");
}

#[test]
fn a_session_gives_every_partition_its_turn() {
    let world = Rc::new(World::new());
    world.topic("orders", 3, &[]);
    for partition in 0..3 {
        produce(&world, "orders", partition, &["x"]);
    }
    let all = (0..3)
        .map(|partition| from("orders", partition, 0))
        .collect();
    let (session, _) = Session::open(&world, all);
    let mut served = Vec::new();
    for epoch in 1..=3 {
        let session = FetchSession {
            id: session.id,
            epoch,
        };
        let fetched = fetch(
            &world,
            Fetch {
                session,
                bytes_max: 1,
                ..request(vec![])
            },
        );
        served.extend(
            fetched
                .partitions
                .iter()
                .filter(|one| !one.batches.is_empty())
                .map(|one| one.partition),
        );
    }
    served.sort_unstable();
    assert_eq!(served, [0, 1, 2]);
}

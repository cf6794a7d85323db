//! Properties of the assignors over random groups.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn topic(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn sizes() -> impl Strategy<Value = Sizes> {
    prop::collection::btree_map((0..6_u128).prop_map(topic), 0..12_i32, 0..5)
}

/// Members with random subscriptions and a random past, in which partitions may have two owners,
/// not exist any more, or not be subscribed to any more.
fn members(alike: bool) -> impl Strategy<Value = Subscribers<'static>> {
    let topics = prop::collection::btree_set((0..6_u128).prop_map(topic), 0..5);
    let current = prop::collection::vec(((0..7_u128).prop_map(topic), 0..14_i32), 0..20);
    let member = (topics.clone(), current, prop::option::of("[a-c]"));
    let members = prop::collection::btree_map("[a-h]", member, 0..8);
    (members, topics).prop_map(move |(members, same)| {
        let member = |(topics, current, instance): (_, Vec<_>, _)| Subscriber {
            instance,
            topics: if alike { same.clone() } else { topics },
            current: Cow::Owned(current.into_iter().collect()),
        };
        members
            .into_iter()
            .map(|(id, parts)| (id, member(parts)))
            .collect()
    })
}

fn owners(assignment: &Assignment) -> BTreeMap<super::super::partitions::Partition, Vec<&str>> {
    let mut owners = BTreeMap::<_, Vec<&str>>::new();
    for (id, partitions) in assignment {
        for partition in partitions.iter() {
            owners.entry(partition).or_default().push(id);
        }
    }
    owners
}

fn loads(assignment: &Assignment) -> Vec<usize> {
    assignment.values().map(Partitions::len).collect()
}

/// How many partitions each member keeps of what it had, when it was the only one to have it.
fn moved(members: &Subscribers<'_>, assignment: &Assignment) -> usize {
    let kept = members.iter().map(|(id, member)| {
        let now = &assignment[id];
        member.current.without(now).len()
    });
    kept.sum()
}

/// The members after the assignment, ready for the next one.
fn settled(members: &Subscribers<'static>, assignment: &Assignment) -> Subscribers<'static> {
    let settled = members.iter().map(|(id, member)| {
        let current = Cow::Owned(assignment[id].clone());
        (
            id.clone(),
            Subscriber {
                current,
                ..member.clone()
            },
        )
    });
    settled.collect()
}

proptest! {
    #[test]
    fn every_partition_goes_to_exactly_one_of_its_subscribers(
        members in members(false), sizes in sizes(), name in prop::sample::select(&NAMES[..])
    ) {
        let assignment = assign(name, &members, &sizes);
        prop_assert!(assignment.keys().eq(members.keys()));
        let owners = owners(&assignment);
        for (partition, owners) in &owners {
            prop_assert_eq!(owners.len(), 1);
            prop_assert!(members[owners[0]].topics.contains(&partition.0));
            prop_assert!(sizes.get(&partition.0).is_some_and(|size| partition.1 < *size));
        }
        for (topic, size) in &sizes {
            if members.values().any(|member| member.topics.contains(topic)) {
                for index in 0..*size {
                    prop_assert!(owners.contains_key(&(*topic, index)));
                }
            }
        }
        prop_assert_eq!(&assignment, &assign(name, &members, &sizes));
    }

    #[test]
    fn equal_subscriptions_give_shares_that_differ_by_one_at_most(
        members in members(true), sizes in sizes()
    ) {
        let loads = loads(&assign("uniform", &members, &sizes));
        let (least, most) = (loads.iter().min(), loads.iter().max());
        prop_assert!(most.copied().unwrap_or(0) - least.copied().unwrap_or(0) <= 1, "{loads:?}");
    }

    #[test]
    fn no_single_move_makes_uniform_shares_more_equal(
        members in members(false), sizes in sizes()
    ) {
        let assignment = assign("uniform", &members, &sizes);
        for (id, partitions) in &assignment {
            for partition in partitions.iter() {
                for (other, member) in &members {
                    let can = member.topics.contains(&partition.0);
                    prop_assert!(
                        !can || assignment[other].len() + 1 >= partitions.len(),
                        "{id} could give {partition:?} to {other}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_uniform_assignment_that_is_settled_stays(members in members(false), sizes in sizes()) {
        let once = assign("uniform", &members, &sizes);
        prop_assert_eq!(&assign("uniform", &settled(&members, &once), &sizes), &once);
    }

    #[test]
    fn a_member_that_comes_or_goes_moves_as_little_as_possible(
        members in members(true), sizes in sizes(), leaves: prop::sample::Index
    ) {
        prop_assume!(!members.is_empty());
        let before = settled(&members, &assign("uniform", &members, &sizes));
        let all: usize = before.values().map(|member| member.current.len()).sum();

        let mut less = before.clone();
        let gone = less.keys().nth(leaves.index(less.len())).unwrap().clone();
        less.remove(&gone);
        prop_assert_eq!(moved(&less, &assign("uniform", &less, &sizes)), 0);

        let mut more = before.clone();
        let topics = before.values().next().unwrap().topics.clone();
        more.insert("new".to_owned(), Subscriber { topics, ..Subscriber::default() });
        let share = all / more.len();
        prop_assert!(moved(&more, &assign("uniform", &more, &sizes)) <= share.max(1));
    }

    #[test]
    fn range_gives_equal_topics_to_the_same_members(members in members(true), size in 1..12_i32) {
        let sizes: Sizes = (0..6).map(|number| (topic(number), size)).collect();
        for partitions in assign("range", &members, &sizes).values() {
            let shares: BTreeSet<_> = partitions.topics().map(|(_, indexes)| indexes).collect();
            prop_assert!(shares.len() <= 1, "{shares:?}");
        }
    }
}

#[test]
fn range_puts_static_members_first_in_the_order_of_their_instances() {
    let member = |instance: Option<&str>| Subscriber::<'static> {
        instance: instance.map(str::to_owned),
        topics: [topic(1)].into(),
        ..Subscriber::default()
    };
    let members: Subscribers<'_> = [
        ("a".to_owned(), member(None)),
        ("b".to_owned(), member(Some("2"))),
        ("c".to_owned(), member(Some("1"))),
    ]
    .into();
    let assignment = assign("range", &members, &[(topic(1), 4)].into());
    let of = |id: &str| {
        assignment[id]
            .iter()
            .map(|(_, index)| index)
            .collect::<Vec<_>>()
    };
    assert_eq!((of("c"), of("b"), of("a")), (vec![0, 1], vec![2], vec![3]));
}

#[test]
fn the_most_votes_choose_the_assignor_and_uniform_is_the_default() {
    assert_eq!(elect(&[]), "uniform");
    assert_eq!(elect(&["range"]), "range");
    assert_eq!(elect(&["range", "uniform"]), "uniform");
    assert_eq!(elect(&["range", "uniform", "range"]), "range");
}

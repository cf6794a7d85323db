//! What must hold of topics, compared with the table itself: pure, so that every way to break the
//! promise has a test.

use std::collections::{BTreeMap, HashMap, HashSet};

/// A row of the outbox, or the record that was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The message's id.
    pub(super) id: String,
    /// The topic as the writer named it.
    pub(super) topic: String,
    /// The aggregate.
    pub(super) key: String,
    /// Begins with the version that the aggregate had with this row, and a space.
    pub(super) payload: Vec<u8>,
}

impl Row {
    /// The aggregate's version, 0 when the payload does not begin with one.
    fn version(&self) -> u64 {
        let digits = self.payload.split(|&byte| byte == b' ').next();
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }
}

/// How a writer's transaction ended, as far as the writer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The database said that it is committed.
    Committed,
    /// Its commit was never asked for, nor will be.
    RolledBack,
    /// Its commit was asked for and not answered.
    Unknown,
}

/// How often a committed row may arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    Once,
    /// With the same id, by which repeats are removed.
    OnceOrMore,
}

/// A record of a topic, in the order of its partition.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) partition: i32,
    pub(super) row: Row,
}

/// Whether the database kept what it said, and no more; and whether the test itself is sound: the rows
/// of each aggregate have the versions from 1 on.
pub(super) fn table(fates: &HashMap<String, Fate>, table: &[Row]) -> Vec<String> {
    let mut findings = Vec::new();
    let there: HashSet<&str> = table.iter().map(|row| row.id.as_str()).collect();
    for (id, fate) in fates {
        match (fate, there.contains(id.as_str())) {
            (Fate::Committed, false) => findings.push(format!("{id}: committed, not in the table")),
            (Fate::RolledBack, true) => findings.push(format!("{id}: rolled back, in the table")),
            _ => {}
        }
    }
    let mut versions: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
    for row in table {
        if !fates.contains_key(&row.id) {
            findings.push(format!("{}: in the table, and nobody wrote it", row.id));
        }
        let versions = versions.entry((&row.topic, &row.key)).or_default();
        versions.push(row.version());
    }
    for (aggregate, mut versions) in versions {
        versions.sort_unstable();
        if !versions.iter().copied().eq(1..=versions.len() as u64) {
            findings.push(format!(
                "{aggregate:?}: its rows do not have the versions from 1 on"
            ));
        }
    }
    findings
}

/// Whether the topics have what the table has, as often as promised and in the order of each aggregate.
pub(super) fn topics(table: &[Row], arrived: &[Arrived], promise: Promise) -> Vec<String> {
    let mut findings = Vec::new();
    let committed: HashMap<&str, &Row> = table.iter().map(|row| (row.id.as_str(), row)).collect();
    let mut seen: HashSet<&str> = HashSet::new();
    // Where each aggregate is: its partition, and the version of its last row.
    let mut aggregates: HashMap<(&str, &str), (i32, u64)> = HashMap::new();
    for Arrived { partition, row } in arrived {
        match committed.get(row.id.as_str()) {
            None => {
                findings.push(format!("{}: arrived, never committed", row.id));
                continue;
            }
            Some(&committed) if committed != row => {
                findings.push(format!("{}: arrived as another one than committed", row.id));
            }
            Some(_) => {}
        }
        if !seen.insert(&row.id) {
            if promise == Promise::Once {
                findings.push(format!("{}: arrived twice", row.id));
            }
            continue;
        }
        let aggregate = aggregates.entry((&row.topic, &row.key));
        let (home, version) = aggregate.or_insert((*partition, 0));
        if home != partition {
            findings.push(format!("{} {}: in two partitions", row.topic, row.key));
        }
        if row.version() != *version + 1 {
            findings.push(format!(
                "{} {}: version {} arrived behind {version}",
                row.topic,
                row.key,
                row.version()
            ));
        }
        *version = row.version();
    }
    let lost = table.iter().filter(|row| !seen.contains(row.id.as_str()));
    findings.extend(lost.map(|row| format!("{}: committed, never arrived", row.id)));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, version: u64) -> Row {
        Row {
            id: format!("{key}-{version}"),
            topic: "orders".to_owned(),
            key: key.to_owned(),
            payload: format!("{version} x").into_bytes(),
        }
    }

    fn rows() -> Vec<Row> {
        vec![row("a", 1), row("b", 1), row("a", 2), row("a", 3)]
    }

    fn arrived(rows: impl IntoIterator<Item = Row>) -> Vec<Arrived> {
        let arrived = |row| Arrived { partition: 0, row };
        rows.into_iter().map(arrived).collect()
    }

    #[test]
    fn everything_once_and_in_order_is_fine_and_so_are_repeats_where_they_are_allowed() {
        let again = arrived(rows().into_iter().chain(rows()));
        for promise in [Promise::Once, Promise::OnceOrMore] {
            assert!(topics(&rows(), &arrived(rows()), promise).is_empty());
        }
        assert!(topics(&rows(), &again, Promise::OnceOrMore).is_empty());
        assert_eq!(topics(&rows(), &again, Promise::Once).len(), 4);
    }

    #[test]
    fn a_row_that_is_lost_made_up_changed_moved_or_out_of_order_is_found() {
        let found = |arrived: Vec<Arrived>| topics(&rows(), &arrived, Promise::OnceOrMore);
        let without = rows().into_iter().filter(|row| row.id != "b-1");
        assert_eq!(found(arrived(without)), ["b-1: committed, never arrived"]);
        let more = rows().into_iter().chain([row("a", 4)]);
        assert_eq!(found(arrived(more)), ["a-4: arrived, never committed"]);
        let mut changed = rows();
        changed[1].payload.push(b'!');
        assert_eq!(found(arrived(changed)).len(), 1);
        let mut moved = arrived(rows());
        moved[3].partition = 1;
        assert_eq!(found(moved), ["orders a: in two partitions"]);
        let mut turned = rows();
        turned.swap(2, 3);
        assert_eq!(found(arrived(turned)).len(), 2);
    }

    #[test]
    fn a_table_that_lacks_what_is_committed_or_has_what_is_not_is_found() {
        let fate = |fate| move |row: Row| (row.id, fate);
        let committed: HashMap<_, _> = rows().into_iter().map(fate(Fate::Committed)).collect();
        assert!(table(&committed, &rows()).is_empty());
        assert_eq!(table(&committed, &rows()[..3]).len(), 1);
        let back: HashMap<_, _> = rows().into_iter().map(fate(Fate::RolledBack)).collect();
        assert!(table(&back, &[]).is_empty());
        assert_eq!(table(&back, &rows()).len(), 4);
        let unknown: HashMap<_, _> = rows().into_iter().map(fate(Fate::Unknown)).collect();
        assert!(table(&unknown, &rows()).is_empty() && table(&unknown, &[]).is_empty());
        // A version that is missing, and a row that nobody wrote.
        assert_eq!(table(&unknown, &rows()[1..]).len(), 1);
        assert_eq!(table(&HashMap::new(), &rows()).len(), 4);
    }
}

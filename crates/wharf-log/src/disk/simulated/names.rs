//! The simulated disk's directories: which names exist, and which of them would survive.
//!
//! Invariants: a change of names is atomic (a rename never leaves both names or neither); changes
//! of one name become durable in the order they were made; a name that was synced is never lost.
//! Directories are nodes of their own, so renaming one takes its content along.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::Random;

/// A file or a directory, whatever its name.
pub(super) type NodeId = u64;

/// The root directory.
pub(super) const ROOT: NodeId = 0;

/// Where a name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(NodeId),
    Directory(NodeId),
}

/// A name within a directory.
type Slot = (NodeId, String);

/// Names that change together, and what they lead to afterwards.
type Change = Vec<(Slot, Option<Node>)>;

#[derive(Clone, Debug, Default)]
struct Directory {
    now: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

/// Every directory, and the changes no sync has covered yet.
#[derive(Clone, Debug)]
pub(super) struct Names {
    directories: BTreeMap<NodeId, Directory>,
    pending: Vec<Change>,
    next_id: NodeId,
}

impl Default for Names {
    fn default() -> Self {
        let directories = BTreeMap::from([(ROOT, Directory::default())]);
        Self {
            directories,
            pending: Vec::new(),
            next_id: ROOT + 1,
        }
    }
}

impl Names {
    /// What `path` leads to.
    pub(super) fn find(&self, path: &str) -> io::Result<Option<Node>> {
        let mut node = Node::Directory(ROOT);
        for part in parts(path)? {
            let Node::Directory(directory) = node else {
                return Ok(None);
            };
            match self.directories[&directory].now.get(part) {
                Some(found) => node = *found,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// Makes the name `path` of a new file.
    pub(super) fn create_file(&mut self, path: &str) -> io::Result<NodeId> {
        let slot = self.slot(path)?;
        if self.at(&slot).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = self.next_id;
        self.next_id += 1;
        self.change(vec![(slot, Some(Node::File(id)))]);
        Ok(id)
    }

    /// Makes a directory and its parents.
    pub(super) fn create_directories(&mut self, path: &str) -> io::Result<()> {
        let mut parent = ROOT;
        for part in parts(path)? {
            let slot = (parent, part.to_owned());
            parent = match self.at(&slot) {
                Some(Node::Directory(id)) => id,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    let id = self.next_id;
                    self.next_id += 1;
                    self.directories.insert(id, Directory::default());
                    self.change(vec![(slot, Some(Node::Directory(id)))]);
                    id
                }
            };
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let source = self.slot(from)?;
        let node = self.at(&source).ok_or(io::ErrorKind::NotFound)?;
        if matches!(node, Node::Directory(_)) && to.starts_with(&format!("{from}/")) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let target = self.slot(to)?;
        if source == target {
            return Ok(());
        }
        match (node, self.at(&target)) {
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
            (Node::File(_), Some(Node::Directory(_))) => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            (Node::Directory(_), Some(Node::File(_))) => {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            (Node::Directory(_), Some(Node::Directory(id))) => {
                if !self.directories[&id].now.is_empty() {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
            }
        }
        self.change(vec![(source, None), (target, Some(node))]);
        Ok(())
    }

    /// Removes a name; of a directory, first everything below it, one change each.
    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        match self.slot(path) {
            Ok(slot) => self.remove_slot(slot),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn remove_slot(&mut self, slot: Slot) {
        let Some(node) = self.at(&slot) else { return };
        if let Node::Directory(id) = node {
            let names: Vec<String> = self.directories[&id].now.keys().cloned().collect();
            for name in names {
                self.remove_slot((id, name));
            }
        }
        self.change(vec![(slot, None)]);
    }

    /// The names inside a directory.
    pub(super) fn list(&self, path: &str) -> io::Result<Vec<(String, Node)>> {
        match self.find(path)? {
            None => Ok(Vec::new()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            Some(Node::Directory(id)) => {
                let names = &self.directories[&id].now;
                Ok(names
                    .iter()
                    .map(|(name, node)| (name.clone(), *node))
                    .collect())
            }
        }
    }

    /// Makes the names inside `path` durable, with every earlier change they depend on.
    pub(super) fn sync(&mut self, path: &str) -> io::Result<()> {
        let Some(Node::Directory(id)) = self.find(path)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut needed: BTreeSet<Slot> = BTreeSet::new();
        let mut chosen = vec![false; self.pending.len()];
        for (number, change) in self.pending.iter().enumerate().rev() {
            if change
                .iter()
                .any(|(slot, _)| slot.0 == id || needed.contains(slot))
            {
                chosen[number] = true;
                needed.extend(change.iter().map(|(slot, _)| slot.clone()));
            }
        }
        let mut chosen = chosen.into_iter();
        let mut settled = Vec::new();
        self.pending.retain(|change| {
            let settles = chosen.next().expect("one choice was made for each change");
            if settles {
                settled.push(change.clone());
            }
            !settles
        });
        self.settle(settled);
        Ok(())
    }

    /// Power loss: each change no sync covered is lost or kept.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        let fate = random.below(4);
        let prefix = random.index(self.pending.len() + 1);
        let mut lost: BTreeSet<Slot> = BTreeSet::new();
        let mut kept = Vec::new();
        for (number, change) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let keeps = match fate {
                0 => true,
                1 => false,
                2 => number < prefix,
                _ => random.coin(),
            };
            if keeps && !change.iter().any(|(slot, _)| lost.contains(slot)) {
                kept.push(change);
            } else {
                lost.extend(change.into_iter().map(|(slot, _)| slot));
            }
        }
        self.settle(kept);
        let reachable = self.reachable_directories();
        self.directories.retain(|id, _| reachable.contains(id));
        for directory in self.directories.values_mut() {
            directory.now.clone_from(&directory.durable);
        }
    }

    /// Every file that a name leads to, with its path.
    pub(super) fn files(&self) -> Vec<(String, NodeId)> {
        let mut files = Vec::new();
        let mut open = vec![(String::new(), ROOT)];
        while let Some((prefix, id)) = open.pop() {
            for (name, node) in &self.directories[&id].now {
                let path = format!("{prefix}{name}");
                match node {
                    Node::File(file) => files.push((path, *file)),
                    Node::Directory(inner) => open.push((format!("{path}/"), *inner)),
                }
            }
        }
        files.sort();
        files
    }

    fn settle(&mut self, changes: Vec<Change>) {
        for ((directory, name), node) in changes.into_iter().flatten() {
            let Some(directory) = self.directories.get_mut(&directory) else {
                continue;
            };
            match node {
                Some(node) => directory.durable.insert(name, node),
                None => directory.durable.remove(&name),
            };
        }
    }

    fn reachable_directories(&self) -> BTreeSet<NodeId> {
        let mut reachable = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            for node in self.directories[&id].durable.values() {
                if let Node::Directory(inner) = node
                    && reachable.insert(*inner)
                {
                    open.push(*inner);
                }
            }
        }
        reachable
    }

    fn change(&mut self, change: Change) {
        for ((directory, name), node) in &change {
            let names = &mut self
                .directories
                .get_mut(directory)
                .expect("slots are made from directories that exist")
                .now;
            match node {
                Some(node) => names.insert(name.clone(), *node),
                None => names.remove(name),
            };
        }
        self.pending.push(change);
    }

    fn at(&self, slot: &Slot) -> Option<Node> {
        self.directories[&slot.0].now.get(&slot.1).copied()
    }

    /// The directory and name of `path`; its parent must exist.
    fn slot(&self, path: &str) -> io::Result<Slot> {
        let mut all = parts(path)?;
        let name = all.pop().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        match self.find(&all.join("/"))? {
            Some(Node::Directory(id)) => Ok((id, name)),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// The parts of a path; none for the root.
fn parts(path: &str) -> io::Result<Vec<&str>> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<&str> = path.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &Names) -> Vec<String> {
        names.files().into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn a_rename_survives_whole_or_not_at_all() {
        let (mut old, mut new) = (0, 0);
        for seed in 0..100 {
            let mut names = Names::default();
            names.create_file("a").unwrap();
            names.sync("").unwrap();
            names.rename("a", "b").unwrap();
            names.lose_power(&mut Random::new(seed));
            match paths(&names)[..] {
                [ref name] if name == "a" => old += 1,
                [ref name] if name == "b" => new += 1,
                ref other => panic!("{other:?}"),
            }
        }
        assert!(old > 0 && new > 0);
    }

    #[test]
    fn a_file_in_a_directory_whose_own_name_was_never_synced_may_vanish() {
        let mut vanished = 0;
        for seed in 0..100 {
            let mut names = Names::default();
            names.create_directories("d/e").unwrap();
            names.create_file("d/e/f").unwrap();
            names.sync("d/e").unwrap();
            names.sync("d").unwrap();
            names.lose_power(&mut Random::new(seed));
            vanished += usize::from(paths(&names).is_empty());
            names.create_directories("d/e").unwrap();
        }
        assert!(vanished > 0);
    }

    #[test]
    fn synced_names_survive_and_a_synced_removal_stays() {
        for seed in 0..100 {
            let mut names = Names::default();
            names.create_directories("d").unwrap();
            names.create_file("d/kept").unwrap();
            names.create_file("d/gone").unwrap();
            names.sync("").unwrap();
            names.sync("d").unwrap();
            names.remove("d/gone").unwrap();
            names.sync("d").unwrap();
            names.create_file("d/new").unwrap();
            names.lose_power(&mut Random::new(seed));
            let paths = paths(&names);
            assert!(paths.contains(&"d/kept".to_owned()) && !paths.contains(&"d/gone".to_owned()));
        }
    }

    #[test]
    fn a_renamed_directory_takes_its_files_along() {
        let mut names = Names::default();
        names.create_directories("a").unwrap();
        names.create_file("a/f").unwrap();
        names.rename("a", "b").unwrap();
        names.sync("").unwrap();
        assert_eq!(paths(&names), ["b/f"]);
        assert!(names.rename("b", "b/c").is_err());
    }
}

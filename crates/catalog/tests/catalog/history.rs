//! A simple model of history: numbered commits, each with a full copy of its tables.
//!
//! The model finds merge bases by comparing sets of ancestors, and merges maps of tables.

use std::collections::{BTreeMap, BTreeSet};

pub type Tables = BTreeMap<String, u32>;

/// Commits in the order of creation.
#[derive(Debug, Clone)]
pub struct History {
    commits: Vec<(Vec<usize>, Tables)>,
}

/// The value of a table at the merge base.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Known(Option<u32>),
    Open(Box<[Value; 3]>),
}

/// The result of a merge.
#[derive(Debug, Clone, PartialEq)]
pub enum Merged {
    UpToDate,
    Forward(BTreeSet<String>),
    Tables(Tables, BTreeSet<String>),
    Conflict(BTreeSet<String>),
}

impl History {
    pub fn new() -> Self {
        History { commits: vec![(Vec::new(), Tables::new())] }
    }

    pub fn len(&self) -> usize {
        self.commits.len()
    }

    pub fn tables(&self, commit: usize) -> &Tables {
        &self.commits[commit].1
    }

    pub fn add(&mut self, parents: Vec<usize>, tables: Tables) -> usize {
        self.commits.push((parents, tables));
        self.commits.len() - 1
    }

    /// Returns some commits and their ancestors.
    pub fn ancestors(&self, commits: &[usize]) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut next = commits.to_vec();
        while let Some(commit) = next.pop() {
            if found.insert(commit) {
                next.extend(&self.commits[commit].0);
            }
        }
        found
    }

    /// Returns the best common ancestors, newest first.
    pub fn bases(&self, one: &[usize], other: usize) -> Vec<usize> {
        let common = &self.ancestors(one) & &self.ancestors(&[other]);
        let below: BTreeSet<usize> =
            common.iter().flat_map(|commit| self.ancestors(&self.commits[*commit].0)).collect();
        (&common - &below).into_iter().rev().collect()
    }

    fn base(&self, bases: &[usize], table: &str) -> Value {
        let at = |commit: usize| Value::Known(self.tables(commit).get(table).copied());
        let Some((last, rest)) = bases.split_last() else { return Value::Known(None) };
        if rest.is_empty() {
            return at(*last);
        }
        let (one, other) = (self.base(rest, table), at(*last));
        let below = self.base(&self.bases(rest, *last), table);
        match (one == other, one == below, other == below) {
            (true, _, _) | (_, _, true) => one,
            (_, true, _) => other,
            _ => Value::Open(Box::new([below, one, other])),
        }
    }

    pub fn merge(&self, ours: usize, theirs: usize) -> Merged {
        let bases = self.bases(&[ours], theirs);
        if bases == [theirs] {
            return Merged::UpToDate;
        }
        let mut merged = self.tables(ours).clone();
        let (mut taken, mut conflicts) = (BTreeSet::new(), BTreeSet::new());
        let names = self.tables(ours).keys().chain(self.tables(theirs).keys());
        for name in names.cloned().collect::<BTreeSet<String>>() {
            let base = self.base(&bases, &name);
            let [left, right] =
                [ours, theirs].map(|commit| self.tables(commit).get(&name).copied());
            if left == right || base == Value::Known(right) {
                continue;
            }
            if base != Value::Known(left) {
                conflicts.insert(name);
                continue;
            }
            match right {
                Some(version) => merged.insert(name.clone(), version),
                None => merged.remove(&name),
            };
            taken.insert(name);
        }
        match conflicts.is_empty() {
            false => Merged::Conflict(conflicts),
            true if bases == [ours] => Merged::Forward(taken),
            true => Merged::Tables(merged, taken),
        }
    }
}

//! The tables of a commit as a trie over the hashes of their names.
//!
//! A leaf holds up to [`LEAF_TABLES_MAX`] tables. A larger set is split into sixteen children by
//! the next digit of the hash. The shape depends only on the set of tables, so equal sets have
//! equal ids, and a diff reads only subtries with different ids. A change of one table among five
//! thousand writes one leaf and two inner nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use headwater_model::name::LEVEL_SEPARATOR;
use headwater_model::{ObjectId, TableName};
use sha2::{Digest, Sha256};

use crate::codec::{self, TrieChild, TrieNode};
use crate::object_cache::{ObjectCache, PendingObjects};
use crate::{Result, TableEntry};

/// The maximum number of tables in a leaf. A full leaf is about as large as an inner node: a few
/// kilobytes.
const LEAF_TABLES_MAX: u64 = 32;

/// Returns a table's key in the trie.
pub(crate) fn key(table: &TableName) -> String {
    table.qualified()
}

/// Parses a key into a table name.
pub(crate) fn table_of(key: &str) -> Result<TableName> {
    let (namespace, name) = split(key);
    let table = TableName::new(namespace, name);
    table.map_err(|_| codec::corrupt("a table's key", format!("`{key}` is not a name")))
}

/// Splits a key into namespace and name.
pub(crate) fn split(key: &str) -> (&str, &str) {
    key.rsplit_once(LEVEL_SEPARATOR).unwrap_or(("", key))
}

/// Changes by key; `None` removes the table.
pub(crate) type TrieChanges = BTreeMap<String, Option<TableEntry>>;

/// Table entries in a trie, by key.
pub(crate) type TrieEntries = BTreeMap<String, TableEntry>;

type BoxedFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Returns the digit of a key's hash at a depth.
fn digit(key: &str, depth: usize) -> u8 {
    digit_of(&Sha256::digest(key.as_bytes()), depth)
}

/// Returns the digit of a hash at a depth.
fn digit_of(hash: &[u8], depth: usize) -> u8 {
    let byte = hash[depth / 2 % hash.len()];
    if depth.is_multiple_of(2) { byte >> 4 } else { byte & 0x0f }
}

/// Returns the table at a key.
pub(crate) async fn get(
    objects: &ObjectCache,
    root: Option<ObjectId>,
    key: &str,
) -> Result<Option<TableEntry>> {
    let no_pending = PendingObjects::default();
    let hash = Sha256::digest(key.as_bytes());
    let mut next = root;
    let mut depth = 0;
    while let Some(id) = next {
        match &*objects.node(id, &no_pending).await? {
            TrieNode::Leaf(tables) => return Ok(tables.get(key).cloned()),
            TrieNode::Inner(children) => {
                next = children.get(&digit_of(&hash, depth)).map(|child| child.id);
                depth += 1;
            }
        }
    }
    Ok(None)
}

/// Lists the tables whose keys satisfy `wanted`.
pub(crate) async fn list(
    objects: &ObjectCache,
    root: Option<ObjectId>,
    wanted: impl Fn(&str) -> bool,
) -> Result<TrieEntries> {
    let leaves = leaves(objects, &PendingObjects::default(), root.into_iter().collect()).await?;
    let mut found = TrieEntries::new();
    for leaf in &leaves {
        let TrieNode::Leaf(tables) = &**leaf else { continue };
        let tables = tables.iter().filter(|(key, _)| wanted(key));
        found.extend(tables.map(|(key, entry)| (key.clone(), entry.clone())));
    }
    Ok(found)
}

/// Reads the leaves below some nodes, level by level.
async fn leaves(
    objects: &ObjectCache,
    pending: &PendingObjects,
    mut level: Vec<ObjectId>,
) -> Result<Vec<Arc<TrieNode>>> {
    let mut found = Vec::new();
    while !level.is_empty() {
        let nodes = objects.nodes(&level, pending).await?;
        level.clear();
        for node in nodes {
            match &*node {
                TrieNode::Leaf(_) => found.push(node),
                TrieNode::Inner(children) => level.extend(children.values().map(|child| child.id)),
            }
        }
    }
    Ok(found)
}

/// Applies changes, adds new nodes to `pending` and returns the new root. Nodes that the trie
/// `reuse` already contains are not stored again, so the caller must keep `reuse` reachable as long
/// as the new trie.
pub(crate) async fn update(
    objects: &ObjectCache,
    pending: &mut PendingObjects,
    root: Option<ObjectId>,
    reuse: Option<ObjectId>,
    changes: TrieChanges,
) -> Result<Option<ObjectId>> {
    if changes.is_empty() {
        return Ok(root);
    }
    let root =
        update_node(objects, pending, NodePair { node: root, reuse, depth: 0 }, changes).await?;
    Ok(root.map(|child| child.id))
}

/// A node to update, and the node at the same position of the trie `reuse`.
struct NodePair {
    node: Option<ObjectId>,
    reuse: Option<ObjectId>,
    depth: usize,
}

fn update_node<'a>(
    objects: &'a ObjectCache,
    pending: &'a mut PendingObjects,
    position: NodePair,
    changes: TrieChanges,
) -> BoxedFuture<'a, Option<TrieChild>> {
    let NodePair { node, reuse, depth } = position;
    Box::pin(async move {
        let node = match node {
            Some(id) => objects.node(id, pending).await?,
            None => Arc::new(TrieNode::Leaf(TrieEntries::new())),
        };
        let reuse = match reuse {
            Some(id) => Some((id, objects.node(id, pending).await?)),
            None => None,
        };
        let reuse = reuse.as_ref().map(|(id, node)| (*id, &**node));
        let mut children = match &*node {
            TrieNode::Leaf(tables) => {
                let tables = apply(tables.clone(), changes);
                return match reuse {
                    Some((id, TrieNode::Leaf(same))) if *same == tables && !same.is_empty() => {
                        Ok(Some(TrieChild { id, tables: same.len() as u64 }))
                    }
                    _ => build(pending, tables, depth),
                };
            }
            TrieNode::Inner(children) => children.clone(),
        };
        let reuse_below = |digit: &u8| match reuse {
            Some((_, TrieNode::Inner(children))) => children.get(digit).map(|child| child.id),
            _ => None,
        };
        let mut parts: BTreeMap<u8, TrieChanges> = BTreeMap::new();
        for (key, change) in changes {
            parts.entry(digit(&key, depth)).or_default().insert(key, change);
        }
        for (digit, part) in parts {
            let below = children.get(&digit).map(|child| child.id);
            let below = NodePair { node: below, reuse: reuse_below(&digit), depth: depth + 1 };
            match update_node(objects, pending, below, part).await? {
                Some(child) => children.insert(digit, child),
                None => children.remove(&digit),
            };
        }
        let tables = children.values().map(|child| child.tables).sum::<u64>();
        if tables > LEAF_TABLES_MAX {
            return match reuse {
                Some((id, TrieNode::Inner(same))) if *same == children => {
                    Ok(Some(TrieChild { id, tables }))
                }
                _ => inner(pending, children, tables).map(Some),
            };
        }
        // The remaining tables fit into one leaf, so they become one leaf: the shape of the trie
        // must depend only on its tables, not on earlier changes.
        let ids = children.values().map(|child| child.id).collect();
        let mut found = TrieEntries::new();
        for leaf in leaves(objects, pending, ids).await? {
            if let TrieNode::Leaf(tables) = &*leaf {
                found.extend(tables.clone());
            }
        }
        build(pending, found, depth)
    })
}

fn apply(mut tables: TrieEntries, changes: TrieChanges) -> TrieEntries {
    for (key, change) in changes {
        match change {
            Some(entry) => tables.insert(key, entry),
            None => tables.remove(&key),
        };
    }
    tables
}

fn build(
    pending: &mut PendingObjects,
    tables: TrieEntries,
    depth: usize,
) -> Result<Option<TrieChild>> {
    let count = tables.len() as u64;
    if count == 0 {
        return Ok(None);
    }
    if count <= LEAF_TABLES_MAX {
        let id = pending.node(TrieNode::Leaf(tables))?;
        return Ok(Some(TrieChild { id, tables: count }));
    }
    let mut parts: BTreeMap<u8, TrieEntries> = BTreeMap::new();
    for (key, entry) in tables {
        parts.entry(digit(&key, depth)).or_default().insert(key, entry);
    }
    let mut children = BTreeMap::new();
    for (digit, part) in parts {
        if let Some(child) = build(pending, part, depth + 1)? {
            children.insert(digit, child);
        }
    }
    inner(pending, children, count).map(Some)
}

fn inner(
    pending: &mut PendingObjects,
    children: BTreeMap<u8, TrieChild>,
    tables: u64,
) -> Result<TrieChild> {
    let id = pending.node(TrieNode::Inner(children))?;
    Ok(TrieChild { id, tables })
}

/// A key whose entries differ, with its entries in the first and the second trie.
pub(crate) type TrieDifference = (String, Option<TableEntry>, Option<TableEntry>);

/// Lists the differences between two tries, by key.
pub(crate) async fn diff(
    objects: &ObjectCache,
    from: Option<ObjectId>,
    to: Option<ObjectId>,
) -> Result<Vec<TrieDifference>> {
    let mut found = Vec::new();
    diff_nodes(objects, from, to, &mut found).await?;
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn diff_nodes<'a>(
    objects: &'a ObjectCache,
    from: Option<ObjectId>,
    to: Option<ObjectId>,
    found: &'a mut Vec<TrieDifference>,
) -> BoxedFuture<'a, ()> {
    Box::pin(async move {
        if from == to {
            return Ok(());
        }
        let no_pending = PendingObjects::default();
        if let (Some(a), Some(b)) = (from, to)
            && let TrieNode::Inner(a) = &*objects.node(a, &no_pending).await?
            && let TrieNode::Inner(b) = &*objects.node(b, &no_pending).await?
        {
            let digits: BTreeSet<u8> = a.keys().chain(b.keys()).copied().collect();
            for digit in digits {
                let below = |node: &BTreeMap<u8, TrieChild>| node.get(&digit).map(|child| child.id);
                diff_nodes(objects, below(a), below(b), found).await?;
            }
            return Ok(());
        }
        let before = list(objects, from, |_| true).await?;
        let mut after = list(objects, to, |_| true).await?;
        for (key, entry) in before {
            let now = after.remove(&key);
            if now.as_ref() != Some(&entry) {
                found.push((key, Some(entry), now));
            }
        }
        found.extend(after.into_iter().map(|(key, entry)| (key, None, Some(entry))));
        Ok(())
    })
}

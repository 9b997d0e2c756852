//! Metrics by name, with a limit on the number of names.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

/// Maximum number of functions, triggers, statements or routes with their own series.
pub const NAMES_MAX: usize = 200;

/// The label of all names beyond [`NAMES_MAX`].
pub(crate) const OTHER: &str = "other";

/// Metrics by name. The first [`NAMES_MAX`] names have their own metrics; all further names share
/// the metrics of `other`.
#[derive(Debug, Default)]
pub(crate) struct MetricsByName<T> {
    named: RwLock<HashMap<Box<str>, Arc<T>>>,
    other: Arc<T>,
    has_other: AtomicBool,
}

impl<T: Default> MetricsByName<T> {
    /// Returns the metrics with this name, or the shared metrics if there are too many names.
    pub(crate) fn get(&self, name: &str) -> Arc<T> {
        let named = self.named.read();
        if let Some(found) = named.get(name) {
            return found.clone();
        }
        // If the number of names has reached the limit, return without the write lock. Otherwise,
        // all requests with further names would wait for this lock.
        let is_full = name == OTHER || named.len() >= NAMES_MAX;
        drop(named);
        if is_full {
            return self.shared();
        }
        let mut named = self.named.write();
        if !named.contains_key(name) && named.len() >= NAMES_MAX {
            drop(named);
            return self.shared();
        }
        named.entry(name.into()).or_default().clone()
    }

    /// Returns the metrics of names beyond the limit.
    fn shared(&self) -> Arc<T> {
        self.has_other.store(true, Ordering::Relaxed);
        self.other.clone()
    }

    /// Returns the label under which the metrics of a name are exported: the name itself or
    /// `other`.
    pub(crate) fn label<'a>(&self, name: &'a str) -> &'a str {
        if self.named.read().contains_key(name) { name } else { OTHER }
    }

    /// Returns all metrics in the order of their names, with `other` last.
    pub(crate) fn all(&self) -> Vec<(String, Arc<T>)> {
        let named = self.named.read();
        let pairs = named.iter().map(|(name, value)| (name.to_string(), value.clone()));
        let mut all: Vec<(String, Arc<T>)> = pairs.collect();
        drop(named);
        all.sort_by(|left, right| left.0.cmp(&right.0));
        if self.has_other.load(Ordering::Relaxed) {
            all.push((OTHER.to_owned(), self.other.clone()));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn names_beyond_the_limit_share_one_label() {
        let labelled = MetricsByName::<AtomicU64>::default();
        for index in 0..NAMES_MAX + 50 {
            labelled.get(&format!("name{index:04}")).fetch_add(1, Ordering::Relaxed);
        }
        labelled.get("name0000").fetch_add(1, Ordering::Relaxed);
        let all = labelled.all();
        assert_eq!(all.len(), NAMES_MAX + 1);
        let value = |index: usize| (all[index].0.as_str(), all[index].1.load(Ordering::Relaxed));
        assert_eq!(value(0), ("name0000", 2));
        assert_eq!(value(NAMES_MAX), (OTHER, 50));
        assert_eq!(labelled.label("name0001"), "name0001");
        assert_eq!(labelled.label("name0240"), OTHER);
    }

    #[test]
    fn a_name_that_equals_the_shared_label_has_no_second_series() {
        let labelled = MetricsByName::<AtomicU64>::default();
        labelled.get(OTHER).fetch_add(1, Ordering::Relaxed);
        labelled.get(OTHER).fetch_add(1, Ordering::Relaxed);
        let all = labelled.all();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].1.load(Ordering::Relaxed), 2);
    }
}

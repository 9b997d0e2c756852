//! Paginated listings of objects, in key order.
//!
//! A listing reads one range of refs. With a delimiter, it skips the remaining keys of a group
//! after the first one, so that the cost of the listing does not depend on the size of the group.

use crate::record::{ObjectRecord, decode, object_ref};
use crate::{Objects, Result};

/// Number of refs per read in a listing with groups.
const CHUNK: usize = 200;

/// Maximum number of results per page.
const PAGE_MAX: usize = 1_000;

/// The maximum length of a key, as a number of characters of four bytes each.
const LAST_CHARACTERS: usize = 256;

/// The parameters of a listing.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// The bucket.
    pub bucket: String,
    /// The prefix of the keys.
    pub prefix: String,
    /// The delimiter for grouping. Keys that contain it after the prefix are grouped.
    pub delimiter: Option<String>,
    /// The start of the page: only later keys and groups are returned.
    pub after: Option<String>,
    /// The maximum number of keys and groups; at most 1,000.
    pub limit: usize,
}

/// A key or a group of keys.
#[derive(Debug, Clone, PartialEq)]
pub enum ListEntry {
    /// An object.
    Object {
        /// The key.
        key: String,
        /// The object.
        info: Box<ObjectRecord>,
    },
    /// A group: the keys with this common prefix, which ends with the delimiter.
    Group(String),
}

/// A page of a listing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// The keys and groups, in order.
    pub entries: Vec<ListEntry>,
    /// The last returned key or group, if more results follow.
    pub next: Option<String>,
}

impl ListEntry {
    /// Returns the key or the group.
    pub fn name(&self) -> &str {
        match self {
            ListEntry::Object { key, .. } => key,
            ListEntry::Group(group) => group,
        }
    }
}

impl Objects {
    /// Lists objects.
    ///
    /// Error: [`NoBucket`](crate::Error::NoBucket).
    pub async fn list(&self, list: &ListRequest) -> Result<Listing> {
        self.check_bucket(&list.bucket).await?;
        let limit = list.limit.min(PAGE_MAX);
        let mut page = Listing::default();
        if limit == 0 {
            return Ok(page);
        }
        let start = object_ref(&list.bucket, "");
        let prefix = format!("{start}{}", list.prefix);
        let is_grouped = list.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty());
        let chunk = if is_grouped { CHUNK.min(limit + 1) } else { limit + 1 };
        let mut after = list.after.as_deref().map(|after| start_after(&start, list, after));
        loop {
            let found = self.0.store.references(&prefix, after.as_deref(), chunk).await?;
            let is_last = found.len() < chunk;
            after = found.last().map(|(name, _)| name.clone());
            let mut skipped: Option<String> = None;
            for (name, value) in found {
                let key = name.get(start.len()..).unwrap_or_default();
                if skipped.as_deref().is_some_and(|group| key.starts_with(group)) {
                    continue;
                }
                if page.entries.len() == limit {
                    page.next = page.entries.last().map(|last| last.name().to_owned());
                    return Ok(page);
                }
                let entry = if let Some(group) = list.group(key) {
                    ListEntry::Group(group.to_owned())
                } else {
                    let info = Box::new(decode(&name, &value)?);
                    ListEntry::Object { key: key.to_owned(), info }
                };
                skipped = list.group(key).map(str::to_owned);
                page.entries.push(entry);
            }
            if is_last {
                return Ok(page);
            }
            if let Some(group) = skipped {
                after = Some(format!("{start}{}", end_of(&group)));
            }
        }
    }
}

impl ListRequest {
    /// Returns the group of a key: the key up to and including the first delimiter after the
    /// prefix.
    fn group<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
        let at = key.get(self.prefix.len()..)?.find(delimiter)?;
        key.get(..self.prefix.len() + at + delimiter.len())
    }
}

/// Returns the ref after which the listing starts. If `after` is a group, skips the keys of the
/// group.
fn start_after(start: &str, list: &ListRequest, after: &str) -> String {
    if after.starts_with(&list.prefix) && list.group(after) == Some(after) {
        return format!("{start}{}", end_of(after));
    }
    format!("{start}{after}")
}

/// Returns a string that is longer than any key and sorts after every key of a group.
fn end_of(group: &str) -> String {
    format!("{group}{}", "\u{10FFFF}".repeat(LAST_CHARACTERS))
}

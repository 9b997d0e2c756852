//! What only deleted branches and tags led to, and how it goes by itself.
//!
//! The catalog remembers which commits deleted refs stood for. Once a ref has been gone for long enough, the
//! files that its commits lead to, and nothing else does, are removed: by their names, so that no file
//! goes that the lake does not know. What leads to files goes before them, and then nobody could tell
//! any more which they were; so the names are kept until all of them are gone. A ref is forgotten once
//! nothing is left of what only it led to.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_catalog::ReachedState;
use headwater_model::{SweptFiles, Timestamp};
use headwater_store::{Append, Batch, KeyRange};
use headwater_tables::{Extent, FoundFile, Reached};
use tokio_util::sync::CancellationToken;

use super::ORPHANS_AFTER;
use super::sweep::{Found, Sweep, folder_of};
use crate::error::{Error, Result};
use crate::lake::Lake;

/// The journal of files that are being removed; keys are times and numbers.
const GOING: &str = "going_files";

/// How many names one entry of it holds.
const NAMES_OF_ENTRY: usize = 1_000;

/// What only refs led to that were deleted long enough ago.
#[derive(Debug)]
pub(super) struct Freed {
    /// When they were deleted at the latest.
    until: Timestamp,
    states: Vec<ReachedState>,
}

impl Freed {
    /// Where the metadata of the states lies.
    fn metadata(&self, lake: &Lake) -> HashSet<String> {
        let places = self.states.iter().map(|state| &state.entry.metadata_location);
        places.map(|location| lake.tables().place_of(location)).collect()
    }
}

impl Lake {
    /// Whether branches or tags were deleted long enough ago for what only they led to, to go.
    pub async fn has_freed(&self) -> Result<bool> {
        let until = self.clock().now() - ORPHANS_AFTER;
        Ok(!self.catalog().removed_before(until).await?.is_empty())
    }

    /// Removes what only refs led to that were deleted so long ago; nothing where others are removing.
    pub(super) async fn free(
        &self,
        age: Duration,
        dry_run: bool,
        cancelled: &CancellationToken,
    ) -> Result<SweptFiles> {
        let until = self.clock().now() - age;
        let freed = Freed { until, states: self.freed_states(until).await? };
        if freed.states.is_empty() {
            // Whatever they led to has other ways to it, as that of a branch has which was merged.
            if !dry_run {
                self.forget_freed(&freed).await?;
            }
            return Ok(SweptFiles::default());
        }
        let sweep = Sweep { dry_run, ..Sweep::of_freed(freed, age) };
        self.sweep(sweep, cancelled).await
    }

    /// The states that nothing else leads to which stays, unless somebody reads them right now.
    async fn freed_states(&self, until: Timestamp) -> Result<Vec<ReachedState>> {
        let deleted = self.catalog().removed_before(until).await?;
        if deleted.is_empty() {
            return Ok(Vec::new());
        }
        let mut reach = self.catalog().reach(&deleted, |_| true).await?;
        let needed = self.catalog().reach(&self.named_commits(until).await?, |_| true).await?;
        reach.states.retain(|location, _| !needed.states.contains_key(location));
        Ok(reach.states.into_values().collect())
    }

    /// The files of freed states that are there, and those that an earlier removal did not come to.
    pub(super) async fn files_of_freed(
        &self,
        freed: &Freed,
        found: &Found,
    ) -> Result<Vec<FoundFile>> {
        let led = Reached::beside(Arc::clone(&found.needed));
        let mut folders = HashSet::new();
        for state in &freed.states {
            let location = &state.entry.metadata_location;
            let place = self.tables().place_of(location);
            folders.extend(folder_of(&place));
            if state.entry.is_view() {
                led.add_file(place);
            } else {
                // What cannot be read of it leads to nothing.
                self.tables().reach(location, &Extent::Whole, &led).await?;
            }
        }
        let going = self.going_files().await?;
        let mut files = Vec::new();
        for folder in folders {
            files.extend(self.tables().files_under(Some(folder.trim_end_matches('/'))).await?);
        }
        files.retain(|file| led.contains(&file.location) || going.contains(&file.location));
        Ok(files)
    }

    async fn going_files(&self) -> Result<HashSet<String>> {
        let mut files = HashSet::new();
        for entry in self.store().scan(GOING, &KeyRange::all()).await? {
            let names: Vec<String> =
                serde_json::from_slice(&entry.value).map_err(|error| Error::Internal {
                    message: format!("the names of files that were to go cannot be read: {error}"),
                })?;
            files.extend(names);
        }
        Ok(files)
    }

    /// Keeps the names of files until they are gone, beside those that an earlier removal did not come to.
    pub(super) async fn note_going(&self, files: &[String], now: Timestamp) -> Result<()> {
        let now = now.timestamp_micros();
        let entry = |(number, names): (usize, &[String])| {
            let value = serde_json::to_vec(names);
            let value = value.map_err(|error| Error::Internal { message: error.to_string() })?;
            let (journal, key) = (GOING.to_owned(), format!("{now:020}/{number:08}"));
            Ok(Append { journal, key, value: Some(Bytes::from(value)) })
        };
        let entries = files.chunks(NAMES_OF_ENTRY).enumerate().map(entry);
        let entries = entries.collect::<Result<_>>()?;
        self.store().apply(Batch { entries, ..Batch::default() }).await?;
        Ok(())
    }

    /// Forgets the refs, where none of their states is among what is left.
    pub(super) async fn forget_gone(&self, freed: &Freed, left: &HashSet<String>) -> Result<()> {
        if freed.metadata(self).is_disjoint(left) {
            self.forget_freed(freed).await?;
        }
        Ok(())
    }

    async fn forget_freed(&self, freed: &Freed) -> Result<()> {
        self.store().trim(GOING, &KeyRange::all()).await?;
        Ok(self.catalog().forget_removed(freed.until).await?)
    }
}

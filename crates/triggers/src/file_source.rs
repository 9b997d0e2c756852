//! Detection of files that arrive in a folder.
//!
//! The folder is listed periodically; kernel notifications only cause an earlier listing. A file is
//! recorded when it has not changed for the debounce time. The journal `trigger_files` stores the
//! last recorded version of each file, with the trigger and the path as the key.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use async_trait::async_trait;
use headwater_model::{ArrivedFile, ErrorCode, EventData, Problem};
use headwater_store::{JournalAppend, UniqueKey};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::definition::WatchedFolder;
use crate::event_queue::OPEN_MAX;
use crate::event_source::{
    DetectedEvents, EventSource, NewEvent, POLL_PAUSE_MIN, PollResult, SourceContext,
};
use crate::file_listing::{Debounce, FileVersion, FolderListing, list};
use crate::file_watcher::{FileWatcher, RenamedPaths};
use crate::journal_codec::{decode, encode, read_all};

const TAKEN: &str = "trigger_files";

/// The pause after a listing of the folder is at least this multiple of the listing's duration, so
/// that listings take at most about one twentieth of the time.
const LISTING_SHARE: u32 = 20;

/// The last recorded version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct LastVersion {
    version: FileVersion,
    /// Number of versions of the file that were recorded before.
    generation: u64,
}

/// The event source for files in a folder.
pub(crate) struct FileSource {
    folder: WatchedFolder,
    /// Last recorded version of each file, by path; `None` until read from the store.
    taken: Option<HashMap<String, LastVersion>>,
    debounce: Debounce,
    watcher: Option<FileWatcher>,
    renamed: RenamedPaths,
}

impl FileSource {
    pub(crate) fn new(folder: WatchedFolder) -> Self {
        FileSource {
            folder,
            taken: None,
            debounce: Debounce::default(),
            watcher: None,
            renamed: RenamedPaths::default(),
        }
    }

    fn watch(&mut self, context: &SourceContext) {
        if context.options.manual || self.watcher.is_some() {
            return;
        }
        let (wake, renamed) = (context.wake.clone(), self.renamed.clone());
        match FileWatcher::new(&self.folder.path, self.folder.recursive, wake, renamed) {
            Ok(watcher) => self.watcher = Some(watcher),
            // Without notifications, the folder is still polled.
            Err(error) => tracing::debug!(trigger = context.trigger, %error, "cannot watch folder"),
        }
    }

    async fn load_versions(&mut self, context: &SourceContext) -> Result<()> {
        if self.taken.is_some() {
            return Ok(());
        }
        context.catch_up().await?;
        let prefix = version_key(&context.trigger, "");
        let mut taken = HashMap::new();
        for entry in read_all(context.store(), TAKEN, &prefix).await? {
            let path = entry.key[prefix.len()..].to_owned();
            taken.insert(path, decode(TAKEN, &entry.key, &entry.value)?);
        }
        self.taken = Some(taken);
        Ok(())
    }

    /// Records one event for these files.
    async fn record(
        &mut self,
        context: &SourceContext,
        files: &[(String, FileVersion)],
    ) -> Result<()> {
        let known = self.taken.get_or_insert_default();
        let mut detected = DetectedEvents::default();
        let mut newly_taken = Vec::with_capacity(files.len());
        for (path, version) in files {
            let generation = known.get(path).map_or(0, |taken| taken.generation + 1);
            let taken = LastVersion { version: *version, generation };
            let key = version_key(&context.trigger, path);
            detected.entries.push(JournalAppend::put(TAKEN, key, encode(&taken)?));
            detected.unique.push(UniqueKey {
                scope: format!("{TAKEN}/{}", context.trigger),
                key: format!("{path}\n{generation}"),
            });
            newly_taken.push((path.clone(), taken));
        }
        // Check rights and filter for an event of each single file, so that the result does not
        // depend on the other files that arrive at the same time.
        let admits = |file: &&(String, FileVersion)| {
            let event = self.folder.event(std::slice::from_ref(*file), context);
            context.targets.visible(&context.trigger, event.data.clone()).is_some()
                && context.admits(&event.with_id(String::new()))
        };
        let files: Vec<(String, FileVersion)> = files.iter().filter(admits).cloned().collect();
        if !files.is_empty() {
            detected.events.push(self.folder.event(&files, context));
        }
        context.record(detected).await?;
        for (path, _) in &newly_taken {
            self.debounce.remove(path);
        }
        self.taken.get_or_insert_default().extend(newly_taken);
        Ok(())
    }
}

#[async_trait]
impl EventSource for FileSource {
    async fn poll(&mut self, context: &SourceContext) -> Result<PollResult> {
        self.watch(context);
        let renamed = std::mem::take(&mut *self.renamed.lock());
        let started = Instant::now();
        let FolderListing { files: mut new, fault } = match listing(&self.folder).await {
            Ok(listing) => listing,
            Err(problem) => {
                self.watcher = None;
                return Ok(PollResult::absent(problem));
            }
        };
        let took = started.elapsed();
        self.load_versions(context).await?;
        let taken = self.taken.get_or_insert_default();
        new.retain(|path, version| taken.get(path).is_none_or(|one| one.version != *version));
        let debounce = self.folder.debounce;
        let settled = self.debounce.update(new, &renamed, context.now(), debounce);
        for files in settled.chunks(self.folder.batch) {
            if context.queue.open_count() >= OPEN_MAX {
                self.renamed.lock().extend(renamed);
                return Ok(PollResult { pause: context.options.poll_interval, fault });
            }
            self.record(context, files).await?;
        }
        let idle = context.options.poll_interval.max(took * LISTING_SHARE);
        let next = self.debounce.next(context.now(), debounce);
        let pause = next.map_or(idle, |next| next.max(POLL_PAUSE_MIN).max(took * 2).min(idle));
        Ok(PollResult { pause, fault })
    }
}

impl WatchedFolder {
    fn event(&self, files: &[(String, FileVersion)], context: &SourceContext) -> NewEvent {
        let file = |(path, version): &(String, FileVersion)| ArrivedFile {
            path: path.clone(),
            uri: file_uri(path),
            etag: version.etag(),
            size: version.bytes,
        };
        let subject = match files {
            [(path, _)] => Path::new(path).strip_prefix(&self.path).ok(),
            _ => None,
        };
        NewEvent {
            source: file_uri(&self.path.to_string_lossy()),
            subject: subject.map(|path| path.to_string_lossy().into_owned()),
            time: context.now(),
            data: EventData::FileArrived { files: files.iter().map(file).collect() },
            caused_by: Vec::new(),
            trace: None,
        }
    }
}

async fn listing(folder: &WatchedFolder) -> Result<FolderListing, Problem> {
    let folder = folder.clone();
    let listed = tokio::task::spawn_blocking(move || list(&folder)).await;
    listed.unwrap_or_else(|error| {
        let message = format!("the folder cannot be listed: {error}");
        Err(Problem::new(ErrorCode::Internal, message))
    })
}

fn version_key(trigger: &str, path: &str) -> String {
    format!("{trigger}\n{path}")
}

/// Returns an absolute path as a `file` URI.
fn file_uri(path: &str) -> String {
    let mut uri = "file://".to_owned();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_percent_encoded_in_its_uri() {
        assert_eq!(file_uri("/in/a-1.csv"), "file:///in/a-1.csv");
        assert_eq!(file_uri("/in/a b#é%.csv"), "file:///in/a%20b%23%C3%A9%25.csv");
    }
}

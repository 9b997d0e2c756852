//! Progress of an import: bytes and files read, reported at most ten times per second.
//!
//! The reading threads share a [`StageProgress`]. A [`CountingReader`] updates the counts, stops
//! when the import is cancelled and hashes the bytes that it reads.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::cloud_object::ObjectReader;
use super::disk_file::DiskFile;
use super::source::{SourceFile, SourceLocation};
use crate::error::{Error, Result};

/// Minimum time between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Stage of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportStage {
    /// Reading files to find columns and types.
    InferSchema,
    /// Reading files into the table.
    Import,
}

impl ImportStage {
    /// Returns the stage as text for users.
    pub const fn as_str(self) -> &'static str {
        match self {
            ImportStage::InferSchema => "infer schema",
            ImportStage::Import => "import",
        }
    }
}

/// Progress of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportProgress {
    /// The current stage.
    pub stage: ImportStage,
    /// Files read in this stage.
    pub files_done: u64,
    /// Files to read in this stage.
    pub files_total: u64,
    /// Bytes read from disk in this stage.
    pub bytes_done: u64,
    /// Bytes to read from disk in this stage.
    pub bytes_total: u64,
}

/// Callback for progress; called from the reading threads, so it must not block.
pub type ProgressCallback = Arc<dyn Fn(ImportProgress) + Send + Sync>;

/// Counter of bytes read from files. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct ByteCounter(Arc<AtomicU64>);

impl ByteCounter {
    /// Adds bytes.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The progress of one stage of an import: counts files and bytes, and calls the callback.
pub(crate) struct StageProgress {
    stage: ImportStage,
    progress: ProgressCallback,
    files_total: u64,
    bytes_total: u64,
    files: AtomicU64,
    bytes: AtomicU64,
    reported: Mutex<Instant>,
    pub cancelled: CancellationToken,
    /// All bytes read, including the column chunks of Parquet files that queries read. The progress
    /// does not count these column chunks.
    pub read: ByteCounter,
}

impl StageProgress {
    pub fn new(
        stage: ImportStage,
        files: &[SourceFile],
        progress: ProgressCallback,
        cancelled: CancellationToken,
    ) -> Arc<Self> {
        Self::counting(stage, files, progress, cancelled, ByteCounter::default())
    }

    /// Creates the counter of a stage, which also adds the bytes read to `read`.
    pub fn counting(
        stage: ImportStage,
        files: &[SourceFile],
        progress: ProgressCallback,
        cancelled: CancellationToken,
        read: ByteCounter,
    ) -> Arc<Self> {
        let meter = StageProgress {
            read,
            stage,
            progress,
            files_total: files.len() as u64,
            bytes_total: files.iter().map(|file| file.stamp.bytes).sum(),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            reported: Mutex::new(Instant::now()),
            cancelled,
        };
        meter.report();
        Arc::new(meter)
    }

    /// Returns the number of bytes read so far in this stage, as stored on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns an error once the import is cancelled.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    pub fn add_bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
        self.read.add(count);
        if let Some(mut reported) = self.reported.try_lock()
            && reported.elapsed() >= REPORT_EVERY
        {
            *reported = Instant::now();
            drop(reported);
            self.report();
        }
    }

    pub fn end_file(&self) {
        if self.files.fetch_add(1, Ordering::Relaxed) + 1 == self.files_total {
            self.report();
        } else {
            self.add_bytes(0);
        }
    }

    fn report(&self) {
        (self.progress)(ImportProgress {
            stage: self.stage,
            files_done: self.files.load(Ordering::Relaxed),
            files_total: self.files_total,
            bytes_done: self.bytes(),
            bytes_total: self.bytes_total,
        });
    }
}

/// An open file on disk or object, from which bytes are read.
enum OpenSource {
    Disk(File, DiskFile),
    Object(ObjectReader),
}

impl OpenSource {
    fn open(source: &SourceFile) -> Result<Self> {
        Ok(match &source.place {
            SourceLocation::Disk(disk) => OpenSource::Disk(source.open_disk(disk)?, disk.clone()),
            SourceLocation::Object(object) => OpenSource::Object(ObjectReader::new(object)),
        })
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            OpenSource::Disk(file, _) => file.read(buffer),
            OpenSource::Object(object) => object.read(buffer),
        }
    }

    /// Returns true if the file has not changed since it was listed. Always returns true for an
    /// object, because each range request checks the object's `ETag`.
    fn is_unchanged(&self) -> std::io::Result<bool> {
        match self {
            OpenSource::Disk(file, listed) => listed.is_unchanged(file),
            OpenSource::Object(_) => Ok(true),
        }
    }
}

/// Reader of an open file that counts and hashes its bytes.
pub(crate) struct CountingReader {
    file: OpenSource,
    hash: Option<Sha256>,
    meter: Arc<StageProgress>,
}

impl CountingReader {
    /// Opens a file without hashing.
    ///
    /// Errors: `FileChanged` if the file has changed since it was listed.
    pub fn open(source: &SourceFile, meter: &Arc<StageProgress>) -> Result<Self> {
        let file = OpenSource::open(source)?;
        Ok(CountingReader { file, hash: None, meter: meter.clone() })
    }

    /// Opens a file whose bytes are hashed for [`CountingReader::finish`].
    pub fn open_hashing(source: &SourceFile, meter: &Arc<StageProgress>) -> Result<Self> {
        let tap = CountingReader::open(source, meter)?;
        Ok(CountingReader { hash: Some(Sha256::new()), ..tap })
    }
}

impl Read for CountingReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.meter.cancelled.is_cancelled() {
            return Err(std::io::Error::other("stopped"));
        }
        let count = self.file.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        self.meter.add_bytes(count as u64);
        Ok(count)
    }
}

/// Digest of a file that was read completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileDigest {
    /// First half of the SHA-256 of the file's bytes on disk.
    pub hash: [u8; 16],
}

impl CountingReader {
    /// Reads the rest of the file and returns its digest. Fails if the file has changed since it
    /// was listed, because the rows may then come from different states of the file.
    pub fn finish(mut self, source: &SourceFile) -> Result<FileDigest> {
        let fail = |error| Error::File { file: source.name.clone(), source: error };
        let mut rest = vec![0; 64 * 1024];
        while self.read(&mut rest).map_err(fail)? > 0 {}
        if !self.file.is_unchanged().map_err(fail)? {
            return Err(Error::FileChanged { file: source.name.clone() });
        }
        let mut hash = [0; 16];
        let digest = self.hash.unwrap_or_default().finalize();
        hash.copy_from_slice(&digest[..16]);
        Ok(FileDigest { hash })
    }
}

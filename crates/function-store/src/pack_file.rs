//! Pack files: the files of a large function on disk.
//!
//! A pack file has the contents of a function's files, one after the other, without paths. The
//! manifest in the store has the path, the position and the hash of each file. The name of a
//! pack file is the hash of its manifest. Pack files are stored with the contents of buckets. A
//! pack file in a cloud object store is copied to an unnamed local file before it is read. This
//! file uses disk space until its last reader closes it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt;
use headwater_model::{ObjectId, PackedFile};
use headwater_objects::{Objects, PackFileContent};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::layer::used_layers;
use crate::{Error, FunctionStore, NewCode, Result, StoredCode, StoredVersion};

/// Size of the buffer for copies, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// Time for which an unused pack file is kept, because a deployment may be about to use it. Also
/// the minimum time between two searches for unused pack files, because a search reads all
/// functions.
const KEPT: Duration = Duration::from_secs(3600);

/// The storage of pack files. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PackFiles {
    objects: Objects,
    /// The folder for temporary files.
    folder: PathBuf,
    /// The time of the last search for unused pack files, in seconds since 1970.
    searched: Arc<AtomicI64>,
}

/// A pack file to store with a change.
#[derive(Debug, Clone)]
pub(crate) struct NewPackFile {
    pub(crate) file: Arc<File>,
    /// Length in bytes.
    pub(crate) bytes: u64,
}

/// Creates a file without a name in a folder. The disk space is freed when the file is closed.
///
/// Errors: `disk_full`, `storage`.
pub fn temporary_file(folder: &Path) -> Result<File> {
    let path = folder.join(format!("package-{}", Uuid::new_v4().simple()));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let file = file.map_err(Error::disk)?;
    fs::remove_file(&path).map_err(Error::disk)?;
    Ok(file)
}

/// The size in bytes and the SHA-256 of an archive.
#[derive(Debug, Clone)]
pub struct ArchiveDigest {
    /// Size in bytes.
    pub(crate) bytes: u64,
    /// SHA-256 in Base64.
    pub(crate) sha256: String,
}

impl ArchiveDigest {
    /// Computes the digest of an archive in memory.
    pub(crate) fn of(archive: &[u8]) -> Self {
        let sha256 = STANDARD.encode(Sha256::digest(archive));
        ArchiveDigest { bytes: archive.len() as u64, sha256 }
    }

    /// Computes the digest of an archive on disk.
    pub(crate) fn of_file(archive: &File) -> Result<Self> {
        let (mut buffer, mut bytes, mut digest) = (vec![0_u8; BUFFER_BYTES], 0, Sha256::new());
        loop {
            let read = archive.read_at(&mut buffer, bytes).map_err(Error::disk)?;
            if read == 0 {
                return Ok(ArchiveDigest { bytes, sha256: STANDARD.encode(digest.finalize()) });
            }
            digest.update(&buffer[..read]);
            bytes += read as u64;
        }
    }
}

/// Writes the contents of files to a new pack file.
pub(crate) struct PackFileWriter {
    pack_file: Arc<File>,
    /// The length of the pack file in bytes.
    bytes: u64,
    buffer: Vec<u8>,
}

impl PackFileWriter {
    /// Creates an empty pack file in a folder.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let pack_file = Arc::new(temporary_file(folder)?);
        Ok(PackFileWriter { pack_file, bytes: 0, buffer: vec![0_u8; BUFFER_BYTES] })
    }

    /// Appends a file. `damaged` converts an error while reading the content to an error of the
    /// archive.
    pub(crate) fn add(
        &mut self,
        content: &mut impl Read,
        executable: bool,
        damaged: &impl Fn(&dyn std::fmt::Display) -> Error,
    ) -> Result<PackedFile> {
        let (offset, mut digest, mut is_script) = (self.bytes, Sha256::new(), false);
        loop {
            let read = match content.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|error| damaged(&error))?,
            };
            let part = &self.buffer[..read];
            if part.is_empty() {
                break;
            }
            is_script |= self.bytes == offset && part.starts_with(b"#!");
            digest.update(part);
            (&*self.pack_file).write_all(part).map_err(Error::disk)?;
            self.bytes += read as u64;
        }
        let digest: [u8; 32] = digest.finalize().into();
        let content = ObjectId::from_slice(&digest);
        let content = content.ok_or_else(|| Error::disk(io::ErrorKind::InvalidData.into()))?;
        Ok(PackedFile {
            pack_file: self.pack_file.clone(),
            offset,
            bytes: self.bytes - offset,
            content,
            executable: executable || is_script,
        })
    }
}

impl FunctionStore {
    /// Sets the storage for pack files. Without this storage, large functions are rejected.
    /// `folder` is for temporary files.
    #[must_use]
    pub fn with_pack_files(mut self, objects: Objects, folder: &Path) -> Self {
        let searched = Arc::new(AtomicI64::new(i64::MIN));
        self.pack_files = Some(PackFiles { objects, folder: folder.to_owned(), searched });
        self
    }

    fn pack_files(&self) -> Result<&PackFiles> {
        let pack_files = self.pack_files.as_ref();
        pack_files.ok_or_else(|| Error::invalid("the function is too large", "Remove files"))
    }

    /// Stores the pack file of new files durably, if there is one.
    pub(crate) async fn store_pack_file(&self, code: &NewCode) -> Result<()> {
        let Some(NewPackFile { file, bytes }) = code.pack_file.clone() else { return Ok(()) };
        let name = code.code.manifest.to_string();
        Ok(self.pack_files()?.objects.put_pack_file(&name, file, bytes).await?)
    }

    /// Opens the pack file of stored files; `None` if their contents are objects of the store.
    pub(crate) async fn open_pack_file(&self, code: &StoredCode) -> Result<Option<Arc<File>>> {
        if !code.packaged {
            return Ok(None);
        }
        let pack_files = self.pack_files()?;
        let opened = pack_files.objects.open_pack_file(&code.manifest.to_string()).await?;
        let mut parts = match opened {
            PackFileContent::File(file) => return Ok(Some(Arc::new(file))),
            PackFileContent::Parts(parts) => parts,
        };
        let mut file = tokio::fs::File::from_std(temporary_file(&pack_files.folder)?);
        let failed = |problem| headwater_objects::Error::Content(Box::new(problem));
        while let Some(part) = parts.try_next().await.map_err(failed)? {
            file.write_all(&part).await.map_err(Error::disk)?;
        }
        file.flush().await.map_err(Error::disk)?;
        Ok(Some(Arc::new(file.into_std().await)))
    }

    /// Deletes the pack files that neither a function nor a layer uses, at most once an hour.
    /// Pack files that were stored within the last hour are kept. A reader that has opened a pack
    /// file can still read it.
    pub async fn remove_unused_pack_files(&self) -> Result<()> {
        let Some(PackFiles { objects, searched, .. }) = &self.pack_files else { return Ok(()) };
        let now = self.now().timestamp();
        let since = now.saturating_sub(searched.load(Ordering::Relaxed));
        if u64::try_from(since).is_ok_and(|since| since < KEPT.as_secs()) {
            return Ok(());
        }
        searched.store(now, Ordering::Relaxed);
        let mut stored = objects.pack_files().await?;
        stored.retain(|(_, time)| (self.now() - *time).to_std().unwrap_or_default() >= KEPT);
        if stored.is_empty() {
            return Ok(());
        }
        let used = self.used_pack_files().await?;
        for (name, time) in stored.iter().filter(|(name, _)| !used.contains(name)) {
            objects.delete_pack_file(name, *time).await?;
        }
        Ok(())
    }

    async fn used_pack_files(&self) -> Result<BTreeSet<String>> {
        let mut codes: Vec<StoredCode> = Vec::new();
        // Read the layers first. Otherwise, if a function starts to use a layer version, and the
        // version is then deleted, both reads would miss its pack file.
        for layer in self.layers().await? {
            codes.extend(layer.versions.into_values().map(|version| version.code));
        }
        let mut add = |version: &StoredVersion| {
            codes.push(version.code.clone());
            codes.extend(used_layers(version).into_iter().map(|layer| layer.code));
        };
        for function in self.list().await? {
            add(&function.latest);
            self.versions(&function).await?.iter().for_each(&mut add);
        }
        let packaged = codes.into_iter().filter(|code| code.packaged);
        Ok(packaged.map(|code| code.manifest.to_string()).collect())
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::{Actor, ErrorCode, FileContent, FixedClock, FunctionSettings, ToProblem};
    use headwater_store::MemoryStore;
    use rawzip::ZipArchiveWriter;
    use rawzip::path::EntryPath;

    use super::*;
    use crate::paths::MEMORY_BYTES_MAX;
    use crate::{Author, FunctionFiles, project_files};

    /// Writes an archive of files to a folder.
    fn archive(folder: &Path, files: &[(&str, &[u8])]) -> File {
        let file = temporary_file(folder).expect("a file");
        let mut writer = ZipArchiveWriter::new(&file);
        for (name, content) in files {
            let new = writer.new_file(EntryPath::verbatim(name.as_bytes()));
            let (mut entry, config) = new.start().expect("an entry");
            let mut content_writer = config.wrap(&mut entry);
            content_writer.write_all(content).expect("written");
            let (_, descriptor) = content_writer.finish().expect("finished");
            entry.finish(descriptor).expect("an entry");
        }
        writer.finish().expect("an archive");
        file
    }

    fn bytes_of(file: &File) -> Vec<u8> {
        let mut bytes = vec![0_u8; file.metadata().expect("a file").len() as usize];
        file.read_exact_at(&mut bytes, 0).expect("the content");
        bytes
    }

    fn content(file: &FileContent) -> Vec<u8> {
        let FileContent::Packed(packed) = file else { panic!("the file is in memory") };
        let mut bytes = vec![0_u8; usize::try_from(packed.bytes).expect("a small file")];
        packed.pack_file.read_exact_at(&mut bytes, packed.offset).expect("a part of the pack file");
        bytes
    }

    fn settings() -> FunctionSettings {
        let handler = Some("app.handler".to_owned());
        FunctionSettings { runtime: "python3.11".to_owned(), handler, ..Default::default() }
    }

    #[tokio::test]
    async fn a_pack_file_is_stored_until_its_function_is_deleted() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = FixedClock::at("2026-03-01T00:00:00Z".parse().expect("a time"));
        let (clock, store) = (Arc::new(clock), Arc::new(MemoryStore::new()));
        let objects = Objects::local(store.clone(), clock.clone(), &folder.path().join("objects"));
        let objects = objects.expect("a folder");
        let functions = FunctionStore::new(store, clock.clone());
        let functions = functions.with_pack_files(objects.clone(), folder.path());
        let model = vec![7_u8; 300_000];
        let parts: [(&str, &[u8]); 4] = [
            ("app.py", b"def handler(event, context): pass\n"),
            ("model.bin", &model),
            ("requirements.txt", b"six==1.17.0\n"),
            ("tool", b"#!/bin/sh\n"),
        ];
        let archive = archive(folder.path(), &parts);
        let files = FunctionFiles::of_archive_file(archive, folder.path()).expect("files");
        assert!(files.code.code.packaged && files.code.objects.len() == 2);
        let author = Author { name: "ada".to_owned(), actor: Actor::Owner };
        let created = functions.create("f", files.code.clone(), &[], &author).await;
        let code = created.expect("created").latest.code;
        let stored = functions.files("f", &code).await.expect("files");
        assert!(stored == files.files);
        assert_eq!(content(&stored["model.bin"]), model);
        assert!(stored["tool"].is_executable() && !stored["app.py"].is_executable());
        assert_eq!(stored["requirements.txt"].text(), "six==1.17.0\n");
        let project = project_files("f", &settings(), stored.clone()).expect("a project");
        assert!(matches!(project["code/app.py"], FileContent::Packed(_)));
        clock.advance(2 * KEPT);
        functions.remove_unused_pack_files().await.expect("removed");
        assert_eq!(
            objects.pack_files().await.expect("pack files").len(),
            1,
            "the function uses it"
        );
        functions.delete("f").await.expect("deleted");
        functions.remove_unused_pack_files().await.expect("too early");
        assert_eq!(objects.pack_files().await.expect("pack files").len(), 1);
        clock.advance(KEPT);
        functions.remove_unused_pack_files().await.expect("removed");
        assert!(objects.pack_files().await.expect("pack files").is_empty());
        // The pack file can still be read, because it is open.
        objects.collect_garbage_after(Duration::ZERO).await.expect("collected");
        assert_eq!(content(&stored["model.bin"]), model);
        let gone = functions.files("f", &code).await.expect_err("deleted");
        assert_eq!(gone.code(), ErrorCode::ObjectNotFound);
    }

    #[test]
    fn only_large_archives_in_requests_have_a_pack_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let large = vec![0_u8; usize::try_from(MEMORY_BYTES_MAX).expect("a size") + 1];
        for (size, packaged) in [(1, false), (large.len(), true)] {
            let file = archive(folder.path(), &[("app.py", &large[..size])]);
            let files = FunctionFiles::of_archive(&bytes_of(&file), folder.path());
            let files = files.expect("files");
            assert_eq!(files.code.code.packaged, packaged, "{size}");
            assert_eq!(files.files["app.py"].size(), size as u64);
        }
        // Temporary files have no names, so they are not in the folder.
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn a_damaged_archive_on_disk_is_rejected() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |file: File| FunctionFiles::of_archive_file(file, folder.path());
        let content = b"content of the file";
        let parts: [(&str, &[u8]); 1] = [("app.py", content)];
        let cut = archive(folder.path(), &parts);
        cut.set_len(30).expect("cut");
        read(cut).expect_err("truncated");
        let altered = archive(folder.path(), &parts);
        let start = bytes_of(&altered).windows(content.len()).position(|part| part == content);
        altered.write_all_at(b"C", start.expect("the content") as u64).expect("altered");
        let error = read(altered).expect_err("altered");
        assert!(error.to_string().contains("damaged"), "{error}");
        let outside: [(&str, &[u8]); 1] = [("../app.py", b"x")];
        let error = read(archive(folder.path(), &outside)).expect_err("outside");
        assert!(error.to_string().contains("`..`"), "{error}");
    }
}

//! Packages: the files of a large function on disk.
//!
//! A package has the contents of a function's files, one after the other, without paths. The
//! manifest in the store has the path, the position and the hash of each file. The name of a package
//! is the hash of its manifest. Packages are with the contents of buckets. To be read, a package in
//! a cloud object store is copied to a file without a name, whose disk space is free after the last
//! use.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt;
use headwater_model::{ObjectId, PackedFile};
use headwater_objects::{Objects, Package};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::layer::used_layers;
use crate::{Error, FunctionStore, NewCode, Result, StoredCode, StoredVersion};

/// Size of the buffer for copies, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// Time for which a package without a function is kept, because a deployment may be about to use it.
const KEPT: Duration = Duration::from_secs(3600);

/// The storage of packages. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Packages {
    objects: Objects,
    /// The folder for temporary files.
    folder: PathBuf,
}

/// A package to store with a change.
#[derive(Debug, Clone)]
pub(crate) struct NewPackage {
    pub(crate) file: Arc<File>,
    /// Length in bytes.
    pub(crate) bytes: u64,
}

/// Creates a file without a name in a folder. Its disk space is free when it is closed.
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

/// Writes the contents of files to a new package.
pub(crate) struct PackageWriter {
    package: Arc<File>,
    /// The length of the package in bytes.
    bytes: u64,
    buffer: Vec<u8>,
}

impl PackageWriter {
    /// Creates an empty package in a folder.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let package = Arc::new(temporary_file(folder)?);
        Ok(PackageWriter { package, bytes: 0, buffer: vec![0_u8; BUFFER_BYTES] })
    }

    /// Appends a file. `damaged` converts errors of its content.
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
            (&*self.package).write_all(part).map_err(Error::disk)?;
            self.bytes += read as u64;
        }
        let digest: [u8; 32] = digest.finalize().into();
        let content = ObjectId::from_slice(&digest);
        let content = content.ok_or_else(|| Error::disk(io::ErrorKind::InvalidData.into()))?;
        Ok(PackedFile {
            package: self.package.clone(),
            offset,
            bytes: self.bytes - offset,
            content,
            executable: executable || is_script,
        })
    }
}

impl FunctionStore {
    /// Returns the functions with a storage for packages, without which large functions are
    /// rejected. `folder` is for temporary files.
    #[must_use]
    pub fn with_packages(mut self, objects: Objects, folder: &Path) -> Self {
        self.packages = Some(Packages { objects, folder: folder.to_owned() });
        self
    }

    fn packages(&self) -> Result<&Packages> {
        let packages = self.packages.as_ref();
        packages.ok_or_else(|| Error::invalid("the function is too large", "Remove files"))
    }

    /// Stores the package of new files durably, if they have one.
    pub(crate) async fn store_package(&self, code: &NewCode) -> Result<()> {
        let Some(NewPackage { file, bytes }) = code.package.clone() else { return Ok(()) };
        let name = code.code.manifest.to_string();
        Ok(self.packages()?.objects.put_package(&name, file, bytes).await?)
    }

    /// Opens the package of stored files; `None` if their contents are objects of the store.
    pub(crate) async fn open_package(&self, code: &StoredCode) -> Result<Option<Arc<File>>> {
        if !code.packaged {
            return Ok(None);
        }
        let packages = self.packages()?;
        let opened = packages.objects.open_package(&code.manifest.to_string()).await?;
        let mut parts = match opened {
            Package::File(file) => return Ok(Some(Arc::new(file))),
            Package::Parts(parts) => parts,
        };
        let mut file = tokio::fs::File::from_std(temporary_file(&packages.folder)?);
        let failed = |problem| headwater_objects::Error::Content(Box::new(problem));
        while let Some(part) = parts.try_next().await.map_err(failed)? {
            file.write_all(&part).await.map_err(Error::disk)?;
        }
        file.flush().await.map_err(Error::disk)?;
        Ok(Some(Arc::new(file.into_std().await)))
    }

    /// Deletes the packages that neither a function nor a layer uses. Packages that were stored
    /// recently are kept.
    pub(crate) async fn remove_unused_packages(&self) -> Result<()> {
        let Some(Packages { objects, .. }) = &self.packages else { return Ok(()) };
        let mut stored = objects.packages().await?;
        stored.retain(|(_, time)| (self.now() - *time).to_std().unwrap_or_default() >= KEPT);
        if stored.is_empty() {
            return Ok(());
        }
        let used = self.used_packages().await?;
        for (name, time) in stored.iter().filter(|(name, _)| !used.contains(name)) {
            objects.delete_package(name, *time).await?;
        }
        Ok(())
    }

    async fn used_packages(&self) -> Result<BTreeSet<String>> {
        let mut codes: Vec<StoredCode> = Vec::new();
        let mut add = |version: &StoredVersion| {
            codes.push(version.code.clone());
            codes.extend(used_layers(version).into_iter().map(|layer| layer.code));
        };
        for function in self.list().await? {
            add(&function.latest);
            self.versions(&function).await?.iter().for_each(&mut add);
        }
        for layer in self.layers().await? {
            codes.extend(layer.versions.into_values().map(|version| version.code));
        }
        let packaged = codes.into_iter().filter(|code| code.packaged);
        Ok(packaged.map(|code| code.manifest.to_string()).collect())
    }
}

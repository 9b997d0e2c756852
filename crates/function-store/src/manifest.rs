//! The stored files of a version: a manifest, and the contents of its files.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use headwater_model::{FileContent, ObjectId, PackedFile, ProjectFiles};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::pack_file::{ArchiveDigest, NewPackFile};
use crate::{Error, FunctionStore, NewCode, Result, StoredCode, check_files};

/// A file in a manifest.
#[derive(Serialize, Deserialize)]
struct ManifestEntry {
    content: ObjectId,
    #[serde(default)]
    executable: bool,
    /// The part of the pack file with the content; `None` if the content is an object of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<PackagePart>,
}

/// The part of a pack file that contains a file.
#[derive(Serialize, Deserialize)]
struct PackagePart {
    offset: u64,
    bytes: u64,
}

impl FunctionStore {
    /// Returns the paths of a version's files.
    pub async fn paths(&self, name: &str, code: &StoredCode) -> Result<Vec<String>> {
        Ok(self.manifest(name, code).await?.into_keys().collect())
    }

    /// Returns a version's files by path.
    pub async fn files(&self, name: &str, code: &StoredCode) -> Result<ProjectFiles> {
        let manifest = self.manifest(name, code).await?;
        let pack_file = self.open_pack_file(code).await?;
        let objects = manifest.values().filter(|file| file.part.is_none());
        let ids: Vec<ObjectId> = objects.map(|file| file.content).collect();
        let mut contents = self.store().objects(&ids).await?.into_iter();
        let file = |(path, file): (String, ManifestEntry)| {
            let ManifestEntry { content, executable, part } = file;
            let file = if let Some(PackagePart { offset, bytes }) = part {
                let pack_file = pack_file.clone().ok_or_else(|| Error::corrupt(name))?;
                FileContent::Packed(PackedFile { pack_file, offset, bytes, content, executable })
            } else {
                let bytes = contents.next().flatten().ok_or_else(|| Error::corrupt(name))?;
                FileContent::new(bytes.into(), executable)
            };
            Ok((path, file))
        };
        manifest.into_iter().map(file).collect()
    }

    async fn manifest(
        &self,
        name: &str,
        code: &StoredCode,
    ) -> Result<BTreeMap<String, ManifestEntry>> {
        let bytes = self.store().object(&code.manifest).await?;
        let bytes = bytes.ok_or_else(|| Error::corrupt(name))?;
        serde_json::from_slice(&bytes).map_err(|_| Error::corrupt(name))
    }

    /// Converts files to the form in which they are stored. `archive` describes the archive that
    /// contained them, if any.
    ///
    /// Errors: `invalid_argument` if the paths, the number or the sizes of the files are not
    /// accepted.
    pub fn code(files: &ProjectFiles, archive: Option<&ArchiveDigest>) -> Result<NewCode> {
        check_files(files)?;
        let (mut objects, mut pack_file) = (Vec::new(), None::<NewPackFile>);
        let mut manifest = BTreeMap::new();
        for (path, file) in files {
            let executable = file.is_executable();
            let (content, part) = if let FileContent::Packed(packed) = file {
                let PackedFile { offset, bytes, content, .. } = *packed;
                let end =
                    pack_file.as_ref().map_or(0, |pack_file| pack_file.bytes).max(offset + bytes);
                pack_file = Some(NewPackFile { file: packed.pack_file.clone(), bytes: end });
                (content, Some(PackagePart { offset, bytes }))
            } else {
                let content = Bytes::copy_from_slice(file.bytes());
                let id = ObjectId::of(&content);
                objects.push(content);
                (id, None)
            };
            manifest.insert(path.clone(), ManifestEntry { content, executable, part });
        }
        let manifest = Bytes::from(serde_json::json!(manifest).to_string().into_bytes());
        let size: u64 = files.values().map(FileContent::size).sum();
        let (bytes, sha256) = match archive {
            Some(archive) => (archive.bytes, archive.sha256.clone()),
            None => (size, STANDARD.encode(Sha256::digest(&manifest))),
        };
        let (id, packaged) = (ObjectId::of(&manifest), pack_file.is_some());
        let code = StoredCode { manifest: id, bytes, sha256, packaged };
        objects.push(manifest);
        Ok(NewCode { code, objects, pack_file })
    }
}

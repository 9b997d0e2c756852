//! The files of a project: their content, and the names that mark a folder as a project.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::ObjectId;

/// Name of the project file of Headwater.
pub const PROJECT_FILE: &str = "headwater.toml";

/// Names of all files that mark a folder as a project: Headwater's, and those of projects written
/// for Bauplan.
pub const PROJECT_FILES: [&str; 3] = [PROJECT_FILE, "bauplan_project.yml", "bauplan_project.yaml"];

/// The files of a project by path, relative to its root and separated by `/`.
pub type ProjectFiles = BTreeMap<String, FileContent>;

/// The content of a project's file: UTF-8 text, or binary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum FileContent {
    /// UTF-8 text. Text that begins with `#!` is executable.
    Text(String),
    /// Binary content.
    Binary(BinaryFile),
    /// Content in a pack file on the server's disk. Requests and responses never contain it.
    #[serde(skip)]
    Packed(PackedFile),
}

/// A file that is not text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BinaryFile {
    /// The file's bytes, as Base64 in JSON.
    #[serde(serialize_with = "encode", deserialize_with = "decode")]
    #[schema(value_type = String)]
    pub base64: Vec<u8>,
    /// True if the file is executable.
    #[serde(default)]
    pub executable: bool,
}

/// A file of a large function: a part of its pack file, which is not in memory.
#[derive(Debug, Clone)]
pub struct PackedFile {
    /// The pack file: the contents of all files, one after the other.
    pub pack_file: Arc<File>,
    /// The position of the file's first byte in the pack file.
    pub offset: u64,
    /// The length of the file in bytes.
    pub bytes: u64,
    /// The hash of the file's content.
    pub content: ObjectId,
    /// True if the file is executable.
    pub executable: bool,
}

/// Packed files are equal if their contents are equal; their pack files may differ.
impl PartialEq for PackedFile {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content && self.executable == other.executable
    }
}

impl Eq for PackedFile {}

impl FileContent {
    /// Creates the content of a file from its bytes: text if the bytes are UTF-8.
    pub fn new(bytes: Vec<u8>, executable: bool) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => FileContent::Text(text),
            Err(error) => {
                FileContent::Binary(BinaryFile { base64: error.into_bytes(), executable })
            }
        }
    }

    /// Returns the file's text; empty for binary content and for content in a pack file.
    pub fn text(&self) -> &str {
        match self {
            FileContent::Text(text) => text,
            FileContent::Binary(_) | FileContent::Packed(_) => "",
        }
    }

    /// Returns the file's bytes; empty for content in a pack file, which is not in memory.
    pub fn bytes(&self) -> &[u8] {
        match self {
            FileContent::Text(text) => text.as_bytes(),
            FileContent::Binary(file) => &file.base64,
            FileContent::Packed(_) => &[],
        }
    }

    /// Reads the file's bytes, which may be in a pack file; `None` if there are more than
    /// `bytes_max`. Blocks on the disk.
    pub fn read(&self, bytes_max: u64) -> io::Result<Option<Cow<'_, [u8]>>> {
        if self.size() > bytes_max {
            return Ok(None);
        }
        let FileContent::Packed(file) = self else { return Ok(Some(Cow::Borrowed(self.bytes()))) };
        let mut bytes = vec![0; usize::try_from(file.bytes).unwrap_or(usize::MAX)];
        file.pack_file.read_exact_at(&mut bytes, file.offset)?;
        Ok(Some(Cow::Owned(bytes)))
    }

    /// Returns the length of the file in bytes.
    pub fn size(&self) -> u64 {
        match self {
            FileContent::Packed(file) => file.bytes,
            FileContent::Text(_) | FileContent::Binary(_) => self.bytes().len() as u64,
        }
    }

    /// Returns true for a binary program, and for a script that starts with `#!`.
    pub fn is_executable(&self) -> bool {
        match self {
            FileContent::Text(text) => text.starts_with("#!"),
            FileContent::Binary(file) => file.executable,
            FileContent::Packed(file) => file.executable,
        }
    }
}

impl From<String> for FileContent {
    fn from(text: String) -> Self {
        FileContent::Text(text)
    }
}

impl From<&str> for FileContent {
    fn from(text: &str) -> Self {
        FileContent::Text(text.to_owned())
    }
}

/// Written by hand, because the derived implementation of an untagged enum would copy the text of
/// each file.
impl<'de> Deserialize<'de> for FileContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FileVisitor)
    }
}

struct FileVisitor;

impl<'de> Visitor<'de> for FileVisitor {
    type Value = FileContent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, or an object with `base64`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<FileContent, E> {
        Ok(text.into())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<FileContent, E> {
        Ok(text.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FileContent, A::Error> {
        BinaryFile::deserialize(MapAccessDeserializer::new(map)).map(FileContent::Binary)
    }
}

fn encode<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn decode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(|_| de::Error::custom("`base64` is not valid Base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_plain_json_and_other_bytes_are_base64() {
        for (bytes, executable, expected) in [
            (&b"#!/bin/sh\n"[..], false, r##""#!/bin/sh\n""##),
            (b"\xff\x00", true, r#"{"base64":"/wA=","executable":true}"#),
            (b"\xff\x00", false, r#"{"base64":"/wA=","executable":false}"#),
        ] {
            let file = FileContent::new(bytes.to_vec(), executable);
            assert_eq!(file.bytes(), bytes);
            let text = serde_json::to_string(&file).expect("JSON");
            assert_eq!(text, expected);
            assert_eq!(serde_json::from_str::<FileContent>(&text).expect("a file"), file);
        }
        for wrong in [r#"{"base64": "?"}"#, r#"{"base64": "", "mode": 7}"#, "7", "{}"] {
            assert!(serde_json::from_str::<FileContent>(wrong).is_err(), "{wrong}");
        }
    }
}

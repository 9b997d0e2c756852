//! ZIP archives with the files of a function.
//!
//! The reader checks every name, size and checksum, because an archive may be hostile. The files of
//! a small archive are read into memory. The files of a large archive are written to a pack file on
//! disk, one after the other. Links, encrypted entries and duplicate names are rejected. The limits
//! apply to the bytes that are actually decompressed, not to the sizes that the archive declares.

use std::collections::btree_map::Entry;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;

use flate2::read::DeflateDecoder;
use headwater_model::{FileContent, ProjectFiles};
use rawzip::{CompressionMethod, ReaderAt, ZipArchive, ZipFileHeaderRecord};

use crate::pack_file::PackFileWriter;
use crate::paths::{
    FILES_BYTES_MAX, FILES_MAX, MEMORY_BYTES_MAX, file_and_folder, limits_hint, path_error,
    printable,
};
use crate::{Error, Result, requirements};

/// Maximum size in bytes of an archive that a request contains in Base64.
pub const ARCHIVE_BYTES_MAX: usize = 44 << 20;

/// Maximum size in bytes of an archive that is uploaded, or read from a bucket: 1 GiB for the
/// files, and 64 MiB for the archive's headers.
pub const STORED_ARCHIVE_BYTES_MAX: u64 = FILES_BYTES_MAX + (64 << 20);

/// Maximum size of `requirements.txt`, in bytes.
const REQUIREMENTS_BYTES_MAX: u64 = 1 << 20;

/// Size of the buffer for an entry of the central directory, in bytes. The longest entry has a
/// name, extra fields and a comment of 64 KiB each.
const BUFFER_BYTES: usize = 256 << 10;

/// The mask for the file type in the Unix mode of an entry.
const TYPE_MASK: u32 = 0o170_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_FOLDER: u32 = 0o040_000;

/// The execute permission bits in the Unix mode of an entry.
const EXECUTABLE: u32 = 0o111;

const DAMAGED: &str = "Create the archive again, for example with `zip -r function.zip .`";

/// Returns the files in a small ZIP archive by path. Entries of folders are skipped.
///
/// Errors: `invalid_argument`.
pub fn read_archive(bytes: &[u8]) -> Result<ProjectFiles> {
    let archive = open(bytes)?;
    ArchiveReader { archive: &archive, left: MEMORY_BYTES_MAX, ranges: Vec::new(), pack_file: None }
        .files()
}

/// Returns true if the files in a ZIP archive are too large for memory, by their declared sizes.
///
/// Errors: `invalid_argument`.
pub(crate) fn is_large(bytes: &[u8]) -> Result<bool> {
    declared_size_exceeds(&open(bytes)?, MEMORY_BYTES_MAX)
}

/// Writes the files in a ZIP archive to a pack file and returns them by path. Memory does not
/// depend on the size of the files.
///
/// Errors: `invalid_argument`, `disk_full`, `storage`.
pub(crate) fn unpack(archive: File, pack_file: PackFileWriter) -> Result<ProjectFiles> {
    let archive = ZipArchive::from_file(archive, &mut vec![0_u8; BUFFER_BYTES]);
    let archive = archive.map_err(|error| not_an_archive(&error))?;
    if declared_size_exceeds(&archive, FILES_BYTES_MAX)? {
        return Err(too_large());
    }
    let (left, pack_file) = (FILES_BYTES_MAX, Some(pack_file));
    ArchiveReader { archive: &archive, left, ranges: Vec::new(), pack_file }.files()
}

fn open(bytes: &[u8]) -> Result<ZipArchive<&[u8]>> {
    if bytes.len() > ARCHIVE_BYTES_MAX {
        let reason = format!("the file has {} bytes (limit 44 MiB)", bytes.len());
        return Err(Error::archive(reason, "Remove files from the archive"));
    }
    let archive = ZipArchive::from_slice(bytes).map_err(|error| not_an_archive(&error))?;
    Ok(archive.into_reader_archive())
}

fn not_an_archive(error: &rawzip::Error) -> Error {
    Error::archive(format!("the file is not a ZIP archive, or is truncated ({error})"), DAMAGED)
}

fn too_large() -> Error {
    Error::archive("the decompressed files are too large", limits_hint())
}

/// Returns true if the declared sizes of an archive's files exceed a limit in total.
fn declared_size_exceeds<R: ReaderAt>(archive: &ZipArchive<R>, limit: u64) -> Result<bool> {
    let mut buffer = vec![0_u8; BUFFER_BYTES];
    let (mut entries, mut bytes) = (archive.entries(&mut buffer), 0_u64);
    while let Some(entry) = entries.next_entry().map_err(|error| damaged(&error))? {
        bytes = bytes.saturating_add(entry.uncompressed_size_hint());
        if bytes > limit {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the path of an entry; `None` for a folder.
fn path(entry: &ZipFileHeaderRecord<'_>) -> Result<Option<String>> {
    let raw = entry.file_path();
    let path = std::str::from_utf8(raw.as_ref())
        .map_err(|_| Error::archive("a name is not UTF-8", "Rename the file"))?;
    let is_folder = entry.is_dir() || path.ends_with('/');
    let checked = if is_folder { path.trim_end_matches('/') } else { path };
    if let Some(reason) = path_error(checked) {
        let hint = "Name files relative to the function's folder";
        return Err(Error::archive(format!("entry `{}`: {reason}", printable(path)), hint));
    }
    let kind = entry.mode().value() & TYPE_MASK;
    if !matches!(kind, 0 | TYPE_FILE | TYPE_FOLDER) {
        let reason = format!("entry `{}` is a link or a special file", printable(path));
        return Err(Error::archive(
            reason,
            "Replace it with a copy of the file: `zip` follows links",
        ));
    }
    if entry.flags().is_encrypted() || entry.flags().has_strong_encryption() {
        let reason = format!("entry `{}` is encrypted", printable(path));
        return Err(Error::archive(reason, "Create the archive without a password"));
    }
    Ok((!is_folder).then(|| path.to_owned()))
}

/// Returns true for the path of `requirements.txt` in the archive of a Python function, or below
/// `python/` in the archive of a layer.
fn is_requirements(path: &str) -> bool {
    path.strip_prefix("python/").unwrap_or(path) == requirements::FILE
}

/// Reads the entries of an archive, up to a limit on the total size of all files.
struct ArchiveReader<'a, R> {
    archive: &'a ZipArchive<R>,
    /// Number of bytes that may still be decompressed.
    left: u64,
    /// The byte ranges of the archive that contain the compressed data of entries.
    ranges: Vec<(u64, u64)>,
    /// The pack file for the files; `None` to read them into memory.
    pack_file: Option<PackFileWriter>,
}

impl<R: ReaderAt> ArchiveReader<'_, R> {
    fn files(mut self) -> Result<ProjectFiles> {
        let mut buffer = vec![0_u8; BUFFER_BYTES];
        let mut files = ProjectFiles::new();
        let (mut entries, mut count) = (self.archive.entries(&mut buffer), 0_u64);
        while let Some(entry) = entries.next_entry().map_err(|error| damaged(&error))? {
            count += 1;
            if count > FILES_MAX as u64 {
                return Err(Error::archive("the archive has too many entries", limits_hint()));
            }
            let Some(path) = path(&entry)? else { continue };
            let file = self.file(&entry, &path)?;
            match files.entry(path) {
                Entry::Vacant(vacant) => vacant.insert(file),
                Entry::Occupied(occupied) => {
                    let reason = format!("two entries are named `{}`", printable(occupied.key()));
                    return Err(Error::archive(reason, "Keep one of the entries"));
                }
            };
        }
        let declared = self.archive.entries_hint();
        if count != declared {
            let reason = format!("its central directory has {count} entries instead of {declared}");
            return Err(Error::archive(reason, DAMAGED));
        }
        self.check_ranges()?;
        if let Some(path) = file_and_folder(files.keys().map(String::as_str)) {
            let reason = format!("`{}` is both a file and a folder", printable(path));
            return Err(Error::archive(reason, "Rename the file or the folder"));
        }
        if files.is_empty() {
            return Err(Error::archive("the archive has no files", "Add the function's files"));
        }
        Ok(files)
    }

    fn file(&mut self, header: &ZipFileHeaderRecord<'_>, path: &str) -> Result<FileContent> {
        let wrong = |error: &dyn Display| {
            Error::archive(format!("entry `{}` is damaged ({error})", printable(path)), DAMAGED)
        };
        let entry = self.archive.get_entry(header.wayfinder()).map_err(|error| wrong(&error))?;
        self.ranges.push(entry.compressed_data_range());
        let content: Box<dyn Read + '_> = match header.compression_method() {
            CompressionMethod::STORE => Box::new(entry.verifying_reader(entry.reader())),
            CompressionMethod::DEFLATE => {
                Box::new(entry.verifying_reader(DeflateDecoder::new(entry.reader())))
            }
            _ => {
                let reason =
                    format!("entry `{}` uses an unsupported compression method", printable(path));
                return Err(Error::archive(reason, "Create the archive with `zip`"));
            }
        };
        // Read at most one byte more than the limit: this byte shows that the limit is exceeded.
        let mut content = content.take(self.left + 1);
        let is_executable = header.mode().value() & EXECUTABLE != 0;
        let file = match &mut self.pack_file {
            Some(pack_file) if !is_requirements(path) => {
                let packed = pack_file.add(&mut content, is_executable, &wrong)?;
                // A pack file must not be empty, so empty files are not written to it.
                if packed.bytes == 0 {
                    return Ok(FileContent::new(Vec::new(), is_executable));
                }
                FileContent::Packed(packed)
            }
            pack_file => {
                // Keep the requirements file in memory, not in the pack file, because it is read to
                // determine the function's environment.
                let is_packed = pack_file.is_some();
                let most = if is_packed { REQUIREMENTS_BYTES_MAX } else { u64::MAX };
                let mut bytes = Vec::new();
                content.take(most).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
                if bytes.len() as u64 == most {
                    let reason = format!("`{}` has 1 MiB or more", requirements::FILE);
                    return Err(Error::archive(reason, "Shorten the file"));
                }
                FileContent::new(bytes, is_executable)
            }
        };
        self.left = self.left.checked_sub(file.size()).ok_or_else(too_large)?;
        Ok(file)
    }

    /// Rejects entries that overlap in the archive, as in a ZIP bomb, which expands a few bytes to
    /// many files.
    fn check_ranges(&mut self) -> Result<()> {
        // Remove empty ranges. Sorted between two ranges that overlap, one would hide the overlap.
        self.ranges.retain(|(start, end)| start < end);
        self.ranges.sort_unstable();
        let overlaps = |pair: &[(u64, u64)]| pair[0].1 > pair[1].0;
        if self.ranges.windows(2).any(overlaps) {
            return Err(Error::archive("entries overlap", DAMAGED));
        }
        Ok(())
    }
}

fn damaged(error: &rawzip::Error) -> Error {
    Error::archive(format!("its central directory cannot be read: {error}"), DAMAGED)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use headwater_model::ToProblem;
    use rawzip::ZipArchiveWriter;
    use rawzip::path::EntryPath;

    use super::*;

    /// Returns an archive of files: name, content, Unix mode.
    fn archive(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = ZipArchiveWriter::new(&mut bytes);
        for (name, content, mode) in files {
            let new = writer.new_file(EntryPath::verbatim(name.as_bytes()));
            let new = new.compression_method(CompressionMethod::DEFLATE).unix_permissions(*mode);
            let (mut entry, config) = new.start().expect("an entry");
            let mut file = config.wrap(DeflateEncoder::new(&mut entry, Compression::fast()));
            file.write_all(content).expect("written");
            let (encoder, descriptor) = file.finish().expect("finished");
            encoder.finish().expect("flushed");
            entry.finish(descriptor).expect("an entry");
        }
        writer.finish().expect("an archive");
        bytes
    }

    fn reason(bytes: &[u8]) -> String {
        let error = read_archive(bytes).expect_err("rejected");
        assert!(error.hint().is_some(), "{error}");
        error.to_string()
    }

    #[test]
    fn files_are_read_with_their_permissions() {
        let bytes = archive(&[
            ("app.py", b"def handler(event, context): pass\n", 0o100_644),
            ("lib/", b"", 0o040_755),
            ("lib/tool", b"\x7fELF\xff", 0o100_755),
        ]);
        let files = read_archive(&bytes).expect("an archive");
        assert_eq!(files.keys().collect::<Vec<_>>(), ["app.py", "lib/tool"]);
        assert!(files["lib/tool"].is_executable() && !files["app.py"].is_executable());
    }

    #[test]
    fn hostile_archives_are_rejected() {
        let file = 0o100_644;
        for (entries, expected) in [
            (vec![("../app.py", &b"x"[..], file)], "`..`"),
            (vec![("a/../../b", b"x", file)], "`..`"),
            (vec![("/etc/passwd", b"x", file)], "absolute"),
            (vec![("C:/a", b"x", file)], "drive"),
            (vec![("a\\b", b"x", file)], "backslash"),
            (vec![("a\0b", b"x", file)], "control"),
            (vec![("link", b"/etc/passwd", 0o120_777)], "link"),
            (vec![("pipe", b"", 0o010_644)], "special file"),
            (vec![("a", b"x", file), ("a", b"y", file)], "two entries"),
            (vec![("a", b"x", file), ("a/b", b"y", file)], "both a file and a folder"),
            (vec![("lib/", b"", 0o040_755)], "no files"),
            (vec![], "no files"),
        ] {
            let reason = reason(&archive(&entries));
            assert!(reason.contains(expected), "{expected}: {reason}");
        }
        assert!(reason(b"no archive").contains("not a ZIP archive"));
        assert!(reason(b"").contains("not a ZIP archive"));
    }

    #[test]
    fn a_damaged_archive_is_rejected() {
        let bytes = archive(&[("app.py", b"content of the file\n", 0o100_644)]);
        for length in 0..bytes.len() {
            assert!(read_archive(&bytes[..length]).is_err(), "{length}");
        }
        // The content no longer matches its checksum.
        let mut altered = bytes.clone();
        altered[40] ^= 0x55;
        assert!(read_archive(&altered).is_err());
        let mut encrypted = bytes.clone();
        let directory = encrypted.windows(4).position(|four| four == b"PK\x01\x02");
        encrypted[directory.expect("a directory") + 8] |= 1;
        assert!(reason(&encrypted).contains("encrypted"));
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] = !altered[at];
            // An error is acceptable, but neither a panic nor other content of the file.
            if let Ok(files) = read_archive(&altered) {
                assert!(files.values().all(|file| file.bytes() == b"content of the file\n"));
            }
        }
    }

    #[test]
    fn overlapping_entries_are_rejected() {
        let bytes = archive(&[("a", b"x", 0)]);
        let archive = open(&bytes).expect("an archive");
        for (ranges, is_rejected) in [
            (vec![(0, 10), (10, 20), (20, 30)], false),
            (vec![(0, 10), (5, 5), (10, 20), (10, 10)], false),
            (vec![(0, 10), (9, 20)], true),
            (vec![(20, 30), (0, 40)], true),
            (vec![(0, 10), (5, 5), (6, 8)], true),
        ] {
            let shown = format!("{ranges:?}");
            let mut reader = ArchiveReader { archive: &archive, left: 0, ranges, pack_file: None };
            assert_eq!(reader.check_ranges().is_err(), is_rejected, "{shown}");
        }
    }

    #[test]
    fn a_bomb_is_rejected_before_it_is_decompressed() {
        let zeros = vec![0; 90 << 20];
        let bomb = archive(&[("a", &zeros, 0), ("b", &zeros, 0), ("c", &zeros, 0)]);
        assert!(bomb.len() < 4 << 20);
        assert!(reason(&bomb).contains("too large"));
        let many: Vec<String> = (0..=FILES_MAX).map(|number| number.to_string()).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), &b""[..], 0)).collect();
        assert!(reason(&archive(&many)).contains("too many entries"));
        assert!(reason(&vec![0; ARCHIVE_BYTES_MAX + 1]).contains("bytes"));
    }
}

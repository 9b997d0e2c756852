//! Shebang lines of installed scripts: rewritten to the Python in their own folder, so that an
//! environment can be moved.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::environments::unique_name;
use crate::interpreter::Interpreter;

/// A relocatable script header, which is a command in the shell and a string literal in Python.
const RELOCATABLE: &str = r#"#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")"/'python' "$0" "$@"
' '''
"#;

/// Script header that installers use if an interpreter's path is too long for a shebang line or
/// contains a space: the text before the path, and the text after it.
const INDIRECT: (&[u8], &[u8]) = (b"#!/bin/sh\n'''exec' '", b"' \"$0\" \"$@\"\n' '''\n");

/// Maximum size of a script header, in bytes.
const HEAD_BYTES_MAX: u64 = 8192;

/// Rewrites the scripts of an unpublished environment whose headers name this interpreter.
pub(crate) fn make_relocatable(environment: &Path, interpreter: &Interpreter) -> io::Result<()> {
    for entry in fs::read_dir(environment.join("bin"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            rewrite(&entry.path(), interpreter)?;
        }
    }
    Ok(())
}

fn rewrite(script: &Path, interpreter: &Interpreter) -> io::Result<()> {
    let mut file = File::open(script)?;
    let mut begin = Vec::new();
    (&mut file).take(HEAD_BYTES_MAX).read_to_end(&mut begin)?;
    let Some(length) = head(&begin, &interpreter.path) else { return Ok(()) };
    let mut rewritten = [RELOCATABLE.as_bytes(), &begin[length..]].concat();
    file.read_to_end(&mut rewritten)?;
    // Replace the script instead of changing it in place, because it may be a hard link into uv's
    // cache.
    let aside = script.with_file_name(unique_name(".script-"));
    let mut new = File::options().write(true).create_new(true).mode(0o755).open(&aside)?;
    new.write_all(&rewritten)?;
    fs::rename(aside, script)
}

/// Returns the length of the script's header if the header names the interpreter `python`.
fn head(begin: &[u8], python: &Path) -> Option<usize> {
    let line = begin.get(..=memchr::memchr(b'\n', begin)?)?;
    let (path, length) = if let Some(led) = begin.strip_prefix(INDIRECT.0) {
        let end = memchr::memmem::find(led, INDIRECT.1)?;
        (&led[..end], INDIRECT.0.len() + end + INDIRECT.1.len())
    } else {
        (line.strip_prefix(b"#!")?.trim_ascii_end(), line.len())
    };
    let path = fs::canonicalize(std::str::from_utf8(path).ok()?).ok()?;
    (path == python).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_an_interpreter_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let python = fs::canonicalize(folder.path()).unwrap().join("a python3.11");
        fs::write(&python, "").unwrap();
        let path = python.to_str().unwrap();
        let led = format!("#!/bin/sh\n'''exec' '{path}' \"$0\" \"$@\"\n' '''\n");
        for known in [format!("#!{path}\n"), led] {
            let script = format!("{known}import sys\n");
            assert_eq!(head(script.as_bytes(), &python), Some(known.len()), "{script}");
        }
        for other in
            ["#!/usr/bin/env bash\n", "#!/bin/sh\necho\n", "\x7fELF", "#!", "", RELOCATABLE]
        {
            assert_eq!(head(other.as_bytes(), &python), None, "{other}");
        }
    }
}

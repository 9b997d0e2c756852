//! The scripts that packages bring: each finds the Python beside it, so that an environment can be put
//! together in one folder and used in another.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::build::owned;
use super::python::Interpreter;

/// How a script begins that finds its Python beside it: to a shell a command, to Python a text.
const BESIDE: &str = r#"#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")"/'python' "$0" "$@"
' '''
"#;

/// What surrounds the interpreter's path where that is too long for the kernel, or has a space.
const LED: (&[u8], &[u8]) = (b"#!/bin/sh\n'''exec' '", b"' \"$0\" \"$@\"\n' '''\n");

/// More than a script has before its own lines.
const HEAD_BYTES_MAX: u64 = 8192;

/// Has the scripts that were installed for an interpreter run by the Python beside them, before anybody
/// sees the environment.
pub(super) fn point_beside(environment: &Path, interpreter: &Interpreter) -> io::Result<()> {
    for entry in fs::read_dir(environment.join("bin"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            turn(&entry.path(), interpreter)?;
        }
    }
    Ok(())
}

fn turn(script: &Path, interpreter: &Interpreter) -> io::Result<()> {
    let mut file = File::open(script)?;
    let mut begin = Vec::new();
    (&mut file).take(HEAD_BYTES_MAX).read_to_end(&mut begin)?;
    let Some(length) = head(&begin, &interpreter.path) else { return Ok(()) };
    let mut turned = [BESIDE.as_bytes(), &begin[length..]].concat();
    file.read_to_end(&mut turned)?;
    // Never in place: the script may be a link into uv's store.
    let aside = script.with_file_name(owned(".script-"));
    let mut new = File::options().write(true).create_new(true).mode(0o755).open(&aside)?;
    new.write_all(&turned)?;
    fs::rename(aside, script)
}

/// The bytes of the lines by which a script is one of this interpreter; none where it is not.
fn head(begin: &[u8], python: &Path) -> Option<usize> {
    let line = begin.get(..=memchr::memchr(b'\n', begin)?)?;
    let (path, length) = if let Some(led) = begin.strip_prefix(LED.0) {
        let end = memchr::memmem::find(led, LED.1)?;
        (&led[..end], LED.0.len() + end + LED.1.len())
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
        for other in ["#!/usr/bin/env bash\n", "#!/bin/sh\necho\n", "\x7fELF", "#!", "", BESIDE] {
            assert_eq!(head(other.as_bytes(), &python), None, "{other}");
        }
    }
}

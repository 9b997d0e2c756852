//! Example projects with their data, for `headwater init --example` and `headwater demo`.

use std::path::{Path, PathBuf};

use include_dir::{Dir, DirEntry, include_dir};

use crate::error::{self, Result};

/// Departures from New York in 2013.
static FLIGHTS: Dir = include_dir!("$CARGO_MANIFEST_DIR/../../examples/flights");

/// The name of the demo's example.
pub const FLIGHTS_NAME: &str = "flights";

/// Writes the example's missing files into a folder. Returns the new paths, files before folders.
pub fn write_flights(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    write(&FLIGHTS, folder, &mut written)
        .map_err(error::from_io(&format!("write the example to `{}`", folder.display())))?;
    Ok(written)
}

fn write(source: &Dir, folder: &Path, written: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in source.entries() {
        let path = folder.join(entry.path());
        match entry {
            DirEntry::Dir(inner) => {
                let is_new = !path.exists();
                std::fs::create_dir_all(&path)?;
                write(inner, folder, written)?;
                written.extend(is_new.then_some(path));
            }
            DirEntry::File(file) if !path.exists() => {
                std::fs::write(&path, file.contents())?;
                written.push(path);
            }
            DirEntry::File(_) => {}
        }
    }
    Ok(())
}

//! The small libraries of C that zygotes have preloaded: where they lie, so that a sandbox can show them.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Has clones share what they have not changed, also after they have written to it, and forks them.
const ZYGOTE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/zygote.so"));

/// A library in a folder of the server's.
#[derive(Debug, Clone)]
pub(crate) struct Preload {
    file: PathBuf,
    shown: String,
}

impl Preload {
    /// Writes a library where it is not there yet.
    pub(crate) fn install(folder: &Path, name: &str, library: &[u8]) -> Result<Preload> {
        let digest = hex::encode(Sha256::digest(library));
        let file = folder.join(format!("{name}-{}.so", &digest[..16]));
        if !std::fs::read(&file).is_ok_and(|found| found == library) {
            let failed = || Error::io(format!("write the library `{name}`"));
            std::fs::create_dir_all(folder).map_err(failed())?;
            let aside = folder.join(format!("{name}-{}", uuid::Uuid::new_v4().simple()));
            std::fs::write(&aside, library).map_err(failed())?;
            std::fs::rename(&aside, &file).map_err(failed())?;
        }
        Ok(Preload { file, shown: format!("/headwater-{name}.so") })
    }

    /// What forks clones and keeps their memory small; every zygote has it.
    pub(crate) fn zygote(folder: &Path) -> Result<Preload> {
        Self::install(folder, "zygote", ZYGOTE)
    }

    /// What a sandbox shows, and where.
    pub(crate) fn shown(&self) -> (PathBuf, PathBuf) {
        (self.file.clone(), PathBuf::from(&self.shown))
    }
}

/// The variable that has a process load these first.
pub(crate) fn variable(libraries: &[Preload]) -> (String, String) {
    let shown: Vec<&str> = libraries.iter().map(|library| &*library.shown).collect();
    ("LD_PRELOAD".to_owned(), shown.join(":"))
}

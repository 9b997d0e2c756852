//! The C library that zygotes preload. Because of it, a clone still shares with its zygote all
//! memory pages that the clone has not changed.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/zygote.so"));

/// Path of the library inside a sandbox.
const SHOWN: &str = "/headwater-zygote.so";

/// The path of the library's file, in a folder of the server.
#[derive(Debug, Clone)]
pub(crate) struct PreloadLibrary(PathBuf);

impl PreloadLibrary {
    /// Writes the library to a folder, unless the same file already exists there.
    pub(crate) fn install(folder: &Path) -> Result<PreloadLibrary> {
        let digest = hex::encode(Sha256::digest(LIBRARY));
        let file = folder.join(format!("zygote-{}.so", &digest[..16]));
        if !std::fs::read(&file).is_ok_and(|found| found == LIBRARY) {
            let failed = || Error::io("write the preload library");
            std::fs::create_dir_all(folder).map_err(failed())?;
            let aside = folder.join(format!("zygote-{}", uuid::Uuid::new_v4().simple()));
            std::fs::write(&aside, LIBRARY).map_err(failed())?;
            std::fs::rename(&aside, &file).map_err(failed())?;
        }
        Ok(PreloadLibrary(file))
    }

    /// Returns the path of the file on the host, and its path inside a sandbox.
    pub(crate) fn mount_paths(&self) -> (PathBuf, PathBuf) {
        (self.0.clone(), PathBuf::from(SHOWN))
    }

    /// Returns the environment variable that makes a process preload the library.
    pub(crate) fn variable() -> (String, String) {
        ("LD_PRELOAD".to_owned(), SHOWN.to_owned())
    }
}

//! A decoded manifest in the cache, with the data files of scan plans.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::DataFile;
use crate::manifest::Decoded;

/// A decoded manifest and its data files.
#[derive(Debug)]
pub struct CachedManifest {
    decoded: Decoded,
    /// The data files in the form that scan plans use. They are computed on first use.
    pub(crate) files: OnceLock<Vec<Arc<DataFile>>>,
}

impl CachedManifest {
    pub(crate) fn new(decoded: Decoded) -> Self {
        CachedManifest { decoded, files: OnceLock::new() }
    }
}

impl Deref for CachedManifest {
    type Target = Decoded;

    fn deref(&self) -> &Decoded {
        &self.decoded
    }
}

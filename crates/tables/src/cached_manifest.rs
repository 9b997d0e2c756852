//! A decoded manifest in the cache, with the data files of scan plans.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::DataFile;
use crate::manifest::DecodedManifest;

/// A decoded manifest and its data files.
#[derive(Debug)]
pub struct CachedManifest {
    decoded: DecodedManifest,
    /// The data files in the form that scan plans use. They are computed on first use.
    pub(crate) files: OnceLock<Vec<Arc<DataFile>>>,
}

impl CachedManifest {
    pub(crate) fn new(decoded: DecodedManifest) -> Self {
        CachedManifest { decoded, files: OnceLock::new() }
    }
}

impl Deref for CachedManifest {
    type Target = DecodedManifest;

    fn deref(&self) -> &DecodedManifest {
        &self.decoded
    }
}

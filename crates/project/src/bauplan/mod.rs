//! Projects written for Bauplan: their project file, the files that may define models, and settings
//! that SQL and Python models share.

mod manifest;
pub(super) mod materialization;
mod model_files;
pub(super) mod sql_settings;

pub(super) use manifest::parse as parse_manifest;
pub(super) use model_files::ModelFiles;

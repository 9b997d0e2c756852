//! Projects written for Bauplan: their project file, and the files that may define models.

mod manifest;
mod model_files;

pub(super) use manifest::parse as parse_manifest;
pub(super) use model_files::ModelFiles;

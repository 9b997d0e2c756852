//! `headwater tag`.

use clap::Subcommand;

use super::{CreateRef, RenameRef, TagRm};

/// `headwater tag`
#[derive(Debug, Subcommand)]
pub enum Tag {
    /// List the tags
    #[command(after_help = "Example:\n  headwater tag ls")]
    Ls,
    /// Create a tag, which names a commit
    #[command(after_help = "Example:\n  headwater tag create v1.0 --from main")]
    Create(CreateRef),
    /// Delete a tag
    #[command(aliases = ["delete", "drop"], after_help = "Example:\n  headwater tag rm v1.0")]
    Rm(TagRm),
    /// Rename a tag
    #[command(after_help = "Example:\n  headwater tag rename v1.0 first")]
    Rename(RenameRef),
}

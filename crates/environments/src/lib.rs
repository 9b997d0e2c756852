//! Python environments: one content-addressed folder per Python version and set of packages.
//!
//! [`Environments`] returns the existing folder of an [`EnvironmentSpec`], or lets `uv` resolve the
//! packages and install them into a new folder. Each build has its own folder, which never changes.
//! A symbolic link, named by a hash over the Python version and the requirements, points to the
//! current build. So an existing environment needs neither network nor `uv`. The resolved versions
//! are stored in the folder as `requirements.txt`.

mod build;
mod bytecode;
mod environment;
mod environments;
mod error;
mod folder_lock;
mod interpreter;
mod listing;
mod package_cache;
mod package_changes;
mod path_ownership;
mod rebuild;
mod removal;
mod requirement;
mod shebang_rewrite;
mod subprocess;
mod system_programs;
mod uv;
mod version_specifier;

pub use environment::{Environment, EnvironmentEvent, EnvironmentSpec};
pub use environments::{Environments, EnvironmentsOptions};
pub use error::{Error, Result};
pub use package_changes::package_changes;
pub use path_ownership::make_folder;
pub use removal::RemovalResult;

//! Environments: one folder per set of (Python version, packages), shared by every function that
//! wants the same set.
//!
//! [`Environments`] answers a request with the folder that is there, or has `uv` resolve, link and
//! put one together beside it. Each making of an environment has a folder of its own, which never
//! changes; a link whose name is a hash over the Python version and the requirements leads to the one
//! that counts, so that the same request needs neither network nor `uv`. What `uv` chose is kept in
//! the folder as `requirements.txt`.

mod build;
mod bytecode;
mod hold;
mod python;
mod requirement;
mod scripts;
mod store;
mod system;
mod tool;
mod upkeep;
mod uv;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{Error, Result};

pub(crate) use build::Environments;
pub(crate) use hold::Hold;
pub(crate) use python::prefix_of;
pub(crate) use upkeep::Removed;

/// What a function asks to have installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentSpec {
    /// The Python version, such as `3.11`; none for the first one found from 3.10 on.
    pub python: Option<String>,
    /// Version by package. A version may be partial (`1.37`), a specifier (`>=2,<3`) or empty.
    pub packages: BTreeMap<String, String>,
    /// Programs of the machine that the function calls, such as `chromium`. They are looked for, and
    /// no part of the environment.
    pub system: Vec<String>,
}

/// What happens while an environment is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvironmentEvent {
    /// The machine has no `uv`: it is fetched from PyPI, once.
    FetchingUv,
    /// Versions are being chosen.
    Resolving {
        /// The requirements, as they were asked for.
        requirements: Vec<String>,
    },
    /// Packages are being put in place.
    Installing {
        /// How many.
        packages: usize,
    },
    /// The environment is ready.
    Ready {
        /// What it took, in milliseconds.
        took_ms: u64,
    },
}

impl std::fmt::Display for EnvironmentEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EnvironmentEvent::FetchingUv => {
                f.write_str("this machine has no uv: fetching it from PyPI, once")
            }
            EnvironmentEvent::Resolving { requirements } if requirements.is_empty() => {
                f.write_str("preparing its Python, without packages of its own")
            }
            EnvironmentEvent::Resolving { requirements } => {
                write!(f, "resolving {}", requirements.join(", "))
            }
            EnvironmentEvent::Installing { packages: 1 } => f.write_str("installing 1 package"),
            EnvironmentEvent::Installing { packages } => {
                write!(f, "installing {packages} packages")
            }
            EnvironmentEvent::Ready { took_ms } => write!(f, "environment ready in {took_ms} ms"),
        }
    }
}

/// A Python with packages, ready to run functions.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Names its content: a hash over the Python version and the requirements.
    pub id: String,
    /// Names this making of it: what was chosen anew has the same `id` and another `build`.
    pub build: String,
    /// Its interpreter, in a folder that this making alone has.
    pub python: PathBuf,
    /// Version by package, of everything installed.
    pub packages: BTreeMap<String, String>,
    /// The packages that were asked for by name.
    pub requested: Vec<String>,
    /// What making it took, in milliseconds; 0 where it was there.
    pub created_ms: u64,
    /// Whether it was there already.
    pub warm: bool,
    /// Keeps its folder; shared by every copy, so that it is known whether there is one.
    pub(crate) hold: Arc<Hold>,
}

impl Environment {
    /// Whether another is of the same making.
    pub(crate) fn is_as(&self, other: &Environment) -> bool {
        self.id == other.id && self.build == other.build
    }

    /// The same, held by somebody who counts for nobody that uses it.
    pub(crate) fn held_apart(&self) -> Result<Environment> {
        let gone = || Error::io("find the environment")(std::io::ErrorKind::NotFound.into());
        let hold = Arc::new(Hold::take(&self.folder()).ok_or_else(gone)?);
        Ok(Environment { hold, ..self.clone() })
    }

    /// The folder that holds it.
    pub(crate) fn folder(&self) -> PathBuf {
        self.python.ancestors().nth(2).map(PathBuf::from).unwrap_or_default()
    }
}

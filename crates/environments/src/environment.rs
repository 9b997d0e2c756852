//! An environment and its specification.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::folder_lock::SharedLock;
use crate::interpreter::prefix_of;
use crate::{Error, Result};

/// Specification of an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentSpec {
    /// The Python version, such as `3.11`; `None` selects the first version found from 3.10 on.
    pub python: Option<String>,
    /// Version by package. A version may be partial (`1.37`), a specifier (`>=2,<3`) or empty.
    pub packages: BTreeMap<String, String>,
    /// Programs of the host that the function calls, such as `chromium`. The presence of these
    /// programs is checked, but they are not installed.
    pub system: Vec<String>,
    /// Exact versions of all packages to install, by package, from an earlier build. If empty, the
    /// versions are resolved.
    pub pins: BTreeMap<String, String>,
}

/// Progress of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvironmentEvent {
    /// The host has no `uv`, so `uv` is fetched from PyPI once.
    FetchingUv,
    /// Versions are being resolved.
    Resolving {
        /// The requirements, as requested.
        requirements: Vec<String>,
    },
    /// Packages are being installed.
    Installing {
        /// The number of packages.
        packages: usize,
    },
    /// The environment is ready.
    Ready {
        /// Duration of the build in milliseconds.
        took_ms: u64,
    },
}

impl std::fmt::Display for EnvironmentEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EnvironmentEvent::FetchingUv => {
                f.write_str("uv is not installed: downloading uv from PyPI, once")
            }
            EnvironmentEvent::Resolving { requirements } if requirements.is_empty() => {
                f.write_str("creating a Python environment without packages")
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

/// One build of an environment: a Python with packages.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Hash of the Python version and the requirements.
    pub id: String,
    /// Name of the build. A rebuild has the same `id` and another `build`.
    pub build: String,
    /// The interpreter, in the folder of the build.
    pub python: PathBuf,
    /// The Python version, such as `3.11`.
    pub version: String,
    /// Versions of all installed packages, by package.
    pub packages: BTreeMap<String, String>,
    /// The requested packages.
    pub requested: Vec<String>,
    /// Duration of the build in milliseconds; 0 if the build already existed.
    pub created_ms: u64,
    /// True if the build already existed.
    pub warm: bool,
    /// A lock that prevents the removal of the folder. All copies of this value share the lock, so
    /// its reference count shows whether copies exist.
    pub(crate) lock: Arc<SharedLock>,
}

impl Environment {
    /// Returns true if both are the same build.
    pub fn is_same_build(&self, other: &Environment) -> bool {
        self.id == other.id && self.build == other.build
    }

    /// Returns a copy that has its own lock on the folder, so that this environment can count as
    /// unused while the copy exists.
    pub fn with_separate_lock(&self) -> Result<Environment> {
        let gone = || Error::io("find the environment")(std::io::ErrorKind::NotFound.into());
        let lock = Arc::new(SharedLock::acquire(&self.folder()).ok_or_else(gone)?);
        Ok(Environment { lock, ..self.clone() })
    }

    /// Returns the mounts that a sandbox needs: the folder of the build, which is visible at
    /// `target`, and the interpreter. Each mount is a path on the host and a path in the sandbox.
    pub fn mounts(&self, target: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
        let interpreter = std::fs::canonicalize(&self.python)
            .map_err(Error::io(format!("find the interpreter of `{}`", self.id)))?;
        let mut mounts = vec![(self.folder(), target.to_owned())];
        // Mount only the parts of the prefix that Python needs, because the prefix may be in a home
        // folder.
        let prefix = prefix_of(&interpreter).unwrap_or(Path::new("/usr"));
        if !prefix.starts_with("/usr") {
            let parts = ["bin", "lib", "lib64"].map(|part| prefix.join(part));
            mounts.extend(parts.into_iter().filter(|part| part.exists()).map(|p| (p.clone(), p)));
        }
        Ok(mounts)
    }

    fn folder(&self) -> PathBuf {
        self.python.ancestors().nth(2).map(PathBuf::from).unwrap_or_default()
    }
}

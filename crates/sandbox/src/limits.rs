//! Limits and permissions of a function's process.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::NetworkAccess;

/// The limits and permissions of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memory limit in bytes. The content of `/tmp` and the output count as memory; the inputs do
    /// not.
    pub memory_bytes: u64,
    /// Time limit of a call.
    pub timeout: Duration,
    /// Network access.
    pub network: NetworkAccess,
    /// Size of the instance's private `/tmp`, in bytes.
    pub temp_bytes: u64,
    /// CPU limit in thousandths of a processor; `None` for no limit.
    pub cpu_millis: Option<u32>,
    /// Environment variables of the function.
    pub variables: EnvironmentVariables,
    /// The place where a user can change these limits.
    pub settings: LimitSource,
}

/// A place where a user can change the limits of a function. Hints of errors name it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitSource {
    /// The decorator of a Python function.
    #[default]
    Decorator,
    /// `[functions.NAME]` in the project file.
    ProjectFile,
    /// The API request that deployed a function without a project.
    Deployment,
    /// The CREATE FUNCTION statement.
    SqlFunction,
}

impl LimitSource {
    /// Returns the hint to raise a limit. `limit` is `memory`, `timeout` or `tmp`.
    pub fn raise_hint(self, limit: &str) -> String {
        match self {
            LimitSource::Decorator => format!(
                "Raise `{limit}` in the function's decorator or in `[defaults]` of headwater.toml."
            ),
            LimitSource::ProjectFile => {
                format!("Raise `{limit}` of the function or of `[defaults]` in headwater.toml.")
            }
            LimitSource::SqlFunction => {
                format!("Raise {} with CREATE OR REPLACE FUNCTION.", limit.to_uppercase())
            }
            LimitSource::Deployment => format!(
                "Deploy the function again with a higher `--{limit}`: see `headwater function \
                 deploy --help`."
            ),
        }
    }

    /// Returns the hint to add a host to the function's allowed hosts.
    pub(crate) fn allow_hint(self, host: &str) -> String {
        let add = match self {
            LimitSource::Decorator => {
                format!("Add `\"{host}\"` to `network=[...]` in the function's decorator")
            }
            LimitSource::ProjectFile | LimitSource::SqlFunction => {
                format!("Add `\"{host}\"` to `network = [...]` of the function in headwater.toml")
            }
            LimitSource::Deployment => {
                format!("Deploy the function again, also with `--network {host}`")
            }
        };
        format!("{add}: the function can connect only to listed hosts.")
    }
}

/// Environment variables by name. Values may be secrets, and are never logged.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EnvironmentVariables(BTreeMap<String, String>);

impl EnvironmentVariables {
    /// Returns the names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Sets a variable.
    pub fn set(&mut self, name: String, value: String) {
        self.0.insert(name, value);
    }

    /// Returns names and values, for the process of the function.
    pub fn values(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl From<BTreeMap<String, String>> for EnvironmentVariables {
    fn from(values: BTreeMap<String, String>) -> Self {
        EnvironmentVariables(values)
    }
}

impl std::fmt::Debug for EnvironmentVariables {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.names()).finish()
    }
}

impl Limits {
    /// Returns true if a sandbox that was created with the limits `others` can also be used with
    /// these limits. The limits of memory, `/tmp` and CPU time must be equal in both, and either
    /// both or none must have network access. The other fields apply to a call, not to the sandbox.
    pub fn is_compatible_with(&self, others: &Limits) -> bool {
        let of = |limits: &Limits| {
            let network = limits.network.denies_all();
            (limits.memory_bytes, network, limits.temp_bytes, limits.cpu_millis)
        };
        of(self) == of(others)
    }
}

impl Default for Limits {
    /// Returns 4 GiB of memory, a time limit of one hour, no network, 1 GiB of `/tmp`, and no CPU
    /// limit.
    fn default() -> Self {
        Limits {
            memory_bytes: 4 << 30,
            timeout: Duration::from_secs(3600),
            network: NetworkAccess::Off,
            temp_bytes: 1 << 30,
            cpu_millis: None,
            variables: EnvironmentVariables::default(),
            settings: LimitSource::default(),
        }
    }
}

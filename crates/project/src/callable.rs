//! Functions of a project that are called by name, outside of runs.

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_model::{DailyBudget, FunctionArgument, FunctionSummary, Priority};
use headwater_sandbox::{LimitSource, Limits};
use serde_json::Value;

use super::Defaults;
use super::manifest::LocatedTrigger;
use crate::{Error, Location, PythonFunction, Result, unknown_name_hints};

/// A callable function.
#[derive(Debug, Clone)]
pub struct Callable {
    /// Function name.
    pub name: String,
    /// Location of the definition.
    pub at: Location,
    /// Arguments in order.
    pub arguments: Vec<FunctionArgument>,
    /// Memory limit in bytes; `None` uses the project's default.
    pub memory_bytes: Option<u64>,
    /// Time limit; `None` uses the project's default.
    pub timeout: Option<Duration>,
    /// The place where a user can change the function's limits.
    pub settings: LimitSource,
    /// Code, packages and network access.
    pub function: PythonFunction,
    /// Destinations of asynchronous calls.
    pub destinations: CallDestinations,
    /// The reserved and the provisioned concurrency.
    pub concurrency: CallConcurrency,
    /// Addresses to which results are written, such as `table://shop.orders`.
    pub outputs: Vec<String>,
    /// The daily budget for calls of the function after its deployment.
    pub budget: DailyBudget,
    /// The known paths of the files and folders with the function's code. Some may not exist.
    pub files: Vec<String>,
    /// Paths of the files that may contain the handler of a function with a runtime.
    pub handler_files: Vec<String>,
    /// Triggers that the function declares.
    pub(super) triggers: Vec<LocatedTrigger>,
}

/// The concurrency of a function's calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallConcurrency {
    /// Maximum number of concurrent calls (reserved concurrency); `None` without a limit.
    pub reserved: Option<u32>,
    /// Number of instances that are started before calls and kept (provisioned concurrency).
    pub provisioned: u32,
}

impl CallConcurrency {
    /// Maximum value of the reserved concurrency, and of the provisioned concurrency.
    pub(super) const MAX: u32 = 10_000;

    /// Checks the numbers.
    ///
    /// Errors: `invalid_project` if a number is too large, or if the provisioned concurrency is
    /// greater than the reserved concurrency.
    pub(super) fn check(self, at: &Location) -> Result<Self> {
        let numbers = [
            ("reserved_concurrency", self.reserved.unwrap_or_default()),
            ("provisioned_concurrency", self.provisioned),
        ];
        if let Some((key, number)) = numbers.into_iter().find(|(_, number)| *number > Self::MAX) {
            let message = format!("`{key}` is {number} (limit {})", Self::MAX);
            return Err(Error::invalid(at.clone(), message, "Write a number from 0 to 10,000."));
        }
        if self.reserved.is_some_and(|reserved| self.provisioned > reserved) {
            let message = "`provisioned_concurrency` is greater than `reserved_concurrency`";
            let hint = "Lower `provisioned_concurrency`, or raise `reserved_concurrency`.";
            return Err(Error::invalid(at.clone(), message, hint));
        }
        Ok(self)
    }
}

/// The destinations of asynchronous calls: each is the name of a function, or an address such as
/// `queue://orders`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallDestinations {
    /// Receives a record of each successful call.
    pub on_success: Option<String>,
    /// Receives a record of each call that failed after its last retry.
    pub on_failure: Option<String>,
}

/// Returns true if a number is valid as the daily cost limit of a function.
pub(super) fn is_money(number: f64) -> bool {
    number.is_finite() && number >= 0.0
}

/// Rejects names that cannot be part of a path or a URL.
pub(super) fn check_name(name: &str, at: &Location) -> Result<()> {
    let is_usable = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !name.is_empty() && name.len() <= 200 && name.chars().all(is_usable) {
        return Ok(());
    }
    let message = format!("`{name}` is not a valid function name");
    Err(Error::invalid(at.clone(), message, "Use letters, digits, `_`, `-` and `.`."))
}

impl Callable {
    /// Returns the reason why instances of the function cannot be started before its calls; `None`
    /// if they can.
    pub fn provisioning_obstacle(&self) -> Option<&'static str> {
        let function = &self.function;
        if !function.secrets.is_empty() {
            // An instance cannot be started before a call, because only the job of a call reads the
            // secrets and records their use.
            Some("the function has secrets, which are read at each call")
        } else if !function.network.denies_all() {
            Some("the function has network access, so each call needs a new instance")
        } else if !function.reuse {
            Some("the function does not have `reuse=True`")
        } else {
            None
        }
    }

    /// Returns the resource limits of an instance.
    pub fn limits(&self, defaults: &Defaults) -> Limits {
        let limits = self.function.limits(defaults, self.memory_bytes, self.timeout);
        Limits { settings: self.settings, ..limits }
    }

    /// Checks that the daily budget of billed time permits a call. A call reserves its whole
    /// timeout.
    ///
    /// Errors: `invalid_project`.
    pub(super) fn check_budget(&self, defaults: &Defaults) -> Result<()> {
        let limit = self.budget.billed_ms_per_day.map(Duration::from_millis);
        let timeout = self.limits(defaults).timeout;
        let Some(limit) = limit.filter(|limit| *limit < timeout) else { return Ok(()) };
        let message = format!(
            "`time_per_day` of `{}` is {limit:?}, less than its timeout of {timeout:?}, so that no \
             call could start",
            self.name
        );
        let hint = "Raise `time_per_day`, or lower `timeout`.";
        Err(Error::invalid(self.at.clone(), message, hint))
    }

    /// Returns the priority of the function's calls in the queue.
    pub fn priority(&self, defaults: &Defaults) -> Priority {
        self.function.priority(defaults)
    }

    /// Returns the description for the API, without the usage of the budget and the state of
    /// provisioned instances.
    pub fn summary(&self, defaults: &Defaults) -> FunctionSummary {
        let limits = self.limits(defaults);
        FunctionSummary {
            name: self.name.clone(),
            defined_at: self.at.to_string(),
            arguments: self.arguments.clone(),
            reuse: self.function.reuse,
            memory_bytes: limits.memory_bytes,
            timeout_ms: u64::try_from(limits.timeout.as_millis()).unwrap_or(u64::MAX),
            priority: self.priority(defaults),
            secrets: self.function.secrets.clone(),
            budget: None,
            provisioned: None,
        }
    }

    /// Returns a text that changes with each setting of the function, but not with the position of
    /// its definition. The text contains the values of environment variables.
    pub fn settings_text(&self, defaults: &Defaults) -> String {
        let settings = Callable {
            at: Location { line: 0, ..self.at.clone() },
            function: PythonFunction { python_at: None, ..self.function.clone() },
            triggers: Vec::new(),
            ..self.clone()
        };
        let (limits, priority) = (self.limits(defaults), self.priority(defaults));
        format!("{settings:?} {limits:?} {priority:?} {:?}", self.function.variables.values())
    }

    /// Checks the argument names of a call: unknown, duplicate and missing names are errors.
    /// `table` is the argument that receives the table.
    pub fn check(&self, given: &BTreeMap<String, Value>, table: Option<&str>) -> Result<()> {
        let names = || self.arguments.iter().map(|argument| argument.name.as_str());
        let strange = given
            .keys()
            .map(String::as_str)
            .chain(table)
            .find(|one| names().all(|known| known != *one));
        if let Some(strange) = strange {
            let message = format!("`{}` has no argument `{strange}`", self.name);
            return Err(Error::call(
                message,
                unknown_name_hints::hint(strange, names(), "arguments"),
            ));
        }
        if let Some(twice) = table.filter(|table| given.contains_key(*table)) {
            let message = format!("the call of `{}` has the argument `{twice}` twice", self.name);
            return Err(Error::call(
                message,
                "Pass the argument either as a table or as a value.".to_owned(),
            ));
        }
        let is_given = |name: &str| given.contains_key(name) || table == Some(name);
        let missing =
            self.arguments.iter().find(|argument| argument.required && !is_given(&argument.name));
        if let Some(missing) = missing {
            let message = format!("`{}` needs the argument `{}`", self.name, missing.name);
            return Err(Error::call(
                message,
                format!("Pass the argument as `{}=...`.", missing.name),
            ));
        }
        Ok(())
    }

    /// Returns the argument that receives the event of a trigger. Fails unless the function has
    /// exactly one argument.
    pub fn event_argument(&self) -> Result<&str> {
        match self.arguments.as_slice() {
            [only] => Ok(&only.name),
            arguments => {
                let message = format!(
                    "function `{}` must take exactly one argument, the event, but takes {} ({})",
                    self.name,
                    arguments.len(),
                    self.at
                );
                Err(Error::call(
                    message,
                    format!("Declare the function as `def {}(event):`.", self.name),
                ))
            }
        }
    }

    /// Returns the argument that receives a table if the call does not name an argument: the only
    /// required argument, or else the only argument.
    pub fn table_argument(&self) -> Result<&str> {
        let mut required = self.arguments.iter().filter(|argument| argument.required);
        match (required.next(), required.next(), &self.arguments[..]) {
            (Some(only), None, _) | (None, None, [only]) => Ok(&only.name),
            _ => {
                let message = format!(
                    "`{}` has several arguments, and the request does not say which one is the \
                     table",
                    self.name
                );
                let hint = "Name the argument that is the table: `?table=NAME`.";
                Err(Error::call(message, hint.to_owned()))
            }
        }
    }
}

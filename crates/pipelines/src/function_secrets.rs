//! The secrets of one call: they are environment variables of the function's process, and are
//! removed from the function's output.

use std::collections::BTreeMap;

use headwater_functions::{FunctionEvent, FunctionResult, InvocationOutcome, Limits};
use headwater_secrets::{Redactor, SecretStore};
use zeroize::Zeroizing;

use crate::{Error, PythonFunction, Result};

/// The values of a function's secrets, for one call.
#[derive(Clone, Default)]
pub(crate) struct FunctionSecrets {
    values: BTreeMap<String, Zeroizing<String>>,
    redactor: Redactor,
}

impl FunctionSecrets {
    /// Decrypts the secrets of a function.
    ///
    /// Errors: `secret_not_found`, and errors of the encryption key.
    pub(crate) async fn read(store: &SecretStore, function: &PythonFunction) -> Result<Self> {
        if function.secrets.is_empty() {
            return Ok(FunctionSecrets::default());
        }
        let values = store.values(&function.secrets).await;
        let values = values.map_err(|error| Error::other(&error))?;
        let redactor = Redactor::new(values.values().map(|value| value.as_str()));
        Ok(FunctionSecrets { values, redactor })
    }

    /// Returns the value of a secret; `None` if the function does not use it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.as_str())
    }

    /// Returns the limits with the secrets added as environment variables, so that an instance is
    /// reused only for calls with the same secrets.
    pub(crate) fn add_to(&self, mut limits: Limits) -> Limits {
        for (name, value) in &self.values {
            limits.variables.set(name.clone(), value.to_string());
        }
        limits
    }

    /// Removes the secrets' values from a line that the function printed.
    pub(crate) fn redact_line(&self, event: FunctionEvent) -> FunctionEvent {
        let FunctionEvent::Line { stream, file, line, text } = event;
        let text = self.redactor.redact(&text).into_owned();
        FunctionEvent::Line { stream, file, line, text }
    }

    /// Returns true if the function has secrets, whose values must be removed from its output.
    pub(crate) fn redacts(&self) -> bool {
        !self.redactor.is_empty()
    }

    /// Removes the secrets' values from an error or a JSON result. Tables are not changed.
    pub(crate) fn redact_outcome(&self, mut outcome: InvocationOutcome) -> InvocationOutcome {
        if self.redactor.is_empty() {
            return outcome;
        }
        outcome.returned = match outcome.returned {
            Ok(FunctionResult::Json(json)) => Ok(FunctionResult::Json(self.redact_json(json))),
            Err(error) => Err(error.map_text(|text| self.redactor.redact(text).into_owned())),
            other => other,
        };
        outcome
    }

    fn redact_json(&self, json: bytes::Bytes) -> bytes::Bytes {
        match std::str::from_utf8(&json).map(|text| self.redactor.redact(text)) {
            Ok(std::borrow::Cow::Owned(redacted)) => redacted.into_bytes().into(),
            _ => json,
        }
    }
}

//! Errors at the start of the service. The error of a request is a [`headwater_model::Problem`].

use std::path::PathBuf;

use headwater_model::{ErrorCode, Problem, ToProblem};

/// A result with the error type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error at the start of the service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of the lake cannot be used.
    #[error("cannot read or write `{}`", path.display())]
    Folder {
        /// Path of the file or folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A component failed to start.
    #[error("{0}")]
    Component(Box<Problem>),
}

impl Error {
    /// Wraps the error of a component.
    pub(crate) fn component(error: &impl ToProblem) -> Self {
        Error::Component(Box::new(error.to_problem()))
    }
}

impl ToProblem for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::Folder { .. } => ErrorCode::Storage,
            Error::Component(problem) => problem.code,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Component(problem) => problem.hint.clone(),
            Error::Folder { .. } => None,
        }
    }

    fn to_problem(&self) -> Problem {
        if let Error::Component(problem) = self {
            return (**problem).clone();
        }
        let mut problem = Problem::new(self.code(), self.to_string());
        if let Some(cause) = std::error::Error::source(self) {
            problem.causes.push(cause.to_string());
        }
        problem
    }
}

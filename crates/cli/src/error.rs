//! Errors of the command line. Each error is a [`Problem`], like the errors of the server.

use headwater_model::{ErrorCode, Problem, ToProblem};

/// The result of a command.
pub type Result<T> = std::result::Result<T, Problem>;

/// Returns the error for an invalid argument.
pub fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::InvalidArgument, message)
}

/// Converts the error of any crate.
pub fn from_error(fault: impl ToProblem) -> Problem {
    fault.to_problem()
}

/// Converts an I/O error; `action` is the failed action for the message, such as "open a file".
pub fn from_io(action: &str) -> impl FnOnce(std::io::Error) -> Problem {
    let action = action.to_owned();
    move |error| {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorCode::FileNotFound,
            std::io::ErrorKind::StorageFull => ErrorCode::DiskFull,
            _ => ErrorCode::Storage,
        };
        let mut problem = Problem::new(code, format!("cannot {action}"));
        problem.causes.push(error.to_string());
        problem
    }
}

/// Returns the internal error for an unreadable response.
pub fn unexpected(detail: impl std::fmt::Display) -> Problem {
    let mut problem = Problem::new(ErrorCode::Internal, "the server's response is unreadable");
    problem.causes.push(detail.to_string());
    problem.with_hint("Run `headwater stop` and try again: the server may have another version.")
}

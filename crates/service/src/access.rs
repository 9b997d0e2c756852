//! The one place that decides what a principal may do.

use headwater_model::{ErrorCode, Identity, Principal, Problem};

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read tables, refs, jobs or settings.
    Read,
    /// Run a SQL statement, which may write.
    Execute,
    /// Change a branch, its tables or its properties.
    Write,
    /// Merge into a branch, cherry-pick or revert there.
    Merge,
    /// Call a function.
    Invoke,
    /// Run a project.
    Run,
    /// Deploy a version of a project, or replay an event of its triggers.
    Deploy,
    /// Maintain tables, stop jobs, remove environments.
    Maintain,
    /// Shut the server down.
    Administer,
}

/// Checks that a principal may perform an action: the owner may perform all, others none.
///
/// Errors: `unauthenticated`.
pub fn authorize(principal: &Principal, action: Action) -> Result<(), Problem> {
    match principal.identity() {
        Identity::Owner => Ok(()),
        Identity::User(user) => {
            let message = format!("user `{}` may not do this", user.name);
            Err(Problem::new(ErrorCode::Forbidden, message))
        }
        Identity::Anonymous => {
            let message = format!("the request has no token, which `{action:?}` needs");
            Err(Problem::new(ErrorCode::Unauthenticated, message.to_lowercase()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_is_authorized() {
        let actions = [
            Action::Read,
            Action::Execute,
            Action::Write,
            Action::Merge,
            Action::Invoke,
            Action::Run,
            Action::Deploy,
            Action::Maintain,
            Action::Administer,
        ];
        for action in actions {
            assert!(authorize(&Principal::owner(), action).is_ok());
            let anonymous = Principal::anonymous().with_author(Some("owner".to_owned()));
            let refused = authorize(&anonymous, action).expect_err("no token");
            assert_eq!(refused.code, ErrorCode::Unauthenticated);
        }
    }
}

//! Uploads: files for an import from a client without access to the server's disk, and archives
//! with the files of a large function.

use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use headwater_executors::{EVERY, store_upload};
use headwater_model::{
    AccessObject, Action, Identity, ObjectKind, Permission, Principal, Problem, TableName, Upload,
};

use crate::service::Components;

/// Operations on uploads.
#[derive(Clone)]
pub struct Uploads(pub(crate) Arc<Components>);

impl Uploads {
    /// Stores a file.
    ///
    /// Errors: `invalid_name`; `invalid_argument` if the file is too long or incomplete; `too_busy`
    /// if the user has too many uploads; `disk_full`, `storage`.
    pub async fn create(
        &self,
        principal: &Principal,
        name: &str,
        content: impl Stream<Item = Result<Bytes, Problem>> + Send,
    ) -> Result<Upload, Problem> {
        self.check_upload(principal)?;
        store_upload(&self.0.import_rights.uploads, principal, name, content).await
    }

    /// Deletes a file of the principal.
    ///
    /// Errors: `file_not_found`, even if the upload belongs to another user.
    pub async fn delete(&self, principal: &Principal, path: &str) -> Result<(), Problem> {
        self.0.authenticated(principal)?;
        self.0.import_rights.delete_upload(principal, path).await
    }

    /// Checks that a principal may add rows to at least one table, or deploy at least one function.
    /// A user that may create a table then owns it, and adds rows as its owner. Other users have no
    /// use for uploads, which take disk space.
    fn check_upload(&self, principal: &Principal) -> Result<(), Problem> {
        self.0.authenticated(principal)?;
        let Identity::User(user) = principal.identity() else { return Ok(()) };
        let grants = self.0.access.permissions(&user.name);
        for action in [Action::Insert, Action::Deploy] {
            let allows = |permission: &Permission| {
                let creates = permission.actions.contains(&Action::Create)
                    && matches!(
                        permission.object.kind(),
                        ObjectKind::Table | ObjectKind::Namespace
                    );
                permission.is_administration()
                    || permission.actions.contains(&action)
                    || (creates && action == Action::Insert)
            };
            let is_in_scope = user.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(allows));
            if is_in_scope && grants.iter().any(allows) {
                return Ok(());
            }
        }
        let any = TableName { namespace: EVERY.to_owned(), name: EVERY.to_owned() };
        let denied = self.0.authorize(principal, Action::Insert, &AccessObject::table(&any));
        denied.map_err(|problem| {
            let message = format!("user `{}` may not send files", user.name);
            Problem { message, ..problem }.with_hint(
                "Ask an administrator for `insert` or `create` on the table, or `deploy` on the \
                 function.",
            )
        })
    }
}

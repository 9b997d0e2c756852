//! Rights of imports: the locations that they may read, and the tables and branches that they may
//! write.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use headwater_access::Access;
use headwater_engine::change_forbidden;
use headwater_ingest::{BucketStores, PrivateFiles, TableCheck};
use headwater_model::{
    AccessObject, Action, AuthenticatedUser, ErrorCode, Identity, ImportRequest, JobId, Principal,
    Problem, RefSpec, ResultExt, TableName, ToProblem,
};
use headwater_objects::{BucketObjectStore, ObjectPath, Objects};
use uuid::Uuid;

use crate::rights::{EVERY, authorize, is_change, record_denial, table_access};

/// Wildcard characters. The pattern in a source begins at the first of these characters.
const WILDCARDS: [char; 4] = ['*', '?', '[', '{'];

/// The rights of imports.
#[derive(Debug, Clone)]
pub struct ImportRights {
    /// The rights of users.
    pub access: Access,
    /// The folder of the lake.
    pub lake_dir: PathBuf,
    /// Files and folders with credentials, such as the key of the secrets.
    pub credentials: Vec<PathBuf>,
    /// The folder of uploads.
    pub uploads: PathBuf,
    /// The buckets of the lake.
    pub objects: Objects,
}

impl ImportRights {
    /// Checks that a principal may read the sources of an import and write to its branch. Returns
    /// the lake's buckets that the import reads.
    ///
    /// Errors: `forbidden`.
    pub async fn check(
        &self,
        principal: &Principal,
        request: &ImportRequest,
    ) -> Result<BucketStores, Problem> {
        let main = RefSpec::main();
        let branch = AccessObject::reference(request.reference.as_ref().unwrap_or(&main));
        authorize(&self.access, principal, Action::Write, &branch)?;
        self.check_sources(principal, &request.sources).await
    }

    /// Checks that a principal may read sources of files. Returns the lake's buckets among the
    /// sources.
    ///
    /// Errors: `forbidden`.
    pub async fn check_sources(
        &self,
        principal: &Principal,
        sources: &[String],
    ) -> Result<BucketStores, Problem> {
        let mut stores = BucketStores::new();
        for source in sources {
            if self.is_own_upload(principal, source) {
                continue;
            }
            if let Some(path) =
                BucketObjectStore::lake_object_path(&self.objects, source).await.or_problem()?
            {
                self.check_objects(principal, &path).await?;
                let store = BucketObjectStore::new(self.objects.clone(), &path.bucket);
                stores.insert(format!("s3://{}", path.bucket), Arc::new(store));
                continue;
            }
            let location = AccessObject::location(location(source));
            authorize(&self.access, principal, Action::Read, &location)?;
        }
        Ok(stores)
    }

    /// Checks that a principal may read the objects that a key in one of the lake's buckets
    /// selects: one object, the objects below a prefix, or the objects that match a pattern.
    async fn check_objects(&self, by: &Principal, path: &ObjectPath) -> Result<(), Problem> {
        let ObjectPath { bucket, key } = path;
        let read = |action, object: &AccessObject| authorize(&self.access, by, action, object);
        let prefix = match key.find(WILDCARDS) {
            Some(at) => key[..at].rfind('/').map_or("", |end| &key[..=end]).to_owned(),
            None if key.is_empty() || key.ends_with('/') => key.clone(),
            None => {
                // Check this right before the store looks up the key, so that a user without rights
                // cannot find out which objects exist.
                read(Action::Read, &AccessObject::object_in(bucket, key))?;
                if self.objects.head(path).await.is_ok() {
                    return Ok(());
                }
                format!("{key}/")
            }
        };
        let objects = AccessObject::prefix_in(bucket, &prefix);
        read(Action::List, &objects)?;
        read(Action::Read, &objects)
    }

    /// Returns the check for each action on a table; `None` for the owner of a lake without users.
    pub fn table_check(&self, principal: &Principal, job: Option<JobId>) -> Option<TableCheck> {
        let access = table_access(&self.access, principal, job)?;
        Some(Arc::new(move |action, object, id| {
            access.check(action, object)?;
            let table = object.name().parse::<TableName>().or_problem()?;
            let changed = id.filter(|_| is_change(action));
            match changed.and_then(|id| access.change_restrictions(&table, id)) {
                Some(found) => Err(change_forbidden(action, &table, &found)),
                None => Ok(()),
            }
        }))
    }

    /// Returns the files that a principal must not read, regardless of its grants. A source in
    /// `sources` that the principal uploaded is not private.
    pub fn private_files(&self, principal: &Principal, sources: &[String]) -> PrivateFiles {
        let uploaded = sources.iter().filter(|source| self.is_own_upload(principal, source));
        PrivateFiles {
            lake_dir: self.lake_dir.clone(),
            credentials: self.credentials.clone(),
            uploaded: uploaded.map(PathBuf::from).collect(),
        }
    }

    /// Converts an error of an import. The audit log records an attempt to read a private file.
    pub fn to_problem(
        &self,
        principal: &Principal,
        job: Option<JobId>,
        error: &headwater_ingest::Error,
    ) -> Problem {
        if let headwater_ingest::Error::Private { file } = error {
            let object = AccessObject::location(file);
            record_denial(&self.access, principal, job, Action::Read, &object);
        }
        error.to_problem()
    }

    /// Returns the path of a file that the principal uploaded.
    ///
    /// Errors: `forbidden`.
    pub fn own_upload(&self, principal: &Principal, path: &str) -> Result<PathBuf, Problem> {
        if !self.is_own_upload(principal, path) {
            // Functions may read only uploads, and no other files on the server's disk.
            let message = format!("`{}` is not one of your uploads", path.escape_debug());
            return Err(Problem::new(ErrorCode::Forbidden, message).with_hint(
                "Send the file with `create_upload`, and use the path that it returns.",
            ));
        }
        Ok(PathBuf::from(path))
    }

    /// Deletes a file that the principal uploaded.
    ///
    /// Errors: `file_not_found`, even if the upload belongs to another user; `storage`.
    pub async fn delete_upload(&self, principal: &Principal, path: &str) -> Result<(), Problem> {
        if self.is_own_upload(principal, path)
            && let Some(folder) = Path::new(path).parent()
        {
            match tokio::fs::remove_dir_all(folder).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    let message = format!("the upload `{}` cannot be deleted", path.escape_debug());
                    let mut problem = Problem::new(ErrorCode::Storage, message);
                    problem.causes.push(error.to_string());
                    return Err(problem.with_hint("Check the permissions of the lake's folder."));
                }
            }
        }
        let message = format!("`{}` is not one of your uploads", path.escape_debug());
        Err(Problem::new(ErrorCode::FileNotFound, message)
            .with_hint("Use the path that `create_upload` returned, within a day."))
    }

    /// Returns true if a source is a file that the principal uploaded. The owner may read every
    /// upload.
    fn is_own_upload(&self, principal: &Principal, source: &str) -> bool {
        let Ok(below) = Path::new(source).strip_prefix(&self.uploads) else { return false };
        let mut parts = below.components();
        let (Some(Component::Normal(folder)), Some(Component::Normal(_)), None) =
            (parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        match principal.identity() {
            Identity::Owner => true,
            Identity::User(user) => is_folder_of(&folder.to_string_lossy(), user),
            Identity::Anonymous => false,
        }
    }
}

/// Returns the folder name of an upload, which identifies the user that uploaded it.
pub fn upload_folder(principal: &Principal) -> String {
    let id = Uuid::now_v7();
    principal.user_name().map_or_else(|| id.to_string(), |user| format!("{id}.{user}"))
}

/// Returns true if a folder contains an upload that counts toward the limits of a principal.
pub(crate) fn is_upload_of(folder: &str, principal: &Principal) -> bool {
    match principal.identity() {
        Identity::Owner => !folder.contains('.'),
        Identity::User(user) => is_folder_of(folder, user),
        Identity::Anonymous => false,
    }
}

/// Returns true if a folder contains an upload of this user. An earlier account with the same name
/// counts as another user.
fn is_folder_of(folder: &str, user: &AuthenticatedUser) -> bool {
    let Some((id, owner)) = folder.split_once('.') else { return false };
    let created = Uuid::try_parse(id).ok().and_then(|id| id.get_timestamp());
    let seconds = created.map(|created| i64::try_from(created.to_unix().0).unwrap_or(0));
    owner == user.name && seconds.is_some_and(|seconds| seconds >= user.created.timestamp())
}

/// Returns the location of a source that a grant must contain: the source itself, or the folder
/// above the first wildcard. A source with `..` needs a grant on all locations.
fn location(source: &str) -> &str {
    if source.contains("..") {
        return EVERY;
    }
    let Some(at) = source.find(WILDCARDS) else { return source };
    let folder = source[..at].rfind('/').map_or(EVERY, |end| &source[..end]);
    if folder.is_empty() { "/" } else { folder }
}

#[cfg(test)]
mod tests {
    use headwater_model::AuthMethod;

    use super::*;

    #[test]
    fn a_pattern_needs_a_grant_on_the_folder_above_it() {
        for (source, expected) in [
            ("/in/a.csv", "/in/a.csv"),
            ("/in/*.csv", "/in"),
            ("/in/a{b,/etc}/x", "/in"),
            ("/*.csv", "/"),
            ("s3://b/in/??.csv", "s3://b/in"),
            ("/in/../etc/passwd", EVERY),
            ("/in/{a,../b}", EVERY),
            ("*.csv", EVERY),
        ] {
            assert_eq!(location(source), expected, "{source}");
        }
    }

    #[test]
    fn an_upload_belongs_to_its_user() {
        let user = |name: &str, created: &str| AuthenticatedUser {
            name: name.to_owned(),
            created: created.parse().expect("a time"),
            method: AuthMethod::Token,
            token: None,
            scopes: None,
            expires: None,
        };
        let id = Uuid::now_v7();
        let ana = user("ana", "2026-01-01T00:00:00Z");
        assert!(is_folder_of(&format!("{id}.ana"), &ana));
        assert!(is_folder_of(&format!("{id}.a.b"), &user("a.b", "2026-01-01T00:00:00Z")));
        for folder in [format!("{id}"), format!("{id}.bob"), "x.ana".to_owned(), "*.ana".into()] {
            assert!(!is_folder_of(&folder, &ana), "{folder}");
        }
        let later = user("ana", "2900-01-01T00:00:00Z");
        assert!(!is_folder_of(&format!("{id}.ana"), &later), "an earlier account of this name");
    }
}

//! The rights of a principal to the tables and views at a ref. A right comes from a grant on the
//! name, or from the ownership of the object that is stored at the ref.

use headwater_access::{Access, TableRestrictions, depends_on_owner};
use headwater_engine::change_forbidden;
use headwater_lake::{CommitView, Error, Lake};
use headwater_model::name::is_within;
use headwater_model::{
    AccessObject, Action, ErrorCode, Namespace, ObjectKind, Principal, Problem, RefSpec, ResultExt,
    TableName, ToProblem,
};
use headwater_pipelines::reading;

use crate::rights::{authorize, is_change};

/// The rights of a principal to stored tables and views.
pub struct EntryRights<'a> {
    /// The grants, and the accounts of the users.
    pub access: &'a Access,
    /// The lake that stores the tables and views.
    pub lake: &'a Lake,
    /// The principal that performs an action.
    pub principal: &'a Principal,
}

/// A table or view to which the rights of a principal are checked.
///
/// A grant by an administrator applies to every object of a name, but ownership and the grants of
/// an owner only to the objects of this owner. So an operation that looks up the name again calls
/// [`CheckedEntry::check_same`].
#[derive(Debug, Clone)]
pub struct CheckedEntry {
    /// The object, with its stored owner.
    pub object: AccessObject,
    /// The id of the table or view if the principal owns it or has a grant by its owner.
    pub owned_id: Option<String>,
    /// True if the table or view does not exist, and the principal owns its namespace or has a
    /// grant by the namespace's owner.
    pub in_own_namespace: bool,
    /// False if a lookup has found no such table or view.
    pub exists: bool,
}

impl EntryRights<'_> {
    /// Returns a table, a view or a namespace with exactly this name at a ref, with its owner. If
    /// it does not exist, it has the owner of its namespace. An object at a ref that cannot be read
    /// has no owner.
    pub async fn stored(&self, reference: &RefSpec, object: AccessObject) -> CheckedEntry {
        let Ok(view) = self.lake.view(reference).await else { return object.into() };
        let found = find(&view, &object).await.ok().flatten();
        match found {
            Some((object, id)) => {
                let is_owned = depends_on_owner(self.access, self.principal, &object);
                let owned_id = id.filter(|_| is_owned);
                let in_own_namespace = is_owned && object.namespace_owner().is_some();
                CheckedEntry { object, owned_id, in_own_namespace, exists: true }
            }
            None => object.into(),
        }
    }

    /// Checks a right to a table or view, and records the decision. The name matches exactly, or
    /// else case-insensitively. The error has the spelling of the request, so that it does not
    /// reveal if the table exists. A change also fails if a row filter or column mask of the table
    /// applies to the principal.
    pub async fn check_named(
        &self,
        view: &CommitView,
        action: Action,
        name: &TableName,
    ) -> Result<CheckedEntry, Problem> {
        let check = |object: &AccessObject| authorize(self.access, self.principal, action, object);
        let found = view.state().find(&name.namespace, &name.name).await.or_problem()?;
        let Some((found, entry)) = found else {
            let object = view.new_object(AccessObject::table(name)).await.or_problem()?;
            check(&object)?;
            let in_own_namespace = depends_on_owner(self.access, self.principal, &object);
            let stored = CheckedEntry::from(object);
            return Ok(CheckedEntry { exists: false, in_own_namespace, ..stored });
        };
        let object = entry.object(&found);
        let is_applicable = object.kind().actions().contains(&action);
        let decision = self.access.decide(self.principal, action, &object);
        if !is_applicable || !decision.is_allowed() {
            check(&AccessObject::table(name))?;
        }
        check(&object)?;
        if is_applicable && is_change(action) && !entry.is_view() {
            let restrictions = TableRestrictions::new(self.access);
            let id = Some(entry.id.as_str());
            if let Some(restrictions) = restrictions.on(self.principal, &found, id) {
                return Err(change_forbidden(action, &found, &restrictions));
            }
        }
        let owned_id = depends_on_owner(self.access, self.principal, &object).then_some(entry.id);
        Ok(CheckedEntry { object, owned_id, in_own_namespace: false, exists: true })
    }

    /// Returns the namespaces for which the principal has a grant, or that contain a table, view or
    /// function that it may read.
    pub async fn visible_namespaces(&self, view: &CommitView) -> Result<Vec<Namespace>, Problem> {
        let mut namespaces = view.namespaces().await.or_problem()?;
        if self.is_unlimited() {
            return Ok(namespaces);
        }
        let entries = view.state().all_entries().await.or_problem()?;
        let readable = entries.iter().filter(|(name, entry)| {
            let (action, object) = (reading(name, entry.is_view()).0, entry.object(name));
            self.access.decide(self.principal, action, &object).is_allowed()
        });
        let readable: Vec<&str> = readable.map(|(name, _)| name.namespace.as_str()).collect();
        namespaces.retain(|namespace| {
            let name = namespace.name.as_str();
            let within = |inner: &&str| *inner == name || is_within(inner, name);
            let object = AccessObject::namespace(name).with_owner(namespace.owner.as_ref());
            self.access.may_see(self.principal, &object) || readable.iter().any(within)
        });
        Ok(namespaces)
    }

    /// Checks that a namespace exists and that the principal may see it. Both failures return the
    /// same error.
    pub async fn check_namespace(&self, view: &CommitView, namespace: &str) -> Result<(), Problem> {
        if self.is_unlimited() {
            return view.check_namespace(namespace).await.or_problem();
        }
        let visible = self.visible_namespaces(view).await?;
        if visible.iter().any(|visible| visible.name == namespace) {
            return Ok(());
        }
        let message = format!("there is no namespace `{namespace}`");
        Err(Problem::new(ErrorCode::NamespaceNotFound, message))
    }

    /// Returns true if the principal has all rights.
    fn is_unlimited(&self) -> bool {
        self.access.decide(self.principal, Action::Administer, &AccessObject::lake()).is_allowed()
    }
}

impl CheckedEntry {
    /// Checks that the object at a ref is still the same if a right depends on its owner, and still
    /// does not exist if a right depends on the owner of its namespace. A concurrent change may
    /// have created an object of another user.
    ///
    /// Errors: `commit_conflict`.
    pub async fn check_same(&self, view: &CommitView) -> Result<(), Problem> {
        if self.owned_id.is_none() && !self.in_own_namespace {
            return Ok(());
        }
        let Some(table) = entry_name(&self.object) else { return Ok(()) };
        let entry = view.state().entry(&table).await.or_problem()?;
        let is_same = match (&self.owned_id, &entry) {
            (Some(id), Some(entry)) => {
                entry.id == *id && entry.owner.as_ref() == self.object.owner()
            }
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return Ok(());
        }
        Err(Error::CommitConflict { table, branch: view.spec().to_string() }.to_problem())
    }
}

/// Returns a table, a view, an SQL function or a namespace with the owner that it has on `main`. If
/// it does not exist, it has the owner of its namespace. Returns any other object unchanged.
pub(crate) async fn with_owner_on_main(lake: &Lake, object: &AccessObject) -> AccessObject {
    let Ok(view) = lake.view(&RefSpec::main()).await else { return object.clone() };
    let found = find(&view, object).await.ok().flatten();
    found.map_or_else(|| object.clone(), |(found, _)| found)
}

/// Returns an object with its stored owner, and the id of a table, view or SQL function. Returns
/// `None` if no owner is stored with objects of its kind.
async fn find(
    view: &CommitView,
    object: &AccessObject,
) -> Result<Option<(AccessObject, Option<String>)>, Error> {
    if object.kind() == ObjectKind::Namespace {
        return Ok(Some((view.namespace_object(object.name()).await?, None)));
    }
    let Some(name) = entry_name(object) else { return Ok(None) };
    match view.state().any_entry(&name).await? {
        Some(entry) if entry.object(&name).kind() == object.kind() => {
            Ok(Some((entry.object(&name), Some(entry.id))))
        }
        None if object.kind() != ObjectKind::Function => {
            Ok(Some((view.new_object(object.clone()).await?, None)))
        }
        _ => Ok(None),
    }
}

/// Returns the name under which the catalog stores a table, a view or an SQL function.
fn entry_name(object: &AccessObject) -> Option<TableName> {
    match object.kind() {
        ObjectKind::Table | ObjectKind::View => object.name().parse().ok(),
        ObjectKind::Function => {
            let (namespace, name) = object.name().rsplit_once('.')?;
            TableName::of_function(namespace, name).ok()
        }
        _ => None,
    }
}

impl From<AccessObject> for CheckedEntry {
    fn from(object: AccessObject) -> Self {
        CheckedEntry { object, owned_id: None, in_own_namespace: false, exists: true }
    }
}

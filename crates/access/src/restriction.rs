//! Row filters and column masks: set, drop, list, and select for a principal.
//!
//! This crate stores the expressions, and selects the expressions that apply to a principal. The
//! engine evaluates the selected expressions.

use std::hash::{DefaultHasher, Hash, Hasher};

use headwater_model::{
    AccessObject, Action, Identity, Principal, Restriction, Restrictions, TableName,
};
use headwater_store::JournalAppend;

use crate::access::RightsChange;
use crate::access_state::AccessState;
use crate::record::{check_name, put, remove, restriction_key};
use crate::{Access, Error, Result};

/// Maximum length of an expression, in bytes.
const USING_BYTES_MAX: usize = 16 << 10;

/// The row filters and column masks of a lake. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TableRestrictions(Access);

impl TableRestrictions {
    /// Creates a handle.
    pub fn new(access: &Access) -> Self {
        TableRestrictions(access.clone())
    }

    /// Creates a restriction. If `replace` is true, replaces an existing restriction with the same
    /// name. Sets the time and the author.
    ///
    /// Errors: the name exists; a user or role does not exist; the column has another mask.
    pub async fn set(
        &self,
        by: &Principal,
        restriction: Restriction,
        replace: bool,
    ) -> Result<Restriction> {
        check_name(&restriction.name)?;
        if restriction.using.len() > USING_BYTES_MAX {
            return Err(Error::TooLong { what: "expression", max: USING_BYTES_MAX });
        }
        let (created, by_name) = (self.0.0.clock.now(), by.author().to_owned());
        let restriction = Restriction { created, by: by_name, ..restriction };
        self.0
            .change(by, |directory| {
                if let Some(unknown) = restriction.to.iter().find(|name| !directory.has(name)) {
                    return Err(Error::NoGrantee { name: unknown.clone() });
                }
                match directory.restrictions.get(&restriction.name) {
                    Some(known)
                        if !replace || known.column.is_some() != restriction.column.is_some() =>
                    {
                        return Err(Error::RestrictionExists { restriction: known.to_string() });
                    }
                    _ => check_column(directory, &restriction)?,
                }
                let entries = vec![put(restriction_key(&restriction.name), &restriction)?];
                Ok(restriction_change(true, &restriction, entries, restriction.clone()))
            })
            .await
    }

    /// Drops a row filter, or a column mask if `is_mask` is true.
    pub async fn drop(&self, by: &Principal, name: &str, is_mask: bool) -> Result<()> {
        self.0
            .change(by, |directory| {
                let known = directory.restrictions.get(name);
                let known = known.filter(|known| known.column.is_some() == is_mask);
                let kind = if is_mask { "column mask" } else { "row filter" };
                let missing = || Error::NoRestriction { kind, name: name.to_owned() };
                let known = known.ok_or_else(missing)?;
                let entries = vec![remove(restriction_key(name))];
                Ok(restriction_change(false, known, entries, ()))
            })
            .await
    }

    /// Lists all restrictions by name.
    pub fn list(&self) -> Vec<Restriction> {
        self.0.directory().restrictions.values().cloned().collect()
    }

    /// Returns the restrictions of a table that apply to a principal. A restriction belongs to the
    /// table if the table's id (if given) or name matches.
    pub fn on(
        &self,
        principal: &Principal,
        table: &TableName,
        id: Option<&str>,
    ) -> Option<Restrictions> {
        let directory = self.0.directory();
        let mut on = directory.restrictions.values().filter(|one| one.is_on(table, id)).peekable();
        on.peek()?;
        self.applying(principal, &directory, on)
    }

    /// Returns a restriction that matches a table by its name but not by its id, if there is one.
    /// After a renaming of the table, this restriction would no longer apply.
    pub fn lost_by_rename(&self, table: &TableName, id: &str) -> Option<Restriction> {
        let directory = self.0.directory();
        let mut on = directory.restrictions.values().filter(|one| one.is_on(table, None));
        on.find(|one| one.table_id != id).cloned()
    }

    /// Returns a digest of all restrictions that apply to a principal; `None` if there are none.
    /// Two principals with the same digest read the same rows.
    pub fn digest(&self, principal: &Principal) -> Option<String> {
        let directory = self.0.directory();
        let Restrictions { user, members, all } =
            self.applying(principal, &directory, directory.restrictions.values())?;
        let mut hasher = DefaultHasher::new();
        (user, members).hash(&mut hasher);
        for one in all {
            (one.name, one.table, one.table_id, one.column, one.using).hash(&mut hasher);
            one.columns.hash(&mut hasher);
        }
        Some(format!("{:016x}", hasher.finish()))
    }

    /// Returns the restrictions of a table that apply to a user. A restriction belongs to the table
    /// if the table's id (if given) or name matches.
    ///
    /// Errors: the user does not exist.
    pub fn explain(
        &self,
        user: &str,
        table: &TableName,
        id: Option<&str>,
    ) -> Result<Vec<Restriction>> {
        let directory = self.0.directory();
        directory.user(user)?;
        let mut grants = directory.grants_of(user);
        if grants.any(|grant| grant.permission.is_administration()) {
            return Ok(Vec::new());
        }
        let all = directory.restrictions.values().filter(|one| one.is_on(table, id));
        Ok(select(&directory, user, all).all)
    }

    /// Selects from `all` the restrictions that apply to a principal; `None` if none applies. The
    /// owner and administrators are exempt from restrictions.
    fn applying<'a>(
        &self,
        principal: &Principal,
        directory: &AccessState,
        all: impl Iterator<Item = &'a Restriction>,
    ) -> Option<Restrictions> {
        if self.0.decide(principal, Action::Administer, &AccessObject::lake()).is_allowed() {
            return None;
        }
        let user = match principal.identity() {
            Identity::User(user) => user.name.as_str(),
            Identity::Owner | Identity::Anonymous => "",
        };
        Some(select(directory, user, all)).filter(|found| !found.all.is_empty())
    }
}

/// Selects from `all` the restrictions that apply to a user that is not an administrator.
fn select<'a>(
    directory: &AccessState,
    user: &str,
    all: impl Iterator<Item = &'a Restriction>,
) -> Restrictions {
    let members = directory.with_roles(user);
    let applies =
        |one: &&Restriction| one.to.is_empty() || one.to.iter().any(|name| members.contains(name));
    let all = all.filter(applies).cloned().collect();
    Restrictions { user: user.to_owned(), members, all }
}

/// Returns an error if a new mask is for a column that already has another mask.
fn check_column(directory: &AccessState, new: &Restriction) -> Result<()> {
    let Some(column) = &new.column else { return Ok(()) };
    let is_same = |one: &&Restriction| {
        let masks = one.column.as_ref().is_some_and(|it| it.eq_ignore_ascii_case(column));
        masks && one.name != new.name && one.is_on(&new.table, Some(&new.table_id))
    };
    match directory.restrictions.values().find(is_same) {
        None => Ok(()),
        Some(mask) => Err(Error::Masked { column: column.clone(), restriction: mask.to_string() }),
    }
}

/// Returns an error if a restriction names the user or role to remove, because the restriction
/// would then lose its effect.
pub(crate) fn check_unused(directory: &AccessState, name: &str) -> Result<()> {
    let names = |one: &&Restriction| one.to.iter().any(|to| to == name);
    match directory.restrictions.values().find(names) {
        None => Ok(()),
        Some(known) => {
            Err(Error::Restricted { name: name.to_owned(), restriction: known.to_string() })
        }
    }
}

fn restriction_change<T>(
    creates: bool,
    restriction: &Restriction,
    entries: Vec<JournalAppend>,
    result: T,
) -> RightsChange<T> {
    let action = match (creates, restriction.column.is_some()) {
        (true, true) => "create_column_mask",
        (true, false) => "create_row_filter",
        (false, true) => "drop_column_mask",
        (false, false) => "drop_row_filter",
    };
    let Restriction { name, column, using, to, .. } = restriction;
    let column = column.as_ref().map(|column| format!("column {column} ")).unwrap_or_default();
    let to = if to.is_empty() { String::new() } else { format!(" to {}", to.join(", ")) };
    let detail = format!("{name}: {column}using {using}{to}");
    RightsChange {
        entries,
        action,
        object: AccessObject::table(&restriction.table).to_string(),
        detail,
        result,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use headwater_model::{CredentialSettings, Permission, SystemClock, Timestamp};
    use headwater_store::MemoryStore;

    use super::*;
    use crate::{Credential, NewUser};

    async fn access() -> (Access, TableRestrictions) {
        let opened = Access::open(Arc::new(MemoryStore::new()), Arc::new(SystemClock)).await;
        let access = opened.expect("an empty store");
        access.create_role(&Principal::owner(), "analyst").await.expect("a role");
        let restrictions = TableRestrictions::new(&access);
        (access, restrictions)
    }

    async fn user(access: &Access, name: &str) -> Principal {
        let owner = Principal::owner();
        let new = NewUser { name: name.to_owned(), ..NewUser::default() };
        access.create_user(&owner, new).await.expect("a user");
        let token = access
            .create_token(&owner, name, CredentialSettings::default())
            .await
            .expect("a token");
        access.authenticate(Credential::Token(&token.secret), None).await.expect("a principal")
    }

    fn restriction(name: &str, column: Option<&str>, to: &[&str]) -> Restriction {
        Restriction {
            name: name.to_owned(),
            table: "sales.orders".parse().expect("a name"),
            table_id: "id".to_owned(),
            column: column.map(str::to_owned),
            using: "true".to_owned(),
            columns: BTreeMap::new(),
            to: to.iter().map(|&name| name.to_owned()).collect(),
            created: Timestamp::UNIX_EPOCH,
            by: String::new(),
        }
    }

    #[tokio::test]
    async fn restrictions_apply_by_role_by_id_and_by_name_and_not_to_administrators() {
        let ((access, restrictions), owner) = (access().await, Principal::owner());
        let (ana, root) = (user(&access, "ana").await, user(&access, "root").await);
        let object = "lake".parse().expect("the lake");
        let all = Permission { actions: vec![Action::Administer], object };
        access.grant(&owner, "root", all).await.expect("a grant");
        let set = |one| restrictions.set(&owner, one, false);
        set(restriction("every", None, &[])).await.expect("a filter");
        set(restriction("of_role", None, &["analyst"])).await.expect("a filter");
        let named = |principal: &Principal, table: &str, id| {
            let table = table.parse().expect("a name");
            let found = restrictions.on(principal, &table, id).unwrap_or_default();
            found.all.into_iter().map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(named(&ana, "sales.orders", None), ["every"]);
        assert_eq!(named(&ana, "Sales.ORDERS", Some("other")), ["every"]);
        assert_eq!(named(&ana, "sales.renamed", Some("id")), ["every"]);
        assert!(named(&ana, "sales.other", Some("other")).is_empty());
        assert!(named(&root, "sales.orders", Some("id")).is_empty());
        assert!(named(&owner, "sales.orders", Some("id")).is_empty());
        let before = restrictions.digest(&ana);
        access.grant_role(&owner, "analyst", "ana").await.expect("a role");
        assert_eq!(named(&ana, "sales.orders", None), ["every", "of_role"]);
        assert_ne!(restrictions.digest(&ana), before);
        assert_eq!(restrictions.digest(&root), None);
        let refused = access.drop_role(&owner, "analyst").await.expect_err("in use");
        assert!(refused.to_string().contains("row filter `of_role`"), "{refused}");
        restrictions.drop(&owner, "of_role", true).await.expect_err("a filter");
        restrictions.drop(&owner, "of_role", false).await.expect("dropped");
        access.drop_role(&owner, "analyst").await.expect("unused");
    }

    #[tokio::test]
    async fn a_column_has_one_mask_and_a_name_one_restriction() {
        let ((_, restrictions), owner) = (access().await, Principal::owner());
        let set = |one, replace| restrictions.set(&owner, one, replace);
        set(restriction("m", Some("salary"), &[]), false).await.expect("a mask");
        for (one, replace) in [
            (restriction("m", Some("salary"), &[]), false),
            (restriction("m", None, &[]), true),
            (restriction("other", Some("SALARY"), &[]), true),
            (restriction("other", None, &["unknown"]), false),
            (restriction("a/b", None, &[]), false),
        ] {
            set(one.clone(), replace).await.expect_err(&format!("{one:?}"));
        }
        set(restriction("m", Some("salary"), &["analyst"]), true).await.expect("replaced");
        assert_eq!(restrictions.list()[0].to, ["analyst"]);
    }
}

//! Users: create, list, get, change, drop; the identity of a request.

use std::sync::Arc;

use headwater_access::NewUser;
use headwater_model::{
    AuthMethod, CreateUser, ErrorCode, Identity, Principal, Problem, ResultExt, UpdateUser, User,
    Whoami,
};

use crate::service::Components;

/// Operations on users.
#[derive(Clone)]
pub struct Users(pub(crate) Arc<Components>);

impl Users {
    /// Lists users by name.
    pub fn list(&self, principal: &Principal) -> Result<Vec<User>, Problem> {
        self.0.administer(principal)?;
        Ok(self.0.access.users())
    }

    /// Returns a user. Users may read their own entry.
    pub fn get(&self, principal: &Principal, name: &str) -> Result<User, Problem> {
        self.0.authenticated(principal)?;
        if principal.user_name() != Some(name) {
            self.0.administer(principal)?;
        }
        self.0.access.user(name).or_problem()
    }

    /// Creates a user without any right.
    pub async fn create(
        &self,
        principal: &Principal,
        request: CreateUser,
    ) -> Result<User, Problem> {
        self.0.administer(principal)?;
        let CreateUser { name, kind, password } = request;
        self.0.access.create_user(principal, NewUser { name, kind, password }).await.or_problem()
    }

    /// Sets a user's password, or disables or enables the user. Users may set their own password
    /// only after a login with the old password.
    pub async fn update(
        &self,
        principal: &Principal,
        name: &str,
        change: UpdateUser,
    ) -> Result<User, Problem> {
        self.0.authenticated(principal)?;
        let is_self = principal.user_name() == Some(name);
        let is_own_password = is_self && change.disabled.is_none();
        if !(is_own_password && principal.method() == AuthMethod::Password) {
            self.0.administer(principal)?;
        }
        let access = &self.0.access;
        let mut user = access.user(name).or_problem()?;
        if let Some(password) = &change.password {
            user = access.set_password(principal, name, Some(password)).await.or_problem()?;
        }
        if let Some(disabled) = change.disabled.filter(|disabled| *disabled != user.disabled) {
            user = access.disable_user(principal, name, disabled).await.or_problem()?;
        }
        Ok(user)
    }

    /// Drops a user with its tokens and grants. The objects of the user then have no owner.
    pub async fn delete(&self, principal: &Principal, name: &str) -> Result<(), Problem> {
        self.0.administer(principal)?;
        self.0.access.drop_user(principal, name).await.or_problem()
    }

    /// Returns the identity of a request, with its rights and limits.
    pub async fn whoami(&self, principal: &Principal) -> Result<Whoami, Problem> {
        self.0.authenticated(principal)?;
        let name = match principal.identity() {
            Identity::Anonymous => return Err(unauthenticated()),
            Identity::Owner => "owner",
            Identity::User(user) => &user.name,
        };
        let user = principal.user_name().and_then(|name| self.0.access.user(name).ok());
        let (token, scopes) = match principal.identity() {
            Identity::User(user) => (user.token.clone(), user.scopes.clone()),
            Identity::Owner | Identity::Anonymous => (None, None),
        };
        Ok(Whoami {
            name: name.to_owned(),
            method: principal.method(),
            permissions: user
                .as_ref()
                .map_or_else(Vec::new, |user| self.0.access.permissions(&user.name)),
            roles: user.map(|user| user.roles).unwrap_or_default(),
            token,
            scopes,
            limits: self.0.limit_usage(principal).await?,
        })
    }
}

fn unauthenticated() -> Problem {
    Problem::new(ErrorCode::Unauthenticated, "the request has no credential")
}

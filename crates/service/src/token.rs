//! Access tokens: create, list, revoke. Users manage their own tokens, administrators all tokens.

use std::sync::Arc;

use headwater_access::AccessKeys;
use headwater_model::{
    AccessToken, AuthMethod, CreateToken, CreatedToken, ErrorCode, Identity, Principal, Problem,
    ResultExt, Timestamp,
};

use crate::service::Components;

/// Operations on access tokens.
#[derive(Clone)]
pub struct Tokens(pub(crate) Arc<Components>);

impl Tokens {
    /// Lists the tokens of a user, or of all users, by creation time.
    pub async fn list(
        &self,
        principal: &Principal,
        user: Option<&str>,
    ) -> Result<Vec<AccessToken>, Problem> {
        let user = subject(&self.0, principal, user)?;
        self.0.access.tokens(user).await.or_problem()
    }

    /// Creates a token for a user, by default for the principal. The secret is returned only once.
    ///
    /// Errors: `forbidden` if the token would have more rights or a longer lifetime than the
    /// credential of the principal.
    pub async fn create(
        &self,
        principal: &Principal,
        request: CreateToken,
    ) -> Result<CreatedToken, Problem> {
        self.0.authenticated(principal)?;
        let Some(user) = request.user.clone().or(principal.user_name().map(str::to_owned)) else {
            let problem = Problem::new(
                ErrorCode::InvalidArgument,
                "the request does not name the user of the token",
            );
            return Err(problem.with_hint("Name the user: `headwater token create --user NAME`."));
        };
        if principal.user_name() == Some(&*user) {
            check_delegation(&self.0, principal, request.expires)?;
        } else {
            self.0.administer(principal)?;
        }
        self.0.access.create_token(principal, &user, request.into()).await.or_problem()
    }

    /// Revokes a token.
    pub async fn revoke(&self, principal: &Principal, id: &str) -> Result<(), Problem> {
        self.0.authenticated(principal)?;
        // With the user's name, a token of another user gives the same error as a missing token.
        let user = match self.0.administer(principal) {
            Ok(()) => None,
            Err(problem) => Some(principal.user_name().ok_or(problem)?),
        };
        self.0.access.revoke_token(principal, id, user).await.or_problem()
    }
}

/// Returns the user whose credentials to list; `None` for all users, if the principal may see all.
pub(crate) fn subject<'a>(
    components: &Components,
    principal: &'a Principal,
    user: Option<&'a str>,
) -> Result<Option<&'a str>, Problem> {
    components.authenticated(principal)?;
    let own = principal.user_name();
    if own.is_some() && user == own {
        return Ok(user);
    }
    match components.administer(principal) {
        Ok(()) => Ok(user),
        Err(_) if user.is_none() && own.is_some() => Ok(own),
        Err(problem) => Err(problem),
    }
}

/// Checks the expiry of a credential created after a login at the OpenID provider. Its lifetime is
/// limited, because only a new login shows that the provider still has the account.
fn check_lifetime(components: &Components, expires: Option<Timestamp>) -> Result<(), Problem> {
    let lifetime = components.oidc.as_ref().map(|oidc| oidc.config().lifetime());
    let lifetime = lifetime.transpose().or_problem()?.unwrap_or_default();
    let latest = components.lake.clock().now() + lifetime;
    if expires.is_some_and(|expires| expires <= latest) {
        return Ok(());
    }
    let message = format!(
        "after a login at the OpenID provider, a new token must expire within {} s",
        lifetime.as_secs()
    );
    let hint = "Set the expiry of the token, or ask an administrator for a token.";
    Err(Problem::new(ErrorCode::Forbidden, message).with_hint(hint))
}

/// Checks that a new credential has at most the rights and the lifetime of the principal's
/// credential.
pub(crate) fn check_delegation(
    components: &Components,
    principal: &Principal,
    expires: Option<Timestamp>,
) -> Result<(), Problem> {
    let Identity::User(user) = principal.identity() else { return Ok(()) };
    let forbidden = |message: &str| {
        Problem::new(ErrorCode::Forbidden, message)
            .with_hint("Use a password, or a token without scopes and expiry.")
    };
    if user.scopes.is_some() {
        return Err(forbidden("a token with scopes cannot create tokens or access keys"));
    }
    if user.method == AuthMethod::Oidc {
        return check_lifetime(components, expires);
    }
    let own = user.token.as_deref().and_then(|id| AccessKeys::of(&components.access).expiry(id));
    match own {
        Some(own) if expires.is_none_or(|expires| expires > own) => {
            Err(forbidden("a token cannot create a token that is valid for longer than itself"))
        }
        _ => Ok(()),
    }
}

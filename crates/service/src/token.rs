//! Access tokens: create, list, revoke. Users manage their own, administrators all.

use std::sync::Arc;

use headwater_model::{
    AccessToken, AuthMethod, CreateToken, CreatedToken, ErrorCode, Identity, OrProblem, Principal,
    Problem,
};

use crate::service::Components;

/// Operations on access tokens.
#[derive(Clone)]
pub struct Tokens(pub(crate) Arc<Components>);

impl Tokens {
    /// Lists tokens by the time of their creation: those of a user, or all.
    pub async fn list(
        &self,
        principal: &Principal,
        user: Option<&str>,
    ) -> Result<Vec<AccessToken>, Problem> {
        let user = self.subject(principal, user)?;
        self.0.access.tokens(user).await.or_problem()
    }

    /// Creates a token of a user, by default of the principal. Its secret is returned once.
    ///
    /// Errors: `forbidden` for a token with more rights or a longer life than the one that the
    /// principal authenticated with.
    pub async fn create(
        &self,
        principal: &Principal,
        request: CreateToken,
    ) -> Result<CreatedToken, Problem> {
        self.0.authenticated(principal)?;
        let Some(user) = request.user.clone().or(principal.user_name().map(str::to_owned)) else {
            let problem = Problem::new(ErrorCode::InvalidArgument, "the token has no user");
            return Err(problem.with_hint("Name the user: `headwater token create --user NAME`."));
        };
        if principal.user_name() == Some(&*user) {
            self.check_self(principal, &request).await?;
        } else {
            self.0.administer(principal)?;
        }
        self.0.access.create_token(principal, &user, request.into()).await.or_problem()
    }

    /// Revokes a token.
    pub async fn revoke(&self, principal: &Principal, id: &str) -> Result<(), Problem> {
        self.0.authenticated(principal)?;
        // A user does not learn whether a token of another user exists.
        let user = match self.0.administer(principal) {
            Ok(()) => None,
            Err(problem) => Some(principal.user_name().ok_or(problem)?),
        };
        self.0.access.revoke_token(principal, id, user).await.or_problem()
    }

    /// Returns the user whose tokens are listed; None: of all users.
    fn subject<'a>(
        &self,
        principal: &'a Principal,
        user: Option<&'a str>,
    ) -> Result<Option<&'a str>, Problem> {
        self.0.authenticated(principal)?;
        let own = principal.user_name();
        if own.is_some() && user == own {
            return Ok(user);
        }
        match self.0.administer(principal) {
            Ok(()) => Ok(user),
            Err(_) if user.is_none() && own.is_some() => Ok(own),
            Err(problem) => Err(problem),
        }
    }

    /// Checks the expiry of a token that is created after a login at the OpenID provider, which
    /// must confirm from time to time that the person still exists.
    fn check_lifetime(&self, request: &CreateToken) -> Result<(), Problem> {
        let lifetime = self.0.oidc.as_ref().map(|oidc| oidc.config().lifetime());
        let lifetime = lifetime.transpose().or_problem()?.unwrap_or_default();
        let latest = self.0.lake.clock().now() + lifetime;
        if request.expires.is_some_and(|expires| expires <= latest) {
            return Ok(());
        }
        let message = format!(
            "a token that is created after a login at the OpenID provider expires within {} s",
            lifetime.as_secs()
        );
        let hint = "Set its expiry, or ask an administrator for a token.";
        Err(Problem::new(ErrorCode::Forbidden, message).with_hint(hint))
    }

    /// Checks that a user's token creates no token that can do more, or is valid for longer.
    async fn check_self(
        &self,
        principal: &Principal,
        request: &CreateToken,
    ) -> Result<(), Problem> {
        let Identity::User(user) = principal.identity() else { return Ok(()) };
        let forbidden = |message: &str| {
            Problem::new(ErrorCode::Forbidden, message)
                .with_hint("Use a password, or a token without scopes and expiry.")
        };
        if user.scopes.is_some() {
            return Err(forbidden("a token with scopes cannot create tokens"));
        }
        if user.method == AuthMethod::Oidc {
            return self.check_lifetime(request);
        }
        let Some(id) = &user.token else { return Ok(()) };
        let tokens = self.0.access.tokens(Some(&user.name)).await.or_problem()?;
        let own = tokens.iter().find(|token| token.id == *id).and_then(|token| token.expires);
        match own {
            Some(own) if request.expires.is_none_or(|expires| expires > own) => {
                Err(forbidden("a token cannot create one that is valid for longer than itself"))
            }
            _ => Ok(()),
        }
    }
}

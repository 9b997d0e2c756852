//! Logins at an OpenID provider.

use std::net::IpAddr;
use std::time::Duration;

use headwater_access::{Access, ExternalLogin};
use headwater_model::{
    Clock, ErrorCode, LoginCode, LoginMethods, LoginStart, ObjectId, Principal, Problem, ResultExt,
    StartLogin, ToProblem,
};
use headwater_oidc::{Identity, OidcConfig, Provider};
use moka::sync::Cache;

use crate::ServiceConfig;
use crate::access_control::AccessControl;

/// Interval after which a token is verified again, and the user's roles are updated from its
/// groups.
const VERIFIED_FOR: Duration = Duration::from_mins(5);

/// Maximum number of verified tokens in the cache.
const VERIFIED_MAX: u64 = 10_000;

/// Authenticates users by tokens of the OpenID provider. Caches recently verified tokens.
pub(crate) struct OidcAuthenticator {
    provider: Provider,
    verified: Cache<ObjectId, ExternalLogin>,
}

/// A token, and the user name that the client sent with it, if any.
#[derive(Clone, Copy)]
pub(crate) struct PresentedToken<'a> {
    pub(crate) token: &'a str,
    pub(crate) user: Option<&'a str>,
    pub(crate) address: Option<IpAddr>,
}

impl OidcAuthenticator {
    /// Creates the authenticator for the configured provider; `None` if no provider is configured.
    pub(crate) fn of(config: &ServiceConfig) -> crate::Result<Option<Self>> {
        let Some(config) = config.oidc.clone() else { return Ok(None) };
        let provider = Provider::new(config).map_err(|error| crate::Error::component(&error))?;
        let verified = Cache::builder().max_capacity(VERIFIED_MAX).time_to_live(VERIFIED_FOR);
        Ok(Some(OidcAuthenticator { provider, verified: verified.build() }))
    }

    /// Returns the provider's configuration.
    pub(crate) fn config(&self) -> &OidcConfig {
        self.provider.config()
    }

    /// Returns the principal that a token of the provider identifies.
    ///
    /// Errors: `unauthenticated`, the same for every invalid token; `unavailable` if the provider's
    /// keys cannot be read.
    pub(crate) async fn authenticate(
        &self,
        access: &Access,
        clock: &dyn Clock,
        shown: PresentedToken<'_>,
    ) -> Result<Principal, Problem> {
        let PresentedToken { token, user, address } = shown;
        let hash = ObjectId::of(token.as_bytes());
        let is_of = |login: &ExternalLogin| user.is_none_or(|user| user == login.user);
        if let Some(login) = self.verified.get(&hash).filter(is_of) {
            return login.resume(access, address).or_problem();
        }
        let login = match self.provider.verify(token, clock.now()).await {
            Ok(identity) => self.login(identity),
            Err(headwater_oidc::Error::Token { reason }) => {
                tracing::debug!("a token of the OpenID provider was rejected: {reason}");
                return Err(ExternalLogin::refused(access, user, address).to_problem());
            }
            Err(error) => return Err(error.to_problem()),
        };
        if !is_of(&login) {
            return Err(ExternalLogin::refused(access, user, address).to_problem());
        }
        let principal = login.log_in(access, address).await.or_problem()?;
        self.verified.insert(hash, login);
        Ok(principal)
    }

    /// Returns the principal of a browser after its login at the provider. The principal expires
    /// after the maximum lifetime of access tokens that such a user can create.
    async fn finish(
        &self,
        access: &Access,
        clock: &dyn Clock,
        code: &LoginCode,
        address: Option<IpAddr>,
    ) -> Result<Principal, Problem> {
        let now = clock.now();
        let identity = match self.provider.finish_login(code, now).await {
            Ok(identity) => identity,
            Err(error) if error.code() == ErrorCode::Unauthenticated => {
                ExternalLogin::refused(access, None, address);
                return Err(error.to_problem());
            }
            Err(error) => return Err(error.to_problem()),
        };
        let expires = now + self.config().lifetime().unwrap_or_default();
        let login = ExternalLogin { expires, ..self.login(identity) };
        login.log_in(access, address).await.or_problem()
    }

    /// Returns the login of a provider's identity, with the roles that its groups give.
    fn login(&self, identity: Identity) -> ExternalLogin {
        let Identity { subject, user, groups, expires } = identity;
        let config = self.config();
        let roles = groups.iter().filter_map(|group| config.roles.get(group).cloned());
        ExternalLogin {
            user,
            subject,
            expires,
            roles: roles.collect(),
            managed_roles: config.roles.values().cloned().collect(),
            creates_user: config.create_users,
        }
    }
}

impl AccessControl {
    /// Returns the methods of login that clients can use in addition to tokens and passwords.
    pub fn login_methods(&self) -> LoginMethods {
        let oidc = self.0.oidc.as_ref();
        LoginMethods { oidc: oidc.map(|oidc| oidc.config().login()) }
    }

    /// Starts a browser's login at the OpenID provider.
    ///
    /// Errors: `invalid_argument`, `unavailable`; `unsupported_statement` if the server has no
    /// provider, or its provider has no login for browsers.
    pub async fn start_login(&self, request: &StartLogin) -> Result<LoginStart, Problem> {
        self.provider()?.provider.start_login(&request.redirect).await.or_problem()
    }

    /// Returns the principal of a browser after its login at the OpenID provider.
    ///
    /// Errors: `unauthenticated`, `unavailable`; `unsupported_statement` if the server has no
    /// provider.
    pub async fn finish_login(
        &self,
        code: &LoginCode,
        address: Option<IpAddr>,
    ) -> Result<Principal, Problem> {
        let clock = self.0.lake.clock().clone();
        self.provider()?.finish(&self.0.access, &*clock, code, address).await
    }

    fn provider(&self) -> Result<&OidcAuthenticator, Problem> {
        self.0.oidc.as_ref().ok_or_else(|| {
            let message = "this server has no OpenID provider";
            Problem::new(ErrorCode::UnsupportedStatement, message)
                .with_hint("Log in with an access token.")
        })
    }
}

//! The authorization code flow (RFC 6749) with PKCE (RFC 7636): a browser is sent to the provider
//! and returns with a code.
//!
//! The browser keeps the secrets of a login, so the server stores no state between the two steps.
//! An intercepted code is useless without these secrets.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use headwater_model::{LoginCode, LoginStart};
use reqwest::Url;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;

use crate::device_flow::{ProviderResponse, refused};
use crate::http::{check_url, unusable};
use crate::provider::Provider;
use crate::{Error, Identity, Result};

/// Length of each random secret of a login, in bytes.
const SECRET_BYTES: usize = 32;

/// Maximum length of each text that a browser returns, in bytes.
const TEXT_BYTES_MAX: usize = 8_192;

/// The tokens that a provider returns for a code.
#[derive(Deserialize)]
struct TokenResponse {
    id_token: String,
}

impl Provider {
    /// Starts the login of a browser, which returns to the address `redirect`.
    ///
    /// Errors: [`Error::Redirect`] if `redirect` is neither an HTTPS address nor an HTTP address of
    /// this machine; [`Error::NoAuthorization`]; [`Error::Unreachable`].
    pub async fn start_login(&self, redirect: &str) -> Result<LoginStart> {
        check_url(redirect).map_err(|reason| Error::Redirect { reason })?;
        let discovery = self.discovery().await?;
        let issuer = || Error::NoAuthorization { issuer: self.config().issuer.clone() };
        let endpoint = discovery.authorization_endpoint.ok_or_else(issuer)?;
        let mut url = check_url(&endpoint).map_err(|reason| unusable(&endpoint, reason))?;
        let [state, nonce, verifier] = [secret()?, secret()?, secret()?];
        let challenge = BASE64.encode(digest(&SHA256, verifier.as_bytes()));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config().client_id)
            .append_pair("redirect_uri", redirect)
            .append_pair("scope", &self.config().scopes)
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(LoginStart { address: Url::into(url), state, nonce, verifier })
    }

    /// Exchanges the authorization code that a browser brought back from the provider. Returns the
    /// identity of the person that logged in.
    ///
    /// Errors: [`Error::Refused`] if the provider does not accept the code; [`Error::Token`] if the
    /// provider's token does not belong to this login; [`Error::Unreachable`].
    pub async fn finish_login(
        &self,
        login: &LoginCode,
        now: headwater_model::Timestamp,
    ) -> Result<Identity> {
        let LoginCode { code, redirect, nonce, verifier } = login;
        let texts = [code, redirect, nonce, verifier];
        if texts.iter().any(|text| text.is_empty() || text.len() > TEXT_BYTES_MAX) {
            return Err(Error::Token { reason: "the login is incomplete".into() });
        }
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("client_id", &*self.config().client_id),
            ("code_verifier", verifier),
        ];
        let endpoint = self.discovery().await?.token_endpoint;
        match self.http().post(&endpoint, &form).await?.1 {
            ProviderResponse::Value(TokenResponse { id_token }) => {
                self.verify_login(&id_token, nonce, now).await
            }
            ProviderResponse::Failure { error, error_description } => {
                Err(refused(error, error_description))
            }
        }
    }
}

fn secret() -> Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Error::NoRandom)?;
    Ok(BASE64.encode(bytes))
}

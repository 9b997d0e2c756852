//! Authentication by signature: looks up the secrets of access keys, and determines the principal
//! of a signed request.

use std::time::SystemTime;

use async_trait::async_trait;
use headwater_model::{ErrorCode, Principal};
use headwater_service::S3Operations;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Request, S3Result, s3_error};

use crate::error::s3_error_of;
use crate::protocol::Peer;

/// Maximum lifetime of a presigned URL, as in S3: 7 days.
const PRESIGNED_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// The lookup of the secret of an access key, which `s3s` needs to verify a signature.
pub(crate) struct SecretLookup(pub(crate) S3Operations);

#[async_trait]
impl S3Auth for SecretLookup {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        match self.0.signatures().secret(id).await {
            Ok(secret) => Ok(SecretKey::from(secret.to_string())),
            Err(problem) if problem.code == ErrorCode::Unauthenticated => Err(s3_error!(
                InvalidAccessKeyId,
                "the access key does not exist, has expired or was revoked"
            )),
            Err(problem) => Err(s3_error_of(problem)),
        }
    }
}

/// The check that each request is signed. Adds the principal of the access key that signed a
/// request to the request's extensions. The rights of the principal are checked later.
pub(crate) struct RequestAuthenticator(pub(crate) S3Operations);

#[async_trait]
impl S3Access for RequestAuthenticator {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(credentials) = context.credentials() else {
            return Err(s3_error!(AccessDenied, "the request has no signature"));
        };
        let key = credentials.access_key.clone();
        check_lifetime(context.uri().query().unwrap_or_default())?;
        let peer = context.extensions_mut().get::<Peer>().cloned();
        let address = peer.as_ref().and_then(|peer| peer.address);
        let principal = self.0.signatures().signer(&key, address).await.map_err(s3_error_of)?;
        if let Some(peer) = peer {
            peer.set_signed();
        }
        context.extensions_mut().insert(principal);
        Ok(())
    }
}

/// Rejects a presigned URL that is valid for longer than S3 allows. The URL's signature has already
/// been verified.
fn check_lifetime(query: &str) -> S3Result<()> {
    let value = |name: &str| {
        let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        found.and_then(|text| text.parse::<u64>().ok())
    };
    // Signature version 4 states the duration of the validity, version 2 the time at which it ends.
    let now =
        || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it| it.as_secs());
    let seconds = value("X-Amz-Expires").or_else(|| Some(value("Expires")?.saturating_sub(now())));
    if seconds.is_some_and(|seconds| seconds > PRESIGNED_SECONDS_MAX) {
        let message = "the presigned URL is valid for longer than 7 days";
        return Err(s3_error!(AuthorizationQueryParametersError, "{message}"));
    }
    Ok(())
}

/// Returns the principal of a request; without a valid signature, the anonymous principal.
pub(crate) fn principal<T>(request: &S3Request<T>) -> Principal {
    request.extensions.get::<Principal>().cloned().unwrap_or_else(Principal::anonymous)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presigned_url_is_valid_for_seven_days_at_most() {
        for (query, is_accepted) in [
            ("", true),
            ("X-Amz-Expires=604800&X-Amz-Signature=0", true),
            ("X-Amz-Signature=0&X-Amz-Expires=604801", false),
            ("Expires=1&Signature=0", true),
            ("Signature=0&Expires=99999999999", false),
        ] {
            assert_eq!(check_lifetime(query).is_ok(), is_accepted, "{query}");
        }
    }
}

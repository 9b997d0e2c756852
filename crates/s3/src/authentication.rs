//! Signatures: the secrets of access keys, and the principal of a signed request.

use async_trait::async_trait;
use headwater_model::{ErrorCode, Principal};
use headwater_service::S3Operations;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Request, S3Result, s3_error};

use crate::error::s3_error_of;
use crate::protocol::Peer;

/// The secrets of access keys.
pub(crate) struct KeyAuth(pub(crate) S3Operations);

#[async_trait]
impl S3Auth for KeyAuth {
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

/// The check of each request: adds the principal of the signature to the request's extensions.
pub(crate) struct SignerAccess(pub(crate) S3Operations);

#[async_trait]
impl S3Access for SignerAccess {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(credentials) = context.credentials() else {
            return Err(s3_error!(AccessDenied, "the request has no signature"));
        };
        let key = credentials.access_key.clone();
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

/// Returns the principal of a request; without a valid signature, a principal without rights.
pub(crate) fn principal<T>(request: &S3Request<T>) -> Principal {
    request.extensions.get::<Principal>().cloned().unwrap_or_else(Principal::anonymous)
}

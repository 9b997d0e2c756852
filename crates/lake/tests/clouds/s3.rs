//! An S3 server in this process. Its buckets are folders, and its objects are files.

use std::io::Error;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use hyper::{Method, Request};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError};
use s3s_fs::FileSystem;
use tokio::sync::Mutex;

use crate::fault_proxy::{Answer, FaultProxy, refusal};

pub const KEY: &str = "headwater";
pub const SECRET: &str = "a secret of this test alone";

/// The server, which runs until the process ends.
pub struct S3 {
    front: FaultProxy,
}

impl Deref for S3 {
    type Target = FaultProxy;

    fn deref(&self) -> &FaultProxy {
        &self.front
    }
}

impl S3 {
    /// Serves the folders in `root` as buckets.
    pub fn start(root: &Path) -> S3 {
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root).expect("what a test needs"));
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let (service, turn) = (builder.build(), Arc::new(Mutex::new(())));
        let front = FaultProxy::start(Arc::new(move |request| {
            let (service, turn) = (service.clone(), turn.clone());
            Box::pin(async move {
                // The server checks and writes in two steps. Without a lock, two writers could both
                // find that the object does not exist.
                let conditional = request.headers().contains_key(IF_NONE_MATCH);
                let _turn = if conditional { Some(turn.lock().await) } else { None };
                answer(&service, request).await
            })
        }));
        S3 { front }
    }

    /// Returns the server for a folder, and starts it if it is not running. Several processes may
    /// call this function.
    pub fn of(root: &Path) -> S3 {
        let note = root.join("s3.address");
        if let Ok(address) = std::fs::read_to_string(&note) {
            return S3 { front: FaultProxy::at(address.parse().expect("what a test needs")) };
        }
        let s3 = S3::start(root);
        std::fs::write(note, s3.address().to_string()).expect("what a test needs");
        s3
    }

    /// Returns the environment variables that make a client use this server.
    pub fn variables(&self) -> [(String, String); 5] {
        [
            ("AWS_ACCESS_KEY_ID".to_owned(), KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), SECRET.to_owned()),
            ("AWS_REGION".to_owned(), "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL".to_owned(), format!("http://{}", self.address())),
            ("AWS_ALLOW_HTTP".to_owned(), "true".to_owned()),
        ]
    }
}

async fn answer(service: &S3Service, request: Request<Bytes>) -> Answer {
    let wanted =
        request.headers().get(IF_MATCH).filter(|_| request.method() == Method::GET).cloned();
    let answer = service
        .call(request.map(Body::from))
        .await
        .map_err(|error: HttpError| Error::other(format!("{error:?}")))?;
    // The server behind the proxy does not check this precondition.
    if wanted.is_some_and(|wanted| answer.headers().get(ETAG) != Some(&wanted)) {
        return Ok(refusal(412, "PreconditionFailed"));
    }
    let (parts, mut body) = answer.into_parts();
    let bytes = body.store_all_limited(usize::MAX).await.map_err(Error::other)?;
    Ok(hyper::Response::from_parts(parts, bytes))
}

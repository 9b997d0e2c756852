//! A common interface to the cloud object stores. Each store has a bucket `lakes` and can inject
//! faults.

use std::io::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use headwater_lake::{CloudSettings, StoreTimeouts};
use headwater_tables::CloudUrl;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::handshake;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use object_store::ObjectStore;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::emulator::{Emulator, azurite_variables};
use crate::fault_proxy::{Answer, Fault, FaultProxy};
use crate::google::Google;
use crate::s3::S3;

/// A function that starts a server.
type Start = fn() -> Provider;

/// The cloud providers. Each test starts its own server.
pub const ALL: [(&str, Start); 3] =
    [("s3", Provider::s3), ("google", Provider::google), ("azure", Provider::azure)];

/// The object store of one cloud provider.
pub struct Provider {
    server: Server,
    scheme: &'static str,
    variables: Vec<(String, String)>,
    pub words: Words,
}

enum Server {
    S3(TempDir, S3),
    Google(Google),
    /// Azurite behind a proxy that injects faults.
    Azure(FaultProxy, #[expect(dead_code, reason = "ends when it is dropped")] Emulator),
}

/// The differences between providers in the tests: error responses and requests. A request is given
/// by its method and a part of its URL.
pub struct Words {
    pub expired: Fault,
    pub taken: Fault,
    /// The request that begins a multipart upload, if the provider has such a request.
    pub begin_parts: Option<(&'static str, &'static str)>,
    pub part: (&'static str, &'static str),
    pub end_parts: (&'static str, &'static str),
}

/// Google's XML API uses the same requests as S3.
const S3_WORDS: Words = Words {
    expired: Fault::Answer(403, "ExpiredToken"),
    taken: Fault::Answer(412, "PreconditionFailed"),
    begin_parts: Some(("POST", "uploads")),
    part: ("PUT", "partNumber="),
    end_parts: ("POST", "uploadId="),
};

const AZURE_WORDS: Words = Words {
    expired: Fault::Answer(403, "AuthenticationFailed"),
    taken: Fault::Answer(409, "BlobAlreadyExists"),
    begin_parts: None,
    part: ("PUT", "comp=block&"),
    end_parts: ("PUT", "comp=blocklist"),
};

impl Provider {
    fn s3() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lakes")).unwrap();
        let s3 = S3::start(folder.path());
        let variables = s3.variables().into();
        Provider { server: Server::S3(folder, s3), scheme: "s3", variables, words: S3_WORDS }
    }

    fn google() -> Self {
        let google = Google::start();
        let variables = google.variables();
        Provider { server: Server::Google(google), scheme: "gs", variables, words: S3_WORDS }
    }

    fn azure() -> Self {
        let emulator = Emulator::azurite("lakes");
        let behind = emulator.address();
        let front =
            FaultProxy::start(Arc::new(move |request| Box::pin(hand_on(behind.clone(), request))));
        let variables = azurite_variables(&front.address().to_string()).into();
        let server = Server::Azure(front, emulator);
        Provider { server, scheme: "az", variables, words: AZURE_WORDS }
    }

    /// Returns the server that injects faults.
    pub fn front(&self) -> &FaultProxy {
        match &self.server {
            Server::S3(_, s3) => s3,
            Server::Google(google) => &google.front,
            Server::Azure(front, _) => front,
        }
    }

    /// Returns the URL of a key in the bucket.
    pub fn url(&self, key: &str) -> String {
        format!("{}://lakes/{key}", self.scheme)
    }

    /// Returns the settings that make a client use the provider.
    pub fn settings(&self) -> CloudSettings {
        CloudSettings::new(self.variables.clone())
    }

    /// Returns these settings with a short timeout.
    pub fn hurried(&self, total: Duration) -> CloudSettings {
        let request = (total / 2).clamp(Duration::from_millis(400), Duration::from_secs(1));
        self.settings().with_timeouts(StoreTimeouts { request, total })
    }

    /// Returns the object store for the whole bucket.
    pub fn bucket(&self) -> Arc<dyn ObjectStore> {
        CloudUrl::parse(&self.url("")).unwrap().open_bucket(&self.settings()).unwrap()
    }

    /// Lists the objects in the bucket and the open uploads. Azure does not list open uploads, and
    /// deletes them itself.
    pub async fn contents(&self) -> Vec<String> {
        let objects = self.bucket().list(None).map_ok(|object| object.location.to_string());
        let mut found: Vec<String> = objects.try_collect().await.unwrap();
        match &self.server {
            Server::S3(folder, _) => found.extend(parts_in(folder.path())),
            Server::Google(google) => found.extend(google.uploads()),
            Server::Azure(..) => {}
        }
        found
    }
}

/// Lists the parts of open uploads in the folder of the S3 server.
fn parts_in(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.contains("upload")).collect()
}

/// Forwards a request to the server behind the proxy.
async fn hand_on(address: String, request: Request<Bytes>) -> Answer {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(Error::other)?;
    tokio::spawn(connection);
    let answer = sender.send_request(request.map(Full::new)).await.map_err(Error::other)?;
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.map_err(Error::other)?.to_bytes();
    Ok(Response::from_parts(parts, body))
}

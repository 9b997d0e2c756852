//! Client of the HTTP API: one connection per request, over a Unix socket or to a URL.

use bytes::Bytes;
use headwater_model::{ErrorCode, Job, Problem};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::endpoint::Endpoint;
use crate::error::{self, Result};

/// The response header that contains the job id of a query.
pub const JOB_HEADER: &str = "x-headwater-job";

/// The number of bytes of a file that are sent per chunk.
const PART_BYTES: usize = 256 << 10;

/// A client of one lake's server.
pub struct ApiClient {
    endpoint: Endpoint,
    author: String,
    /// The in-process server, if any. It runs as long as this client exists.
    inner: Option<headwater_server::ServerHandle>,
}

impl ApiClient {
    /// Creates a client of a server.
    pub fn new(endpoint: Endpoint, author: &str) -> Self {
        ApiClient { endpoint, author: author.to_owned(), inner: None }
    }

    /// Attaches an in-process server to the client.
    pub fn with_server(self, server: headwater_server::ServerHandle) -> Self {
        ApiClient { inner: Some(server), ..self }
    }

    /// Shuts an in-process server down. Does nothing for a background server.
    pub async fn close(self) {
        if let Some(server) = self.inner {
            server.shutdown().await;
        }
    }

    /// Sends a request. Converts an error response to an error.
    pub async fn send(&self, call: ApiRequest) -> Result<Response<Incoming>> {
        self.checked(self.exchange(call).await?).await
    }

    /// Sends a request that the server runs as a job. Returns the job id, if the response has one,
    /// and the response.
    pub async fn send_as_job(
        &self,
        call: ApiRequest,
    ) -> Result<(Option<String>, Result<Response<Incoming>>)> {
        let response = self.exchange(call).await?;
        let job = response.headers().get(JOB_HEADER).and_then(|job| job.to_str().ok());
        Ok((job.map(str::to_owned), self.checked(response).await))
    }

    async fn exchange(&self, call: ApiRequest) -> Result<Response<Incoming>> {
        let stream = self.endpoint.open().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(error::unexpected)?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(call.method)
            .uri(&call.path)
            .header("host", self.endpoint.host())
            .header("accept", call.accept)
            .header("content-type", call.content_type)
            .header("x-headwater-author", &self.author);
        if let Some(authorization) = self.endpoint.authorization() {
            request = request.header("authorization", authorization);
        }
        let request = request.body(call.body).map_err(error::unexpected)?;
        sender.send_request(request).await.map_err(|failure| lost_response(failure.to_string()))
    }

    /// Returns the response. Converts an error response to the problem in its body.
    async fn checked(&self, response: Response<Incoming>) -> Result<Response<Incoming>> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let problem = problem_of(status.as_u16(), &collect(response).await?);
        Err(match (problem.code, self.endpoint.url()) {
            // Replace the server's hint, because that hint is for programs that send requests.
            (ErrorCode::Unauthenticated, Some(url)) => problem.with_hint(format!(
                "Run `headwater login {url}` with a valid token; the user may be disabled, or the \
                 token revoked."
            )),
            _ => problem,
        })
    }

    /// Sends a `GET` request and parses the JSON response.
    pub async fn get<T: DeserializeOwned>(&self, path: impl Into<String>) -> Result<T> {
        read_json(self.send(ApiRequest::get(path)).await?).await
    }

    /// Sends a request with a JSON body; parses the JSON response.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: impl Into<String>,
        body: &impl Serialize,
    ) -> Result<T> {
        read_json(self.send(ApiRequest::get(path).method(method).json(body)?).await?).await
    }

    /// Sends a `POST` request with a JSON body and parses the JSON response.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: impl Into<String>,
        body: &impl Serialize,
    ) -> Result<T> {
        self.call(Method::POST, path, body).await
    }

    /// Sends a file in a `POST` request and parses the JSON response.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: impl Into<String>,
        file: tokio::fs::File,
    ) -> Result<T> {
        read_json(self.send(ApiRequest::get(path).method(Method::POST).file(file)).await?).await
    }

    /// Sends a `DELETE` request and ignores the response body.
    pub async fn delete(&self, path: impl Into<String>) -> Result<()> {
        self.send(ApiRequest::get(path).method(Method::DELETE)).await.map(drop)
    }

    /// Gets the current state of a job.
    pub async fn job(&self, id: &str) -> Result<Job> {
        self.get(format!("/v1/jobs/{}", segment(id))).await
    }
}

/// A request to the HTTP API.
pub struct ApiRequest {
    method: Method,
    path: String,
    accept: &'static str,
    content_type: &'static str,
    body: UnsyncBoxBody<Bytes, std::io::Error>,
}

impl ApiRequest {
    /// Creates a `GET` request for a path with its query string.
    pub fn get(path: impl Into<String>) -> Self {
        let json = "application/json";
        let (path, body) = (path.into(), whole(Vec::new()));
        ApiRequest { method: Method::GET, path, accept: json, content_type: json, body }
    }

    /// Sets the method.
    pub fn method(self, method: Method) -> Self {
        ApiRequest { method, ..self }
    }

    /// Sets the accepted media type.
    pub fn accept(self, accept: &'static str) -> Self {
        ApiRequest { accept, ..self }
    }

    /// Sets a JSON body.
    pub fn json(self, body: &impl Serialize) -> Result<Self> {
        Ok(ApiRequest { body: whole(serde_json::to_vec(body).map_err(error::unexpected)?), ..self })
    }

    /// Sets a file as the body. The file is streamed, not read into memory.
    pub fn file(self, file: tokio::fs::File) -> Self {
        let parts = futures::stream::try_unfold(file, |mut file| async move {
            let mut part = bytes::BytesMut::with_capacity(PART_BYTES);
            let read = tokio::io::AsyncReadExt::read_buf(&mut file, &mut part).await?;
            Ok((read > 0).then(|| (Frame::data(part.freeze()), file)))
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(parts));
        ApiRequest { content_type: "application/octet-stream", body, ..self }
    }
}

/// Returns a body that consists of these bytes.
fn whole(bytes: Vec<u8>) -> UnsyncBoxBody<Bytes, std::io::Error> {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

/// Returns the problem in the body of an error response.
pub fn problem_of(status: u16, body: &[u8]) -> Problem {
    serde_json::from_slice::<Problem>(body)
        .unwrap_or_else(|_| error::unexpected(format!("HTTP status {status}")))
}

/// Returns the error for a request that may have been executed, but whose response is lost.
pub fn lost_response(cause: String) -> Problem {
    let message = "the lake's server stopped before it responded";
    let mut problem = Problem::new(ErrorCode::Unavailable, message);
    problem.causes.push(cause);
    problem.with_hint(
        "The command may have made its change: check this before you run the command again.",
    )
}

/// Returns the error for a response that ends early, because the server or the network failed.
pub fn truncated_response() -> Problem {
    Problem::new(ErrorCode::Unavailable, "the server's response was cut off")
        .with_hint("Run the command again.")
}

/// Reads the whole body of a response.
pub async fn collect(response: Response<Incoming>) -> Result<Bytes> {
    let body = response.into_body().collect().await.map_err(|_| truncated_response())?;
    Ok(body.to_bytes())
}

async fn read_json<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T> {
    let body = collect(response).await?;
    let text: &[u8] = if body.is_empty() { b"null" } else { &body };
    serde_json::from_slice(text).map_err(error::unexpected)
}

/// Percent-encodes text as one path segment or query value.
pub fn segment(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn names_with_slashes_are_one_segment() {
        assert_eq!(segment("feature/x"), "feature%2Fx");
        assert_eq!(segment("main@3fa9c1d2"), "main%403fa9c1d2");
    }
}

//! Requests to function URLs: authentication, the call, and CORS (rules for other origins).

use std::net::IpAddr;

use bytes::Bytes;
use chrono::Utc;
use headwater_model::{ErrorCode, Principal, Problem};
use headwater_service::{
    Argument, ArgumentValue, CallInput, Cors, FunctionUrl, InvokeMode, JobContext,
    OptionalCallParts, ResultKind, UrlAuth,
};
use http::header::{HeaderName, ORIGIN, VARY};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::Value;

use crate::function_name::FunctionName;
use crate::invoke::{EVENT, EVENT_BYTES_MAX, encode, is_of_function};
use crate::protocol::{LambdaApi, REQUEST_ID};
use crate::request::decode;
use crate::response_body::LambdaResponseBody;
use crate::signature::{LAMBDA, Signature};
use crate::streamed_call::{ClientInput, StreamedCall};
use crate::url_config::URL_ROOT;
use crate::url_event::UrlRequest;
use crate::url_response::{failure, invalid_response, response};
use crate::url_stream::{StreamFailure, respond};

const REQUESTED_METHOD: HeaderName = HeaderName::from_static("access-control-request-method");
const ALLOW_ORIGIN: HeaderName = HeaderName::from_static("access-control-allow-origin");

/// The author of calls without a signature. These calls have the rights of the identity that
/// configured the URL.
const ANONYMOUS: &str = "anonymous";

/// The function URL that a request addresses.
pub struct UrlTarget {
    name: FunctionName,
    url: FunctionUrl,
    /// The path below the URL.
    path: String,
}

impl LambdaApi {
    /// Returns the function URL that a request addresses. Called before the body is read. An error
    /// is the response to send; it is the same for missing functions and functions without access.
    /// `is_foreign` is true for a request from a page of another origin, which the CORS rules of
    /// the URL must allow.
    pub async fn find_url(
        &self,
        parts: &Parts,
        address: Option<IpAddr>,
        is_foreign: bool,
    ) -> Result<UrlTarget, Response<Bytes>> {
        let forbidden = || failure(StatusCode::FORBIDDEN);
        let (name, path) = split(parts.uri.path()).ok_or_else(forbidden)?;
        let name = FunctionName::parse(&name).map_err(|_| forbidden())?;
        let functions = self.service.invocations().standalone();
        let url = functions.url(&name.name, name.qualifier.as_deref()).await;
        let url = url.map_err(|problem| failed(&problem))?.ok_or_else(forbidden)?;
        if let Some(preflight) = preflight(parts, url.cors.as_ref()) {
            return Err(preflight);
        }
        let allowed = url.cors.as_ref().and_then(|cors| allowed_origin(parts, cors));
        if is_foreign && allowed.is_none() {
            return Err(forbidden());
        }
        if url.auth == UrlAuth::Iam {
            let signature = Signature::read(parts, LAMBDA, Utc::now()).map_err(|_| forbidden())?;
            self.secret(&signature.key, address).await.map_err(|_| forbidden())?;
        }
        Ok(UrlTarget { name, url, path })
    }

    /// Calls the function of a URL with a request.
    pub async fn call_url(
        &self,
        target: UrlTarget,
        request: Request<Bytes>,
        address: Option<IpAddr>,
    ) -> Response<LambdaResponseBody> {
        let (parts, body) = request.into_parts();
        if body.len() > EVENT_BYTES_MAX {
            return failure(StatusCode::PAYLOAD_TOO_LARGE).map(LambdaResponseBody::from);
        }
        let cors = target.url.cors.clone();
        let called = self.call_target(target, &parts, &body, address).await;
        let mut response =
            called.unwrap_or_else(|status| failure(status).map(LambdaResponseBody::from));
        if let Some(cors) = &cors {
            allow_origin(&parts, cors, &mut response);
        }
        response
    }

    async fn call_target(
        &self,
        target: UrlTarget,
        parts: &Parts,
        body: &Bytes,
        address: Option<IpAddr>,
    ) -> Result<Response<LambdaResponseBody>, StatusCode> {
        let UrlTarget { name, url, path } = target;
        let (principal, signer) = match url.auth {
            UrlAuth::None => {
                let principal = url.actor.principal().with_author(Some(ANONYMOUS.to_owned()));
                (principal.with_address(address), None)
            }
            UrlAuth::Iam => {
                let principal = self.authenticate(parts, body, address).await;
                let principal = principal.map_err(|_| StatusCode::FORBIDDEN)?;
                let key = Signature::read(parts, LAMBDA, Utc::now()).map(|signature| signature.key);
                let signer = (principal.author().to_owned(), key.unwrap_or_default());
                (principal, Some(signer))
            }
        };
        let (id, scheme) = (uuid::Uuid::new_v4(), self.scheme);
        let function = name.name.as_str();
        let request =
            UrlRequest { parts, body, path: &path, address, signer, scheme, function, id };
        let event = request.event(Utc::now());
        if url.mode == InvokeMode::ResponseStream {
            return self.stream_url(&principal, &name, event).await;
        }
        let response = self.invoke_url(&principal, &name, ArgumentValue::Json(event)).await?;
        Ok(response.map(LambdaResponseBody::from))
    }

    /// Calls a function, and returns its output while it runs.
    async fn stream_url(
        &self,
        principal: &Principal,
        name: &FunctionName,
        event: Value,
    ) -> Result<Response<LambdaResponseBody>, StatusCode> {
        let function = self.service.invocations().find(principal, &name.called()).await;
        let function = function.map_err(|problem| status_of(&problem))?;
        let input = ClientInput { event, context: None, check: invalid_response };
        let call = StreamedCall::new(&self.service, principal, function, input);
        respond(call).await.map_err(|failure| match failure {
            StreamFailure::Problem(problem) => status_of(&problem),
            StreamFailure::Invalid => StatusCode::BAD_GATEWAY,
        })
    }

    async fn invoke_url(
        &self,
        principal: &Principal,
        name: &FunctionName,
        value: ArgumentValue,
    ) -> Result<Response<Bytes>, StatusCode> {
        let invocations = self.service.invocations();
        let function = invocations.find(principal, &name.called()).await;
        let function = function.map_err(|problem| status_of(&problem))?;
        let arguments = vec![Argument { name: EVENT.to_owned(), value }];
        let client = OptionalCallParts::default();
        let returns = ResultKind::Any;
        let input = CallInput { arguments, returns, client, permit: None, started: None };
        let encode = |returned, job: JobContext| async move {
            let result = encode(returned).await?;
            if let Some(line) = invalid_response(&result) {
                job.log_system(line);
            }
            Ok::<_, Problem>(result)
        };
        let ended = invocations.call(principal, function, input, encode).await;
        let ended = ended.map_err(|problem| status_of(&problem))?;
        let returned = ended.result.map_err(|problem| status_of(&problem))?;
        let mut response = response(&returned).map_err(|_| StatusCode::BAD_GATEWAY)?;
        if let Ok(id) = HeaderValue::from_str(&ended.job.to_string()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        Ok(response)
    }
}

/// Splits a path into the name of the function and the path below its URL, which stays
/// percent-encoded.
fn split(path: &str) -> Option<(String, String)> {
    let rest = path.strip_prefix('/')?.strip_prefix(URL_ROOT)?.strip_prefix('/')?;
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    (!name.is_empty()).then(|| (decode(name), format!("/{path}")))
}

fn failed(problem: &Problem) -> Response<Bytes> {
    failure(status_of(problem))
}

/// Returns the status of a request that failed. Messages of problems are not sent, because any
/// client may call the URL.
fn status_of(problem: &Problem) -> StatusCode {
    match problem.code {
        ErrorCode::Forbidden | ErrorCode::Unauthenticated | ErrorCode::FunctionNotFound => {
            StatusCode::FORBIDDEN
        }
        ErrorCode::TooBusy => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        code if is_of_function(code) => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Returns the response to a CORS preflight request of a browser; `None` for other requests.
fn preflight(parts: &Parts, cors: Option<&Cors>) -> Option<Response<Bytes>> {
    let cors = cors?;
    if parts.method != Method::OPTIONS || !parts.headers.contains_key(REQUESTED_METHOD) {
        return None;
    }
    let mut response = Response::new(Bytes::new());
    if allow_origin(parts, cors, &mut response) {
        let headers = response.headers_mut();
        for (name, list) in [
            ("access-control-allow-methods", &cors.allow_methods),
            ("access-control-allow-headers", &cors.allow_headers),
        ] {
            let list = list.as_ref().map(|list| HeaderValue::from_str(&list.join(",")));
            if let Some(Ok(value)) = list {
                headers.insert(name, value);
            }
        }
        if let Some(seconds) = cors.max_age {
            headers.insert("access-control-max-age", HeaderValue::from(seconds));
        }
    }
    Some(response)
}

/// Returns the value of `access-control-allow-origin`: the request's origin and true if the rules
/// list it, or `*` and false if they allow all origins. `None` if they do not allow the origin.
fn allowed_origin(parts: &Parts, cors: &Cors) -> Option<(HeaderValue, bool)> {
    let origins = cors.allow_origins.as_deref().unwrap_or_default();
    let origin = parts.headers.get(ORIGIN)?;
    if origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
        return Some((origin.clone(), true));
    }
    // With the answer `*`, a browser sends no cookies, so that no page can act for a logged-in
    // user.
    let allows_all = origins.iter().any(|origin| origin == "*");
    allows_all.then(|| (HeaderValue::from_static("*"), false))
}

/// Adds the CORS headers for a page of an allowed origin. Returns false if the origin is not
/// allowed.
fn allow_origin<B>(parts: &Parts, cors: &Cors, response: &mut Response<B>) -> bool {
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("origin"));
    let Some((value, is_listed)) = allowed_origin(parts, cors) else { return false };
    headers.insert(ALLOW_ORIGIN, value);
    if is_listed && cors.allow_credentials == Some(true) {
        let yes = HeaderValue::from_static("true");
        headers.insert("access-control-allow-credentials", yes);
    }
    let exposed = cors.expose_headers.as_ref().map(|list| HeaderValue::from_str(&list.join(",")));
    if let Some(Ok(value)) = exposed {
        headers.insert("access-control-expose-headers", value);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_function_and_the_rest_stays_as_sent() {
        for (path, name, rest) in [
            ("/lambda-url/price", "price", "/"),
            ("/lambda-url/price/", "price", "/"),
            ("/lambda-url/price%3Alive/a%2Fb/", "price:live", "/a%2Fb/"),
        ] {
            assert_eq!(split(path), Some((name.to_owned(), rest.to_owned())), "{path}");
        }
        for path in ["/lambda-url", "/lambda-url/", "/lambda-url//a", "/lambda-urls/a", ""] {
            assert_eq!(split(path), None, "{path}");
        }
    }

    #[test]
    fn only_listed_origins_may_send_cookies() {
        let cors = |origins: &[&str]| Cors {
            allow_credentials: Some(true),
            allow_origins: Some(origins.iter().map(ToString::to_string).collect()),
            allow_methods: Some(vec!["GET".into(), "POST".into()]),
            max_age: Some(60),
            ..Cors::default()
        };
        let parts = |origin: &str| {
            let request = http::Request::options("/").header(ORIGIN, origin);
            let request = request.header(REQUESTED_METHOD, "GET");
            request.body(()).expect("a request").into_parts().0
        };
        let listed = cors(&["https://a.example"]);
        let answer = preflight(&parts("https://a.example"), Some(&listed)).expect("an answer");
        assert_eq!(answer.headers()[ALLOW_ORIGIN], "https://a.example");
        assert_eq!(answer.headers()["access-control-allow-credentials"], "true");
        assert_eq!(answer.headers()["access-control-allow-methods"], "GET,POST");
        let other = preflight(&parts("https://b.example"), Some(&listed)).expect("an answer");
        assert_eq!(other.headers().get(ALLOW_ORIGIN), None);
        let all = preflight(&parts("https://b.example"), Some(&cors(&["*"]))).expect("an answer");
        assert_eq!(all.headers()[ALLOW_ORIGIN], "*");
        assert_eq!(all.headers().get("access-control-allow-credentials"), None);
        assert!(preflight(&parts("https://a.example"), None).is_none());
    }
}

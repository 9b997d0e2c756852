//! The entry point: takes an HTTP request and returns its response.

use std::net::IpAddr;

use bytes::Bytes;
use chrono::Utc;
use headwater_model::{ErrorCode, Principal};
use headwater_service::{S3Operations, Service};
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::Value;

use crate::error::{LambdaError, Result};
use crate::request::{LambdaRequest, parse_query};
use crate::response_body::LambdaResponseBody;
use crate::route::Operation;
use crate::signature::{LAMBDA, Signature};
use crate::{
    account_settings, alias, event_invoke_config, function, invoke, invoke_stream, permission,
    provisioned_concurrency, reserved_concurrency, tags, url_config,
};

/// The first path segments of all routes.
pub const ROOTS: [&str; 11] = [
    "2014-11-13",
    "2015-03-31",
    "2016-08-19",
    "2017-03-31",
    "2017-10-31",
    "2018-10-31",
    "2019-09-25",
    "2019-09-30",
    "2020-06-30",
    "2021-10-31",
    "2021-11-15",
];

/// Maximum length of a body in bytes: an archive in Base64, with other fields.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// The header with the id of a request.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// The Lambda API on top of a service. Cheap to clone.
#[derive(Clone)]
pub struct LambdaApi {
    pub(crate) service: Service,
    /// The scheme of URLs: `http` or `https`.
    pub(crate) scheme: &'static str,
}

impl LambdaApi {
    /// Creates the API. The URLs of functions begin with `scheme`.
    pub fn new(service: &Service, scheme: &'static str) -> Self {
        LambdaApi { service: service.clone(), scheme }
    }

    /// Returns an error response if the request's access key is unknown. The server then need not
    /// read the body.
    pub async fn reject_unknown(
        &self,
        parts: &Parts,
        address: Option<IpAddr>,
    ) -> Option<Response<Bytes>> {
        let checked = self.check_key(parts, LAMBDA, address).await;
        checked.err().map(|error| with_id(error.response()))
    }

    /// Checks that the access key of a request is known. `service` is the service name that the
    /// signature must contain.
    pub(crate) async fn check_key(
        &self,
        parts: &Parts,
        service: &str,
        address: Option<IpAddr>,
    ) -> Result<()> {
        let signature = Signature::read(parts, service, Utc::now())?;
        self.secret(&signature.key, address).await.map(drop)
    }

    /// Answers a request. A wrong signature is recorded in the audit log.
    pub async fn call(
        &self,
        request: Request<Bytes>,
        address: Option<IpAddr>,
    ) -> Response<LambdaResponseBody> {
        let (parts, body) = request.into_parts();
        with_id(match self.answer(parts, body, address).await {
            Ok(response) => response,
            Err(error) => error.response().map(LambdaResponseBody::from),
        })
    }

    /// Returns the response to a body of more than `bytes_max` bytes.
    pub fn too_long(bytes_max: usize) -> Response<Bytes> {
        with_id(invoke::too_large(bytes_max).response())
    }

    async fn answer(
        &self,
        parts: Parts,
        body: Bytes,
        address: Option<IpAddr>,
    ) -> Result<Response<LambdaResponseBody>> {
        let principal = self.authenticate(&parts, &body, address).await?;
        let operation = Operation::of(&parts.method, parts.uri.path())?;
        let query = parse_query(parts.uri.query().unwrap_or_default());
        let scheme = self.scheme;
        let request = LambdaRequest { principal, scheme, query, headers: parts.headers, body };
        if let Operation::InvokeStream(name) = operation {
            return invoke_stream::invoke(&self.service, &request, name).await;
        }
        Ok(self.execute(operation, &request).await?.map(LambdaResponseBody::from))
    }

    pub(crate) async fn authenticate(
        &self,
        parts: &Parts,
        body: &Bytes,
        address: Option<IpAddr>,
    ) -> Result<Principal> {
        self.authenticate_for(LAMBDA, parts, body, address).await
    }

    /// Verifies the signature of a request. `service` is the name that must be signed.
    pub(crate) async fn authenticate_for(
        &self,
        service: &str,
        parts: &Parts,
        body: &Bytes,
        address: Option<IpAddr>,
    ) -> Result<Principal> {
        let signature = Signature::read(parts, service, Utc::now())?;
        let secret = self.secret(&signature.key, address).await?;
        let signatures = S3Operations::of(&self.service).signatures();
        if let Err(error) = signature.verify(parts, body, &secret) {
            signatures.record_failure(&signature.key, address);
            return Err(error);
        }
        Ok(signatures.signer(&signature.key, address).await?)
    }

    pub(crate) async fn secret(&self, key: &str, address: Option<IpAddr>) -> Result<String> {
        let signatures = S3Operations::of(&self.service).signatures();
        match signatures.secret(key).await {
            Ok(secret) => Ok(secret.to_string()),
            Err(problem) if problem.code == ErrorCode::Unauthenticated => {
                signatures.record_failure(key, address);
                let message = "The security token included in the request is invalid.";
                Err(LambdaError::new(403, "UnrecognizedClientException", message))
            }
            Err(problem) => Err(problem.into()),
        }
    }

    async fn execute(
        &self,
        operation: Operation,
        request: &LambdaRequest,
    ) -> Result<Response<Bytes>> {
        use Operation as Op;
        let service = &self.service;
        let answer = match operation {
            Op::Invoke(name) => return invoke::invoke(service, request, name).await,
            Op::InvokeAsync(name) => return invoke::invoke_async(service, request, name).await,
            Op::CreateFunction => return Ok(created(&function::create(service, request).await?)),
            Op::PublishVersion(name) => {
                return Ok(created(&function::publish(service, request, name).await?));
            }
            Op::CreateAlias(name) => {
                return Ok(created(&alias::create(service, request, name).await?));
            }
            Op::ListFunctions => function::list(service, request).await?,
            Op::GetFunction(name) => function::get(service, request, name).await?,
            Op::DeleteFunction(name) => {
                return Ok(no_content(function::delete(service, request, name).await?));
            }
            Op::GetConfiguration(name) => {
                function::configuration_by_name(service, request, name).await?
            }
            Op::UpdateConfiguration(name) => {
                function::update_configuration(service, request, name).await?
            }
            Op::UpdateCode(name) => function::update_code(service, request, name).await?,
            Op::ListVersions(name) => function::list_versions(service, request, name).await?,
            Op::ListAliases(name) => alias::list(service, request, name).await?,
            Op::GetAlias(name, alias) => alias::get(service, request, name, &alias).await?,
            Op::UpdateAlias(name, alias) => alias::update(service, request, name, alias).await?,
            Op::DeleteAlias(name, alias) => {
                return Ok(no_content(alias::delete(service, request, name, alias).await?));
            }
            other => return self.execute_settings(other, request).await,
        };
        Ok(json(StatusCode::OK, &answer))
    }

    /// Executes the operations on settings that belong to a function rather than to a version.
    async fn execute_settings(
        &self,
        operation: Operation,
        request: &LambdaRequest,
    ) -> Result<Response<Bytes>> {
        use Operation as Op;
        let service = &self.service;
        let answer = match operation {
            Op::PutConcurrency(name) => reserved_concurrency::put(service, request, name).await?,
            Op::GetConcurrency(name) => reserved_concurrency::get(service, request, name).await?,
            Op::DeleteConcurrency(name) => {
                return Ok(no_content(reserved_concurrency::delete(service, request, name).await?));
            }
            Op::Tag(name) => return Ok(no_content(tags::tag(service, request, name).await?)),
            Op::Untag(name) => return Ok(no_content(tags::untag(service, request, name).await?)),
            Op::ListTags(name) => tags::list(service, request, name).await?,
            Op::GetCodeSigning(name) => function::code_signing(service, request, name).await?,
            Op::AccountSettings => account_settings::settings(service, request).await?,
            other => return Box::pin(self.execute_qualifier(other, request)).await,
        };
        Ok(json(StatusCode::OK, &answer))
    }

    /// Executes the operations on settings of a version or alias.
    async fn execute_qualifier(
        &self,
        operation: Operation,
        request: &LambdaRequest,
    ) -> Result<Response<Bytes>> {
        use Operation as Op;
        let service = &self.service;
        let answer = match operation {
            Op::CreateUrl(name) => {
                return Ok(created(&url_config::create(service, request, name).await?));
            }
            Op::GetUrl(name) => url_config::get(service, request, name).await?,
            Op::UpdateUrl(name) => url_config::update(service, request, name).await?,
            Op::DeleteUrl(name) => {
                return Ok(no_content(url_config::delete(service, request, name).await?));
            }
            Op::ListUrls(name) => url_config::list(service, request, name).await?,
            Op::PutInvokeConfig(name) => event_invoke_config::put(service, request, name).await?,
            Op::GetInvokeConfig(name) => event_invoke_config::get(service, request, name).await?,
            Op::UpdateInvokeConfig(name) => {
                event_invoke_config::update(service, request, name).await?
            }
            Op::DeleteInvokeConfig(name) => {
                return Ok(no_content(event_invoke_config::delete(service, request, name).await?));
            }
            Op::ListInvokeConfigs(name) => {
                event_invoke_config::list(service, request, name).await?
            }
            Op::PutProvisioned(name) => {
                let answer = provisioned_concurrency::put(service, request, name).await?;
                return Ok(json(StatusCode::ACCEPTED, &answer));
            }
            Op::GetProvisioned(name) => {
                provisioned_concurrency::get(service, request, name).await?
            }
            Op::DeleteProvisioned(name) => {
                return Ok(no_content(
                    provisioned_concurrency::delete(service, request, name).await?,
                ));
            }
            Op::AddPermission(name) => {
                return Ok(created(&permission::add(service, request, name).await?));
            }
            Op::RemovePermission(name, id) => {
                return Ok(no_content(permission::remove(service, request, name, id).await?));
            }
            Op::GetPolicy(name) => permission::get(service, request, name).await?,
            Op::Layers(operation) => {
                let status = operation.status();
                let answer = operation.execute(service, request).await?;
                let is_empty = status == StatusCode::NO_CONTENT;
                return Ok(if is_empty { no_content(()) } else { json(status, &answer) });
            }
            Op::Mappings(operation) => {
                let status = operation.status();
                let answer = Box::pin(operation.execute(service, request)).await?;
                return Ok(json(status, &answer));
            }
            _ => {
                let message = "The operation is not supported.";
                return Err(LambdaError::new(404, "UnknownOperationException", message));
            }
        };
        Ok(json(StatusCode::OK, &answer))
    }
}

fn created(answer: &Value) -> Response<Bytes> {
    json(StatusCode::CREATED, answer)
}

fn no_content((): ()) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn json(status: StatusCode, answer: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(answer.to_string()));
    *response.status_mut() = status;
    let media_type = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

/// Adds a header with a request id, unless the response has one.
pub(crate) fn with_id<B>(mut response: Response<B>) -> Response<B> {
    let id = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string());
    if let (false, Ok(id)) = (response.headers().contains_key(REQUEST_ID), id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

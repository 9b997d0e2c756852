//! Requests to a provider: over HTTPS, or HTTP on this machine; with a timeout, a length limit and
//! no redirects.

use std::time::Duration;

use reqwest::{Client, Response, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The timeout for a whole request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum length of a response, in bytes.
const BYTES_MAX: usize = 1 << 20;

/// An HTTP client for requests to a provider.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient(Client);

/// Checks and parses the URL of a provider. On failure, returns the reason.
pub(crate) fn check_url(text: &str) -> Result<Url, &'static str> {
    let url: Url = text.parse().map_err(|_| "the text is not a URL")?;
    let is_loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let host = host.trim_matches(['[', ']']);
            host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
        None => return Err("the URL has no host"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL contains credentials");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        "http" => Err("the URL of a provider on another host must begin with `https://`"),
        _ => Err("the URL does not begin with `https://`"),
    }
}

impl HttpClient {
    pub(crate) fn new() -> Result<Self> {
        let built = Client::builder()
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .user_agent("headwater")
            .build();
        built.map(HttpClient).map_err(|error| Error::Config { reason: error.to_string() })
    }

    /// Requests a JSON document.
    pub(crate) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T> {
        let checked = check_url(url).map_err(|reason| unusable(url, reason))?;
        let sent = self.0.get(checked).header("accept", "application/json").send().await;
        let response = sent.map_err(|error| unreachable_at(url, &error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(unusable(url, format!("the HTTP status is {status}")));
        }
        parse(url, &body(url, response).await?)
    }

    /// Sends a form. Returns the status and the JSON response.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        url: &str,
        form: &[(&str, &str)],
    ) -> Result<(StatusCode, T)> {
        let checked = check_url(url).map_err(|reason| unusable(url, reason))?;
        let encoded = {
            let mut encoded = checked.clone();
            encoded.set_query(None);
            encoded.query_pairs_mut().extend_pairs(form);
            encoded.query().unwrap_or_default().to_owned()
        };
        let request = self.0.post(checked).header("accept", "application/json");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let sent = request.body(encoded).send().await;
        let response = sent.map_err(|error| unreachable_at(url, &error))?;
        let status = response.status();
        Ok((status, parse(url, &body(url, response).await?)?))
    }
}

async fn body(url: &str, mut response: Response) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| unreachable_at(url, &error))? {
        bytes.extend_from_slice(&part);
        if bytes.len() > BYTES_MAX {
            return Err(unusable(url, "the response is longer than 1 MiB"));
        }
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(url: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| unusable(url, error.to_string()))
}

/// Returns the error for a response that violates the protocol.
pub(crate) fn unusable(url: &str, reason: impl Into<String>) -> Error {
    Error::Answer { url: url.to_owned(), reason: reason.into() }
}

fn unreachable_at(url: &str, error: &reqwest::Error) -> Error {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason = cause.to_string();
        source = cause.source();
    }
    Error::Unreachable { url: url.to_owned(), reason }
}

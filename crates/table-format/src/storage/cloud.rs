//! Warehouses in cloud object stores: S3 and compatible object stores, Google Cloud Storage, Azure.
//!
//! A [`CloudUrl`] is the location. [`CloudSettings`] are settings from environment variables with
//! the names that the cloud providers define. The values of these variables are never displayed or
//! logged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutMode, RetryConfig,
};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Timeout for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Name of the file, in the root of a warehouse, with the id of the lake that owns the warehouse.
const CLAIM_FILE: &str = "headwater-lake.json";

/// Name of the folder, in a warehouse, that contains the objects of the buckets which the lake
/// itself provides. No table uses this folder.
pub const OBJECTS_FOLDER: &str = ".objects";

/// Returns true for the path of a file that belongs to no table but is still in use.
pub fn is_reserved(path: &str) -> bool {
    path == CLAIM_FILE || path.split('/').next() == Some(OBJECTS_FOLDER)
}

/// Timeouts of an object store.
#[derive(Debug, Clone, Copy)]
pub struct StoreTimeouts {
    /// Timeout of one request, including the response body.
    pub request: Duration,
    /// Total timeout of a request with its retries.
    pub total: Duration,
}

impl Default for StoreTimeouts {
    fn default() -> Self {
        StoreTimeouts { request: Duration::from_secs(30), total: Duration::from_secs(90) }
    }
}

/// Settings of cloud object stores: `AWS_REGION` and similar, and timeouts. Clones share the
/// values.
#[derive(Clone, Default)]
pub struct CloudSettings {
    /// The values, by lower-case name.
    values: Arc<BTreeMap<String, String>>,
    patience: StoreTimeouts,
}

impl std::fmt::Debug for CloudSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl CloudSettings {
    /// Selects the settings among environment variables: those whose names begin with `AWS_`,
    /// `AZURE_` or `GOOGLE_`. Empty values are ignored.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let values = variables.into_iter().filter(|(_, value)| !value.is_empty());
        let values = values.map(|(name, value)| (name.to_lowercase(), value));
        let is_ours =
            |name: &str| ["aws_", "azure_", "google_"].iter().any(|it| name.starts_with(it));
        let values = values.filter(|(name, _)| is_ours(name)).collect();
        CloudSettings { values: Arc::new(values), patience: StoreTimeouts::default() }
    }

    /// Returns the settings with other timeouts.
    #[must_use]
    pub fn with_timeouts(mut self, patience: StoreTimeouts) -> Self {
        self.patience = patience;
        self
    }

    /// Returns the timeouts.
    pub fn timeouts(&self) -> StoreTimeouts {
        self.patience
    }

    fn any(&self, names: &[&str]) -> Option<&String> {
        names.iter().find_map(|name| self.values.get(*name))
    }

    fn is(&self, name: &str) -> bool {
        self.values
            .get(name)
            .is_some_and(|value| matches!(&**value, "1" | "true" | "TRUE" | "True"))
    }

    fn endpoint(&self) -> Option<&String> {
        self.any(&["aws_endpoint_url_s3", "aws_endpoint_url", "aws_endpoint"])
    }

    fn retries(&self) -> RetryConfig {
        let backoff =
            BackoffConfig { max_backoff: Duration::from_secs(5), ..BackoffConfig::default() };
        RetryConfig { backoff, max_retries: 30, retry_timeout: self.patience.total }
    }

    fn client(&self) -> ClientOptions {
        ClientOptions::new()
            .with_timeout(self.patience.request)
            .with_connect_timeout(CONNECT_TIMEOUT)
    }

    /// Returns the properties that clients need to read a warehouse's files directly, with the
    /// names that Iceberg's REST catalog defines. Includes credentials only if `credentials` is
    /// true.
    pub fn for_clients(&self, url: &CloudUrl, credentials: bool) -> BTreeMap<String, String> {
        let mut config = BTreeMap::new();
        let mut set = |name: &str, value: Option<&String>| {
            if let Some(value) = value {
                config.insert(name.to_owned(), value.clone());
            }
        };
        match url.cloud {
            CloudProvider::S3 => {
                let region = self.any(&["aws_region", "aws_default_region"]);
                set("s3.region", region);
                set("client.region", region);
                set("s3.endpoint", self.endpoint());
                let by_path = !self.is("aws_virtual_hosted_style_request");
                set("s3.path-style-access", Some(&by_path.to_string()));
                if credentials {
                    set("s3.access-key-id", self.values.get("aws_access_key_id"));
                    set("s3.secret-access-key", self.values.get("aws_secret_access_key"));
                    set("s3.session-token", self.values.get("aws_session_token"));
                }
            }
            CloudProvider::Google => set("gcs.service.host", self.values.get("google_base_url")),
            CloudProvider::Azure => {
                let name = self.any(&["azure_storage_account_name"]);
                set("adls.account-name", url.account.as_ref().or(name));
                let shared = ["azure_storage_sas_token", "azure_storage_sas_key"];
                if credentials && let Some(shared) = self.any(&shared) {
                    set("adls.sas-token", Some(shared));
                } else if credentials {
                    let keys = ["azure_storage_account_key", "azure_storage_access_key"];
                    set("adls.account-key", self.any(&keys));
                }
            }
        }
        config
    }
}

/// The provider of an object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloudProvider {
    S3,
    Google,
    Azure,
}

/// A location in a cloud object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudUrl {
    cloud: CloudProvider,
    /// The whole URL, without a trailing slash.
    url: String,
    /// URL of the bucket.
    bucket: String,
    /// Key prefix within the bucket.
    key: String,
    /// The Azure account, if the URL contains one.
    account: Option<String>,
}

impl CloudUrl {
    /// Returns true if a text begins with the scheme of a cloud object store.
    pub fn has_cloud_scheme(text: &str) -> bool {
        text.split_once("://").is_some_and(|(scheme, _)| cloud_of(scheme).is_some())
    }

    /// Parses `s3://bucket/key`, `gs://…`, `az://container/key` or
    /// `abfss://container@account.dfs.core.windows.net/key`.
    pub fn parse(text: &str) -> Result<CloudUrl> {
        let invalid = |reason: &str| Error::InvalidWarehouse {
            url: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| invalid("the URL has no scheme such as `s3://`"))?;
        let cloud =
            cloud_of(scheme).ok_or_else(|| invalid("the scheme of the URL is not supported"))?;
        let scheme = if cloud == CloudProvider::S3 { "s3" } else { scheme };
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if bucket.is_empty() || !bucket.chars().all(plain) {
            return Err(invalid("the URL has no valid bucket name"));
        }
        let account = bucket.split_once('@').map(|(_, host)| host);
        let account = account.map(|host| host.split('.').next().unwrap_or(host).to_owned());
        let bucket = format!("{scheme}://{bucket}");
        let key = key.trim_end_matches('/').to_owned();
        let url = if key.is_empty() { bucket.clone() } else { format!("{bucket}/{key}") };
        Ok(CloudUrl { cloud, url, bucket, key, account })
    }

    /// Parses the URL of a warehouse. Its key prefix may contain only simple names.
    pub fn warehouse(text: &str) -> Result<CloudUrl> {
        let url = Self::parse(text)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
        let mut parts = url.key.split('/');
        if url.key.is_empty() || parts.all(|part| !part.is_empty() && part.chars().all(plain)) {
            return Ok(url);
        }
        let reason = "the path after the bucket may contain only letters, digits, `-`, `_`, `.`, \
                      `=` and `/`";
        Err(Error::InvalidWarehouse { url: text.to_owned(), reason: reason.to_owned() })
    }

    /// Returns the whole URL, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// Returns the bucket, as a URL.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the key prefix after the bucket.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns true if this location equals the location `folder`, or is below it. The URLs of an
    /// Azure container can have different schemes, and can lack the account.
    pub fn is_within(&self, folder: &CloudUrl) -> bool {
        let container = |url: &CloudUrl| {
            let name = url.bucket.split_once("://").map_or("", |(_, name)| name).to_owned();
            name.split('@').next().unwrap_or_default().to_owned()
        };
        let accounts = self.account.as_ref().zip(folder.account.as_ref());
        let is_same_bucket = self.cloud == folder.cloud
            && container(self) == container(folder)
            && accounts.is_none_or(|(own, other)| own == other);
        let key = self.key.trim_start_matches('/');
        let rest = key.strip_prefix(folder.key.as_str());
        let is_below =
            |rest: &str| rest.is_empty() || rest.starts_with('/') || folder.key.is_empty();
        is_same_bucket && rest.is_some_and(is_below)
    }

    /// Opens the object store of the bucket, without sending requests.
    pub fn open_bucket(&self, settings: &CloudSettings) -> Result<Arc<dyn ObjectStore>> {
        match self.cloud {
            CloudProvider::S3 => self.open_s3(settings),
            CloudProvider::Google => self.open_google(settings),
            CloudProvider::Azure => self.open_azure(settings),
        }
    }

    /// Opens the object store whose root is this location, without sending requests.
    pub fn open(&self, settings: &CloudSettings) -> Result<Arc<dyn ObjectStore>> {
        let bucket = self.open_bucket(settings)?;
        if self.key.is_empty() {
            return Ok(bucket);
        }
        let prefix = Path::parse(&self.key).map_err(|error| self.invalid_settings(error))?;
        Ok(Arc::new(PrefixStore::new(bucket, prefix)))
    }

    fn invalid_settings(&self, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::InvalidCloud { url: self.url.clone(), source: Box::new(error) }
    }

    fn open_s3(&self, settings: &CloudSettings) -> Result<Arc<dyn ObjectStore>> {
        let endpoint = settings.endpoint();
        if endpoint.is_some_and(|it| it.starts_with("http://")) && !settings.is("aws_allow_http") {
            let reason = "the endpoint is `http://`, which is not encrypted: set \
                          `AWS_ALLOW_HTTP=true` to allow it";
            return Err(self.invalid_settings(std::io::Error::other(reason)));
        }
        let mut builder = AmazonS3Builder::new()
            .with_client_options(settings.client())
            .with_retry(settings.retries());
        for (name, value) in settings.values.iter() {
            if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let built = builder.with_url(&self.bucket).build();
        Ok(Arc::new(built.map_err(|error| self.invalid_settings(error))?))
    }

    fn open_google(&self, settings: &CloudSettings) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = GoogleCloudStorageBuilder::new()
            // HTTP is allowed, because Google's metadata server provides credentials over plain
            // HTTP.
            .with_client_options(settings.client().with_allow_http(true))
            .with_retry(settings.retries());
        for (name, value) in settings.values.iter() {
            if let Ok(key) = name.parse::<GoogleConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let built = builder.with_url(&self.bucket).build();
        Ok(Arc::new(built.map_err(|error| self.invalid_settings(error))?))
    }

    fn open_azure(&self, settings: &CloudSettings) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = MicrosoftAzureBuilder::new()
            .with_client_options(settings.client())
            .with_retry(settings.retries());
        for (name, value) in settings.values.iter() {
            if let Ok(key) = name.parse::<AzureConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let built = builder.with_url(&self.bucket).build();
        Ok(Arc::new(built.map_err(|error| self.invalid_settings(error))?))
    }

    /// Claims a warehouse for a lake, which also checks that the warehouse can be read and written.
    /// Does nothing if the warehouse belongs to the lake already.
    ///
    /// Fails with [`Error::WarehouseTaken`] if it belongs to another lake, because two lakes in one
    /// warehouse would delete each other's files.
    pub async fn claim(&self, settings: &CloudSettings, lake: &str) -> Result<()> {
        let store = self.open(settings)?;
        let path = Path::from(CLAIM_FILE);
        let failed = |error| Error::storage(format!("{}/{CLAIM_FILE}", self.url), error);
        for _ in 0..2 {
            let found = match store.get(&path).await {
                Ok(found) => found.bytes().await,
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => return self.check_claim(&found, lake),
                Err(error @ object_store::Error::NotFound { .. }) => {
                    // If the failure has a known cause, such as a missing bucket, return the error
                    // with this cause.
                    if let error @ Error::Cloud { .. } = failed(error) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(failed(error)),
            }
            let claim =
                serde_json::to_vec(&WarehouseClaim { lake: lake.to_owned() }).unwrap_or_default();
            match store.put_opts(&path, claim.clone().into(), PutMode::Create.into()).await {
                Ok(_) => return Ok(()),
                Err(error) if !super::supports_conditional_puts(&error) => {
                    return store.put(&path, claim.into()).await.map(drop).map_err(failed);
                }
                // Another lake or process created the claim file at the same time. The code below
                // checks to which lake it belongs.
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(Error::WarehouseTaken { url: self.url.clone() })
    }

    fn check_claim(&self, found: &Bytes, lake: &str) -> Result<()> {
        let claim: WarehouseClaim = serde_json::from_slice(found)
            .map_err(|error| Error::corrupt(format!("{}/{CLAIM_FILE}", self.url), error))?;
        if claim.lake == lake {
            return Ok(());
        }
        Err(Error::WarehouseTaken { url: self.url.clone() })
    }
}

/// The content of the claim file.
#[derive(Debug, Serialize, Deserialize)]
struct WarehouseClaim {
    lake: String,
}

fn cloud_of(scheme: &str) -> Option<CloudProvider> {
    match scheme {
        "s3" | "s3a" => Some(CloudProvider::S3),
        "gs" => Some(CloudProvider::Google),
        "az" | "abfs" | "abfss" => Some(CloudProvider::Azure),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_below_its_folder_in_every_spelling() {
        let is_within = |url: &str, folder: &str| {
            CloudUrl::parse(url).unwrap().is_within(&CloudUrl::parse(folder).unwrap())
        };
        let account = "abfss://c@me.dfs.core.windows.net/a/x.csv";
        for (url, folder, expected) in [
            ("s3a://b/a/x.csv", "s3://b/a", true),
            ("s3://b//a/x.csv", "s3://b/a", true),
            ("s3://b/a", "s3://b/a/", true),
            ("s3://b/x.csv", "s3://b", true),
            ("s3://b/ab/x.csv", "s3://b/a", false),
            ("s3://c/a/x.csv", "s3://b/a", false),
            ("gs://b/a/x.csv", "s3://b/a", false),
            (account, "az://c/a", true),
            (account, "abfss://c@other.dfs.core.windows.net/a", false),
        ] {
            assert_eq!(is_within(url, folder), expected, "{url} in {folder}");
        }
    }

    #[test]
    fn cloud_urls_are_parsed() {
        let place = CloudUrl::parse("s3a://lake/a/b/").unwrap();
        assert_eq!(
            (place.as_str(), place.bucket(), place.key()),
            ("s3://lake/a/b", "s3://lake", "a/b")
        );
        assert_eq!(CloudUrl::parse("gs://lake").unwrap().as_str(), "gs://lake");
        let azure = CloudUrl::parse("abfss://c@acc.dfs.core.windows.net/x").unwrap();
        assert_eq!(azure.account.as_deref(), Some("acc"));
        for wrong in ["lake", "ftp://lake/a", "s3://", "s3:///a", "s3://a b/c"] {
            assert!(CloudUrl::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["s3://lake/a//b", "s3://lake/a b", "s3://lake/%20", "s3://lake/ä"] {
            assert!(CloudUrl::warehouse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_are_hidden_and_credentials_are_shared_only_on_request() {
        let variables = [
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_SECRET_ACCESS_KEY", "geheim"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_REGION", ""),
            ("PATH", "/bin"),
        ];
        let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = CloudSettings::new(owned);
        let shown = format!("{settings:?}");
        assert!(!shown.contains("geheim") && !shown.contains("path"), "{shown}");
        let url = CloudUrl::warehouse("s3://lake/x").unwrap();
        let config = settings.for_clients(&url, false);
        assert_eq!(config.get("s3.endpoint").map(String::as_str), Some("http://127.0.0.1:1"));
        assert!(!config.values().any(|value| value == "geheim" || value == "AKIA"), "{config:?}");
        assert!(settings.for_clients(&url, true).values().any(|value| value == "geheim"));
        let rejected = url.open(&settings).unwrap_err();
        assert!(matches!(rejected, Error::InvalidCloud { .. }), "{rejected}");
    }
}

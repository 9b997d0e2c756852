//! A running service on a temporary lake with one object of each kind, and the principals of its
//! users.

use std::path::Path;
use std::time::{Duration, Instant};

use arrow::array::{Int64Array, RecordBatch};
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use headwater_model::{
    Action, AuthMethod, AuthenticatedUser, CreateRef, CredentialSettings, Identity, JobStatus,
    Permission, Principal, Problem, QueryRequest,
};
use headwater_service::objects::{
    NewObject, NewUpload, ObjectHeaders, ObjectPath, ObjectPrecondition,
};
use headwater_service::{
    Access, Credential, FunctionChange, LayerChange, NewUser, S3Operations, Service, ServiceConfig,
    SharedTable, SpawnerCommand,
};
use headwater_store::SqliteStore;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::matrix::Call;

/// Time limit for any wait in a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// All grants except administration.
const ALL: [&str; 14] = [
    "select,insert,update,delete,create,alter,drop on table:*",
    "select,create,alter,drop on view:*",
    "select,insert,update,delete,create,alter,drop on namespace:*",
    "read,write,merge,create,alter,drop on branch:*",
    "invoke,deploy on function:*",
    "run,deploy on project:*",
    "read,run on trigger:*",
    "read,drop on environment:*",
    "set,use on secret:*",
    "read,write on location:*",
    "read,write,list,delete,create,drop on bucket:*",
    "read,write,delete,create,alter,drop on queue:*",
    "read on usage:*",
    "maintain,audit on lake",
];

/// Grants to read.
const READ: [&str; 7] = [
    "select on namespace:*",
    "read on branch:*",
    "read on trigger:*",
    "read on environment:*",
    "read on location:*",
    "read,list on bucket:*",
    "read on usage:*",
];

const ADMINISTER: &str = "administer on lake";

/// A project with a trigger that never fires.
const PROJECT: &str = "[project]\nname = \"p\"\n\n[[trigger]]\nname = \"landing\"\n\
    files = { folder = \"landing\", pattern = \"*.csv\" }\nimport = { table = \"readings\" }\n";

const MODEL: &str = "-- headwater: materialization = replace\nSELECT 1 AS n\n";

/// A service and its lake.
pub struct Lake {
    service: Service,
    access: Access,
    known: Known,
    folder: TempDir,
}

/// The objects whose names are not constants.
#[derive(Clone)]
pub struct Known {
    /// Id of a run of the owner, which has ended.
    pub run: String,
    /// The deployed version.
    pub version: String,
    /// Id of the upload of the object `big` in the bucket `shared`.
    pub upload: String,
    /// A table with one row.
    pub rows: SharedTable,
}

impl Lake {
    /// Starts a service.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("landing")).expect("a folder");
        let service = Service::start(config(folder.path())).await.expect("a service");
        let access = service.access_control().registry(&Principal::owner()).expect("the owner's");
        for sql in [
            "CREATE SCHEMA sales",
            "CREATE SCHEMA shop",
            "CREATE TABLE sales.orders AS SELECT 7 AS id",
            "CREATE TABLE shop.items AS SELECT 1 AS id",
            "CREATE VIEW shop.best AS SELECT id FROM sales.orders",
            "CREATE ROLE masked",
            "CREATE ROW FILTER few ON shop.items USING (id > 0) TO masked",
        ] {
            execute(&service, sql).await;
        }
        let known = create_objects(&service).await;
        Lake { service, access, known, folder }
    }

    /// Opens the metadata database.
    pub async fn store(&self) -> SqliteStore {
        let path = self.folder.path().join(".headwater/lake.db");
        SqliteStore::open(&path).await.expect("a store")
    }

    /// Returns the service.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Returns users, grants and credentials.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Returns the input of a call for a principal.
    pub fn call(&self, by: Principal) -> Call {
        Call { service: self.service.clone(), by, known: self.known.clone() }
    }

    /// Returns principals with valid credentials, each with its column in the access matrix.
    pub async fn users(&self) -> Vec<(&'static str, Principal, usize)> {
        for (name, grants) in
            [("limited", &[][..]), ("reader", &READ), ("full", &ALL), ("admin", &[ADMINISTER])]
        {
            self.user(name, grants).await;
        }
        let none = CredentialSettings { scopes: Some(Vec::new()), ..CredentialSettings::default() };
        let scopes = Some(vec![permission("select on table:other.t")]);
        let other = CredentialSettings { scopes, ..CredentialSettings::default() };
        let mut users = Vec::new();
        for (name, user, token, column) in [
            ("a token without scopes", "full", none, 0),
            ("a token for another table", "full", other, 0),
            ("a user without grants", "limited", CredentialSettings::default(), 1),
            ("a reader", "reader", CredentialSettings::default(), 2),
            ("a user with all grants", "full", CredentialSettings::default(), 3),
            ("an administrator", "admin", CredentialSettings::default(), 4),
        ] {
            let token = self.token(user, token).await;
            users.push((name, self.log_in(&token).await.expect(name), column));
        }
        users
    }

    /// Returns a client without a credential, and principals that are no longer valid. These
    /// principals were administrators.
    pub async fn invalid(&self) -> Vec<(&'static str, Principal)> {
        for name in ["revoked", "expired", "disabled", "replaced", "external"] {
            self.user(name, &[ADMINISTER]).await;
        }
        let revoked = self.principal("revoked", CredentialSettings::default()).await;
        let Identity::User(user) = revoked.identity() else { panic!("{revoked:?}") };
        let token = user.token.as_deref().expect("a token");
        let owner = Principal::owner();
        self.access.revoke_token(&owner, token, None).await.expect("revoked");
        let disabled = self.principal("disabled", CredentialSettings::default()).await;
        self.access.disable_user(&owner, "disabled", true).await.expect("disabled");
        let replaced = self.principal("replaced", CredentialSettings::default()).await;
        self.access.drop_user(&owner, "replaced").await.expect("dropped");
        self.user("replaced", &[ADMINISTER]).await;
        vec![
            ("a client without a credential", Principal::anonymous()),
            ("a user with a revoked token", revoked),
            ("a user with an expired token", self.expired().await.1),
            ("a disabled user", disabled),
            ("a dropped user with the name of another", replaced),
            ("a user with an expired login", self.expired_login()),
        ]
    }

    /// Waits until the jobs that the matrix started have ended.
    pub async fn stop(&self) {
        self.service.stop_background();
        self.service.close();
        self.service.drain(PATIENCE).await;
    }

    /// Creates a user with grants in the form `select,insert on table:t`.
    pub async fn user(&self, name: &str, grants: &[&str]) {
        let owner = Principal::owner();
        let new = NewUser { name: name.to_owned(), ..NewUser::default() };
        self.access.create_user(&owner, new).await.expect(name);
        for grant in grants {
            self.access.grant(&owner, name, permission(grant)).await.expect(grant);
        }
    }

    /// Returns a new token of a user.
    pub async fn token(&self, user: &str, new: CredentialSettings) -> String {
        let created = self.access.create_token(&Principal::owner(), user, new).await;
        created.expect("a token").secret
    }

    /// Authenticates a token.
    pub async fn log_in(&self, token: &str) -> Result<Principal, Problem> {
        self.service.authenticate(Credential::Token(token), None).await
    }

    /// Returns a token of the user `expired` that has expired, and its principal.
    pub async fn expired(&self) -> (String, Principal) {
        let expires = Some(chrono::Utc::now() + chrono::TimeDelta::milliseconds(500));
        let new = CredentialSettings { expires, ..CredentialSettings::default() };
        let token = self.token("expired", new).await;
        let principal = self.log_in(&token).await.expect("still valid");
        until(async || self.log_in(&token).await.is_err()).await;
        (token, principal)
    }

    async fn principal(&self, user: &str, new: CredentialSettings) -> Principal {
        let token = self.token(user, new).await;
        self.log_in(&token).await.expect(user)
    }

    /// Returns the principal of a login at an OpenID provider that has expired.
    fn expired_login(&self) -> Principal {
        let account = self.access.user("external").expect("a user");
        Principal::user(AuthenticatedUser {
            name: account.name,
            created: account.created,
            method: AuthMethod::Oidc,
            token: None,
            scopes: None,
            expires: Some(chrono::Utc::now()),
        })
    }
}

/// Polls until a condition is met.
pub async fn until(is_met: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_met().await {
        assert!(Instant::now() < deadline, "the condition is not met");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Parses a permission in the form `select,insert on table:t`.
pub fn permission(text: &str) -> Permission {
    let (actions, object) = text.split_once(" on ").expect("` on `");
    let actions = actions.split(',').map(|action| action.parse::<Action>().expect(action));
    Permission { actions: actions.collect(), object: object.parse().expect(object) }
}

/// Converts JSON to a request.
pub fn request<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a request")
}

/// Returns content in one part.
pub fn content(text: &'static str) -> BoxStream<'static, Result<Bytes, Problem>> {
    futures::stream::iter([Ok(Bytes::from_static(text.as_bytes()))]).boxed()
}

/// Returns the path of an object in the bucket `shared`.
pub fn shared(key: &str) -> ObjectPath {
    ObjectPath { bucket: "shared".to_owned(), key: key.to_owned() }
}

/// Returns the configuration of the lake in a folder.
fn config(folder: &Path) -> ServiceConfig {
    let program = std::env::current_exe().expect("this program");
    let spawner = SpawnerCommand { program, arguments: vec![crate::SPAWNER.to_owned()] };
    let mut config = ServiceConfig::new(&folder.join(".headwater"), spawner);
    config.project_dir = Some(folder.to_owned());
    config.memory_bytes = 1 << 30;
    config.maintenance = false;
    let path = std::env::var_os("PATH").unwrap_or_default();
    config.python_search = std::env::split_paths(&path).collect();
    config
}

/// Executes a statement as the owner.
pub async fn execute(service: &Service, sql: &str) {
    let request = QueryRequest { sql: sql.to_owned(), ..QueryRequest::default() };
    let started = service.statements().start(&Principal::owner(), &request).await.expect(sql);
    let mut rows = started.rows.expect(sql);
    while rows.next().await.expect(sql).is_some() {}
}

/// As the owner, creates a run, and the objects that are not part of a commit.
async fn create_objects(service: &Service) -> Known {
    let owner = &Principal::owner();
    let tag = CreateRef { name: "v1".to_owned(), from: None, if_not_exists: false };
    service.tags().create(owner, tag).await.expect("a tag");
    let secret = request(json!({"value": "x"}));
    service.secrets().set(owner, "KEY", secret).await.expect("a secret");
    let accounts = service.access_control();
    accounts.access_keys().create(owner, request(json!({}))).await.expect("an access key");
    accounts.limits().set(owner, "masked", request(json!({"jobs": 9}))).await.expect("a limit");
    let deployed = service.deployments().deploy(owner, request(json!({"files": files()}))).await;
    let version = deployed.expect("a version").deployment.version;
    create_functions(service).await;
    Known {
        run: run(service).await,
        version: version.to_string(),
        upload: create_bucket(service).await,
        rows: service.tables().read_arrow(owner, arrow_stream()).await.expect("rows"),
    }
}

fn files() -> Value {
    json!({"headwater.toml": PROJECT, "n.sql": MODEL})
}

/// Creates a function that cannot be called, because it allows no concurrent calls, and a layer.
async fn create_functions(service: &Service) {
    let owner = &Principal::owner();
    let deployed = service.invocations().standalone();
    let code = json!({"app.py": "def handler(event, context):\n    return event\n"});
    let new = json!({"runtime": "python3.11", "handler": "app.handler", "files": code});
    deployed.deploy(owner, "f", request(new)).await.expect("a function");
    let closed = FunctionChange::Concurrency(Some(0)).into();
    deployed.change(owner, "f", closed).await.expect("a change");
    let files = deployed.read_files(request(code), None).await.expect("files");
    let (author, attributes) = ("owner".to_owned(), [].into());
    let publish = LayerChange::Publish { code: files.code, author, attributes };
    service.invocations().layers().change(owner, "base", &publish).await.expect("a layer");
}

/// Creates the bucket `shared` with an object and an upload. Returns the id of the upload.
async fn create_bucket(service: &Service) -> String {
    let (owner, s3) = (&Principal::owner(), S3Operations::of(service));
    s3.buckets().create(owner, "shared").await.expect("a bucket");
    let (headers, condition) = (ObjectHeaders::default(), ObjectPrecondition::Always);
    let new = NewObject { path: shared("a.txt"), headers, condition, content: content("a") };
    s3.objects().put(owner, new).await.expect("an object");
    let new = NewUpload { path: shared("big"), headers: ObjectHeaders::default() };
    s3.objects().create_upload(owner, new).await.expect("an upload")
}

/// Runs a project on a branch of its own. Returns the id of the job.
async fn run(service: &Service) -> String {
    let owner = &Principal::owner();
    let branch = CreateRef { name: "runs".to_owned(), from: None, if_not_exists: false };
    service.branches().create(owner, branch).await.expect("a branch");
    let new = request(json!({"files": files(), "ref": "runs"}));
    let id = service.runs().start(owner, new).await.expect("a run").id.to_string();
    let mut events = service.jobs().follow(owner, &id, 0).await.expect("events");
    while events.next().await.is_some() {}
    let ended = service.jobs().get(owner, &id).await.expect("a job");
    assert_eq!(ended.status, JobStatus::Succeeded, "{ended:?}");
    id
}

fn arrow_stream() -> Bytes {
    let ids = std::sync::Arc::new(Int64Array::from(vec![1])) as _;
    let batch = RecordBatch::try_from_iter([("id", ids)]).expect("a batch");
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).expect("a stream");
    writer.write(&batch).expect("rows");
    writer.finish().expect("an end");
    drop(writer);
    bytes.into()
}

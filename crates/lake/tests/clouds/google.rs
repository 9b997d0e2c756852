//! A server in memory with the XML API of Google Cloud Storage, including requests that depend on
//! the generation of an object.
//!
//! It has one bucket, `lakes`, and lists objects in pages of [`PAGE`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use hyper::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_MATCH, LAST_MODIFIED, RANGE,
};
use hyper::{Method, Request, Response, Uri};
use serde_json::json;

use crate::fault_proxy::{FaultProxy, decoded, refusal};

/// The number of objects on one page of a list; Google's own limit is 1,000.
const PAGE: usize = 50;

const IF_GENERATION_MATCH: &str = "x-goog-if-generation-match";
const GENERATION: &str = "x-goog-generation";

/// The server, which runs until the process ends.
pub struct Google {
    pub front: FaultProxy,
    bucket: Arc<Mutex<Bucket>>,
}

#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Object>,
    /// The open multipart uploads, by id.
    uploads: BTreeMap<String, Upload>,
    /// The generation that was assigned last.
    generation: u64,
}

struct Object {
    content: Bytes,
    generation: u64,
    modified: DateTime<Utc>,
}

struct Upload {
    key: String,
    parts: BTreeMap<u32, Bytes>,
}

/// A parsed request.
struct Asked {
    method: Method,
    key: String,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Bytes,
}

impl Google {
    pub fn start() -> Google {
        let bucket = Arc::new(Mutex::new(Bucket::default()));
        let served = bucket.clone();
        let front = FaultProxy::start(Arc::new(move |request| {
            let answer = served.lock().expect("what a test needs").answer(request);
            Box::pin(async move { Ok(answer) })
        }));
        Google { front, bucket }
    }

    /// Returns the environment variables that make a client use this server.
    pub fn variables(&self) -> Vec<(String, String)> {
        let account = json!({
            "gcs_base_url": format!("http://{}", self.front.address()),
            "disable_oauth": true,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        });
        vec![("GOOGLE_SERVICE_ACCOUNT_KEY".to_owned(), account.to_string())]
    }

    /// Lists the objects with open multipart uploads.
    pub fn uploads(&self) -> Vec<String> {
        let bucket = self.bucket.lock().expect("what a test needs");
        bucket.uploads.values().map(|upload| upload.key.clone()).collect()
    }
}

impl Asked {
    /// Parses a request; `None` if it is for another bucket.
    fn of(request: Request<Bytes>) -> Option<Asked> {
        let (parts, body) = request.into_parts();
        let path = decoded(parts.uri.path());
        let key = path.strip_prefix("/lakes")?.trim_start_matches('/').to_owned();
        Some(Asked {
            method: parts.method,
            key,
            query: query_of(&parts.uri),
            headers: parts.headers,
            body,
        })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

fn query_of(uri: &Uri) -> BTreeMap<String, String> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (decoded(name), decoded(&value.replace('+', " ")))).collect()
}

fn plain(text: String) -> Response<Bytes> {
    Response::new(text.into())
}

impl Bucket {
    fn answer(&mut self, request: Request<Bytes>) -> Response<Bytes> {
        let Some(asked) = Asked::of(request) else { return refusal(404, "NoSuchBucket") };
        let upload = asked.query.get("uploadId").cloned();
        match (&asked.method, upload) {
            (&Method::GET, _) if asked.key.is_empty() => self.list(&asked.query),
            (&Method::POST, None) => self.begin(asked.key),
            (&Method::PUT, Some(id)) => self.take_part(&id, &asked),
            (&Method::POST, Some(id)) => self.end(&id, &asked.body),
            (&Method::DELETE, Some(id)) => match self.uploads.remove(&id) {
                Some(_) => done(),
                None => refusal(404, "NoSuchUpload"),
            },
            (&Method::PUT, None) => self.put(asked),
            (&Method::DELETE, None) => match self.objects.remove(&asked.key) {
                Some(_) => done(),
                None => refusal(404, "NoSuchKey"),
            },
            (&Method::GET | &Method::HEAD, _) => match self.objects.get(&asked.key) {
                Some(object) => object.read(&asked),
                None => refusal(404, "NoSuchKey"),
            },
            _ => refusal(405, "MethodNotAllowed"),
        }
    }

    /// Writes an object, if the object has the generation that the request requires.
    fn put(&mut self, asked: Asked) -> Response<Bytes> {
        let current = self.objects.get(&asked.key).map_or(0, |object| object.generation);
        let wanted = asked.header(IF_GENERATION_MATCH);
        if wanted.is_some_and(|wanted| wanted != current.to_string()) {
            return refusal(412, "PreconditionFailed");
        }
        self.write(asked.key, asked.body)
    }

    fn write(&mut self, key: String, content: Bytes) -> Response<Bytes> {
        self.generation += 1;
        let object = Object { content, generation: self.generation, modified: Utc::now() };
        let answer = object.described(Response::builder()).body(Bytes::new());
        self.objects.insert(key, object);
        answer.expect("what a test needs")
    }

    fn begin(&mut self, key: String) -> Response<Bytes> {
        self.generation += 1;
        let id = format!("upload {}", self.generation);
        let root = "InitiateMultipartUploadResult";
        let answer = plain(format!("<{root}><UploadId>{id}</UploadId></{root}>"));
        self.uploads.insert(id, Upload { key, parts: BTreeMap::new() });
        answer
    }

    fn take_part(&mut self, id: &str, asked: &Asked) -> Response<Bytes> {
        let number = asked.query.get("partNumber").and_then(|number| number.parse().ok());
        let Some(upload) = self.uploads.get_mut(id) else { return refusal(404, "NoSuchUpload") };
        let Some(number) = number else { return refusal(400, "InvalidArgument") };
        upload.parts.insert(number, asked.body.clone());
        let answer = Response::builder().header(ETAG, etag_of_part(number));
        answer.body(Bytes::new()).expect("what a test needs")
    }

    /// Completes a multipart upload from the listed parts.
    fn end(&mut self, id: &str, named: &Bytes) -> Response<Bytes> {
        let Some(upload) = self.uploads.get(id) else { return refusal(404, "NoSuchUpload") };
        let mut content = Vec::new();
        for part in String::from_utf8_lossy(named).split("<Part>").skip(1) {
            let number = between(part, "<PartNumber>", "</PartNumber>").parse().unwrap_or(0);
            let found = upload.parts.get(&number);
            let found =
                found.filter(|_| between(part, "<ETag>", "</ETag>") == etag_of_part(number));
            let Some(bytes) = found else { return refusal(400, "InvalidPart") };
            content.extend_from_slice(bytes);
        }
        let key = upload.key.clone();
        self.uploads.remove(id);
        let written = self.write(key, content.into());
        let root = "CompleteMultipartUploadResult";
        written.map(|_| format!("<{root}><ETag>\"{id}\"</ETag></{root}>").into())
    }

    /// Returns a page of the list of objects with a prefix.
    fn list(&self, query: &BTreeMap<String, String>) -> Response<Bytes> {
        let asked = |name: &str| query.get(name).map_or("", String::as_str);
        let after = asked("continuation-token").max(asked("start-after"));
        let below = |key: &str| key.starts_with(asked("prefix")) && key > after;
        let mut found = self.objects.iter().filter(|(key, _)| below(key));
        let page: Vec<_> = found.by_ref().take(PAGE).collect();
        let mut items: String = page.iter().map(|(key, object)| object.item(key)).collect();
        if let (Some((last, _)), Some(_)) = (page.last(), found.next()) {
            let _ = write!(items, "<NextContinuationToken>{last}</NextContinuationToken>");
        }
        plain(format!("<ListBucketResult>{items}</ListBucketResult>"))
    }
}

impl Object {
    fn etag(&self) -> String {
        format!("\"{}\"", self.generation)
    }

    fn described(&self, answer: hyper::http::response::Builder) -> hyper::http::response::Builder {
        let modified = self.modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        answer
            .header(ETAG, self.etag())
            .header(GENERATION, self.generation)
            .header(LAST_MODIFIED, modified)
    }

    fn item(&self, key: &str) -> String {
        let modified = self.modified.to_rfc3339_opts(SecondsFormat::Millis, true);
        let (size, etag) = (self.content.len(), self.etag());
        format!(
            "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>{modified}</LastModified>\
             <ETag>{etag}</ETag></Contents>"
        )
    }

    /// Returns an object of the requested generation, or a range of it.
    fn read(&self, asked: &Asked) -> Response<Bytes> {
        let other = |wanted: Option<&str>, own: &str| wanted.is_some_and(|wanted| wanted != own);
        if other(asked.header(IF_MATCH.as_str()), &self.etag()) {
            return refusal(412, "PreconditionFailed");
        }
        let wanted = asked.query.get("generation").map(String::as_str);
        if other(wanted, &self.generation.to_string()) {
            return refusal(404, "NoSuchKey");
        }
        let size = self.content.len();
        let mut answer = self.described(Response::builder());
        let mut body = self.content.clone();
        if let Some(range) = asked.header(RANGE.as_str()) {
            let Some((from, to)) = range_of(range, size) else {
                return refusal(416, "InvalidRange");
            };
            body = body.slice(from..to);
            let range = format!("bytes {from}-{}/{size}", to - 1);
            answer = answer.status(206).header(CONTENT_RANGE, range);
        }
        answer = answer.header(CONTENT_LENGTH, body.len());
        let body = if asked.method == Method::HEAD { Bytes::new() } else { body };
        answer.body(body).expect("what a test needs")
    }
}

/// Parses `bytes=1-5`, `bytes=7-` or `bytes=-3`; `None` for an empty range.
fn range_of(range: &str, size: usize) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) => (from, size.min(to + 1)),
        (Ok(from), Err(_)) => (from, size),
        (Err(_), Ok(last)) => (size.saturating_sub(last), size),
        (Err(_), Err(_)) => return None,
    };
    (from < to).then_some((from, to))
}

fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
    let rest = text.split_once(begin).map_or("", |(_, rest)| rest);
    rest.split_once(end).map_or("", |(found, _)| found)
}

fn etag_of_part(number: u32) -> String {
    format!("\"part {number}\"")
}

fn done() -> Response<Bytes> {
    Response::builder().status(204).body(Bytes::new()).expect("what a test needs")
}

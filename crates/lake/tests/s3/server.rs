//! An S3 server in this process, over a folder: objects are files, buckets are folders. It fails as a test
//! asks it to.

use std::io::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::header::{ETAG, IF_MATCH};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::dto::StreamingBlob;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

pub const KEY: &str = "headwater";
pub const SECRET: &str = "a secret of this test alone";

/// How the server fails.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It answers with this status and code, and does nothing.
    Answer(u16, &'static str),
    /// It does nothing, and cuts the connection.
    CutBefore,
    /// It does what is asked, and cuts the connection before it says so.
    CutAfter,
    /// It answers half of the body, and cuts the connection.
    CutHalf,
    /// It never answers.
    Hang,
    /// It does what is asked, and never says so.
    HangAfter,
    /// It answers half of the body, and nothing more.
    HangHalf,
}

/// Which requests fail, and how many of them.
struct Rule {
    method: Method,
    part: String,
    fault: Fault,
    left: u64,
}

#[derive(Default)]
struct State {
    rules: Mutex<Vec<Rule>>,
    requests: AtomicU64,
    failed: AtomicU64,
}

/// The server; it goes on until the process ends.
pub struct S3 {
    address: SocketAddr,
    state: Arc<State>,
}

impl S3 {
    /// Serves the folders in `root` as buckets.
    pub fn start(root: &Path) -> S3 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("what a test needs");
        listener.set_nonblocking(true).expect("what a test needs");
        let address = listener.local_addr().expect("what a test needs");
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root).expect("what a test needs"));
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let (service, state) = (builder.build(), Arc::new(State::default()));
        let served = state.clone();
        // A thread of its own: a test that waits must not keep it from answering.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("what a test needs").block_on(serve(listener, service, served));
        });
        S3 { address, state }
    }

    /// The server of a folder, started where none is yet: several processes may ask.
    pub fn of(root: &Path) -> S3 {
        let note = root.join("s3.address");
        if let Ok(address) = std::fs::read_to_string(&note) {
            return S3 {
                address: address.parse().expect("what a test needs"),
                state: Arc::default(),
            };
        }
        let s3 = S3::start(root);
        std::fs::write(note, s3.address.to_string()).expect("what a test needs");
        s3
    }

    /// What a client is told to reach it, as variables of the environment.
    pub fn variables(&self) -> [(String, String); 5] {
        [
            ("AWS_ACCESS_KEY_ID".to_owned(), KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), SECRET.to_owned()),
            ("AWS_REGION".to_owned(), "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL".to_owned(), format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP".to_owned(), "true".to_owned()),
        ]
    }

    /// Has the next `times` requests of a method fail whose address has a part in it.
    pub fn fail(&self, method: &str, part: &str, fault: Fault, times: u64) {
        let (method, part) = (method.parse().expect("what a test needs"), part.to_owned());
        self.state.rules.lock().expect("what a test needs").push(Rule {
            method,
            part,
            fault,
            left: times,
        });
    }

    /// Has no more requests fail.
    pub fn heal(&self) {
        self.state.rules.lock().expect("what a test needs").clear();
    }

    /// How many requests came, and how many were made to fail.
    pub fn counts(&self) -> (u64, u64) {
        let (requests, failed) = (&self.state.requests, &self.state.failed);
        (requests.load(Ordering::SeqCst), failed.load(Ordering::SeqCst))
    }
}

impl State {
    fn fault_of(&self, request: &Request<Incoming>) -> Option<Fault> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let address = request.uri().to_string();
        let mut rules = self.rules.lock().expect("what a test needs");
        let meant = |rule: &&mut Rule| {
            rule.left > 0 && rule.method == *request.method() && address.contains(&rule.part)
        };
        let rule = rules.iter_mut().find(meant)?;
        rule.left -= 1;
        self.failed.fetch_add(1, Ordering::SeqCst);
        Some(rule.fault)
    }
}

async fn serve(listener: std::net::TcpListener, service: S3Service, state: Arc<State>) {
    let listener = TcpListener::from_std(listener).expect("what a test needs");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (service, state) = (service.clone(), state.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            let (service, fault) = (service.clone(), state.fault_of(&request));
            let answered: BoxFuture<'static, Result<Response<Body>, Error>> =
                Box::pin(async move { answer(&service, request, fault).await });
            answered
        });
        tokio::spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            // A connection that is cut is one that a test cut.
            let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn cut() -> Error {
    Error::other("cut by the test")
}

async fn answer(
    service: &S3Service,
    request: Request<Incoming>,
    fault: Option<Fault>,
) -> Result<Response<Body>, Error> {
    match fault {
        Some(Fault::Answer(status, code)) => {
            let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
            return Ok(Response::builder()
                .status(status)
                .body(Body::from(text))
                .expect("what a test needs"));
        }
        Some(Fault::CutBefore) => return Err(cut()),
        Some(Fault::Hang) => return std::future::pending().await,
        _ => {}
    }
    let wanted =
        request.headers().get(IF_MATCH).filter(|_| request.method() == Method::GET).cloned();
    let answer = service
        .call(request.map(Body::from))
        .await
        .map_err(|error: HttpError| Error::other(format!("{error:?}")))?;
    // What the server itself leaves out.
    if wanted.is_some_and(|wanted| answer.headers().get(ETAG) != Some(&wanted)) {
        let text = "<?xml version=\"1.0\"?><Error><Code>PreconditionFailed</Code></Error>";
        let changed = Response::builder().status(412).body(Body::from(text.to_owned()));
        return Ok(changed.expect("an answer"));
    }
    match fault {
        Some(Fault::CutAfter) => Err(cut()),
        Some(Fault::HangAfter) => std::future::pending().await,
        Some(Fault::CutHalf) => halve(answer, futures::stream::once(async { Err(cut()) })).await,
        Some(Fault::HangHalf) => halve(answer, futures::stream::pending()).await,
        _ => Ok(answer),
    }
}

/// The first half of an answer's body, and what follows instead of the rest.
async fn halve(
    answer: Response<Body>,
    then: impl futures::Stream<Item = Result<Bytes, Error>> + Send + Sync + 'static,
) -> Result<Response<Body>, Error> {
    let (parts, mut body) = answer.into_parts();
    let bytes = body.store_all_limited(usize::MAX).await.map_err(Error::other)?;
    let half = bytes.slice(..bytes.len() / 2);
    let first = futures::stream::once(async move { Ok(half) });
    let body = StreamingBlob::wrap(first.chain(then));
    Ok(Response::from_parts(parts, Body::from(body)))
}

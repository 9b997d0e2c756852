//! A proxy in front of an object store that injects faults. It runs in the process of the test.

use std::io::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

/// A response of an object store.
pub type Answer = Result<Response<Bytes>, Error>;

/// An object store, as a function from request to response.
pub type Service = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Answer> + Send + Sync>;

/// A fault to inject.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The proxy returns this status and error code, and does not execute the request.
    Answer(u16, &'static str),
    /// The proxy closes the connection, and does not execute the request.
    CutBefore,
    /// The proxy forwards the request, and then closes the connection without a response.
    CutAfter,
    /// The proxy sends half of the body, and closes the connection.
    CutHalf,
    /// The proxy does not execute the request, and never responds.
    Hang,
    /// The proxy executes the request, and never responds.
    HangAfter,
    /// The proxy sends half of the body, and then nothing more.
    HangHalf,
}

/// The requests that must fail, and the number of times.
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

/// A proxy at its own port, which runs until the process ends.
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<State>,
}

impl FaultProxy {
    /// Starts a proxy in front of an object store.
    pub fn start(service: Service) -> FaultProxy {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("what a test needs");
        listener.set_nonblocking(true).expect("what a test needs");
        let address = listener.local_addr().expect("what a test needs");
        let state = Arc::new(State::default());
        let served = state.clone();
        // The proxy has its own thread, so that a blocked test cannot block it.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("what a test needs").block_on(serve(listener, service, served));
        });
        FaultProxy { address, state }
    }

    /// Returns the proxy that another part of the test has started at an address.
    pub fn at(address: SocketAddr) -> FaultProxy {
        FaultProxy { address, state: Arc::default() }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Injects a fault into the next `times` requests that have this method and whose URL contains
    /// `part`.
    pub fn fail(&self, method: &str, part: &str, fault: Fault, times: u64) {
        let (method, part) = (method.parse().expect("what a test needs"), part.to_owned());
        let rule = Rule { method, part, fault, left: times };
        self.state.rules.lock().expect("what a test needs").push(rule);
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.state.rules.lock().expect("what a test needs").clear();
    }

    /// Returns the number of requests and the number of injected faults.
    pub fn counts(&self) -> (u64, u64) {
        let (requests, failed) = (&self.state.requests, &self.state.failed);
        (requests.load(Ordering::SeqCst), failed.load(Ordering::SeqCst))
    }
}

impl State {
    fn fault_of(&self, request: &Request<Incoming>) -> Option<Fault> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let address = decoded(&request.uri().to_string());
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

/// Decodes the percent-encoding in a part of a URL.
pub fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(code, 16).expect("what a test needs"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).expect("what a test needs")
}

async fn serve(listener: std::net::TcpListener, service: Service, state: Arc<State>) {
    let listener = TcpListener::from_std(listener).expect("what a test needs");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (service, state) = (service.clone(), state.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            let (service, fault) = (service.clone(), state.fault_of(&request));
            async move { answer(&service, request, fault).await }
        });
        tokio::spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            // Errors are ignored, because only tests close connections.
            let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

type Body = UnsyncBoxBody<Bytes, Error>;

fn cut() -> Error {
    Error::other("cut by the test")
}

/// Returns an error response of an object store.
pub fn refusal(status: u16, code: &str) -> Response<Bytes> {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    Response::builder().status(status).body(text.into()).expect("what a test needs")
}

fn whole(answer: Response<Bytes>) -> Response<Body> {
    answer.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync())
}

async fn answer(
    service: &Service,
    request: Request<Incoming>,
    fault: Option<Fault>,
) -> Result<Response<Body>, Error> {
    match fault {
        Some(Fault::Answer(status, code)) => return Ok(whole(refusal(status, code))),
        Some(Fault::CutBefore) => return Err(cut()),
        Some(Fault::Hang) => return std::future::pending().await,
        _ => {}
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(Error::other)?.to_bytes();
    let answer = service(Request::from_parts(parts, body)).await?;
    match fault {
        Some(Fault::CutAfter) => Err(cut()),
        Some(Fault::HangAfter) => std::future::pending().await,
        Some(Fault::CutHalf) => Ok(halve(answer, stream::once(async { Err(cut()) }))),
        Some(Fault::HangHalf) => Ok(halve(answer, stream::pending())),
        _ => Ok(whole(answer)),
    }
}

/// Returns a response that sends the first half of a response's body, and then `rest`.
fn halve(
    answer: Response<Bytes>,
    then: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
) -> Response<Body> {
    answer.map(|body| {
        let half = body.slice(..body.len() / 2);
        let first = stream::once(async move { Ok(half) });
        StreamBody::new(first.chain(then).map(|part| part.map(Frame::data))).boxed_unsync()
    })
}

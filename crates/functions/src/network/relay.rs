//! Passes a sandbox's connections on to where they were meant to go.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use headwater_model::LogStream;
use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::refused::{Refusal, TOLD_MAX};
use super::{Host, Reach, names};
use crate::{Error, FunctionEvent, Result};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// How long nobody is let in after that failed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How long what a function has sent may take to leave after the function has ended.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// The ends of a sandbox's network that lie with the server.
#[derive(Debug)]
pub(crate) struct Doors {
    listeners: Vec<TcpListener>,
    questions: UdpSocket,
}

impl Doors {
    /// From what the first process of a sandbox sends: a socket for questions, then listeners.
    pub(crate) fn open(descriptors: Vec<OwnedFd>) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let mut descriptors = descriptors.into_iter();
            let questions = descriptors.next().ok_or(io::ErrorKind::InvalidData)?;
            let questions = std::net::UdpSocket::from(questions);
            questions.set_nonblocking(true)?;
            let listener = |descriptor: OwnedFd| {
                let listener = std::net::TcpListener::from(descriptor);
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            };
            let listeners = descriptors.map(listener).collect::<io::Result<_>>()?;
            Ok(Doors { listeners, questions: UdpSocket::from_std(questions)? })
        };
        open().map_err(Error::io("open a function's network"))
    }
}

/// What the connections of one call share.
#[derive(Debug)]
pub(super) struct Relay {
    reach: Reach,
    sink: mpsc::Sender<FunctionEvent>,
    told: Mutex<BTreeSet<String>>,
    places: Arc<Semaphore>,
}

/// Serves a call's network until the call is over and what it sent has left.
pub(crate) fn relay(
    doors: Doors,
    reach: Reach,
    sink: mpsc::Sender<FunctionEvent>,
    over: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(reach.gate().of_one_call()));
    let relay = Arc::new(Relay { reach, sink, told: Mutex::default(), places });
    let questions = names::serve(doors.questions, relay.clone());
    let listeners = doors.listeners;
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        let accepting = async {
            loop {
                // Dropping an accept that has not come about loses no connection.
                let accepts = listeners.iter().map(|listener| Box::pin(listener.accept()));
                let (accepted, ..) = futures::future::select_all(accepts).await;
                let Ok(place) = relay.places.clone().acquire_owned().await else { return };
                let Ok((stream, _)) = accepted else {
                    // The server may have no descriptor left for a while.
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                };
                let relay = relay.clone();
                connections.spawn(async move {
                    relay.serve(stream).await;
                    drop(place);
                });
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            () = accepting => {}
            () = questions => {}
            () = over.cancelled() => {}
        }
        drop(listeners);
        let flushed = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FLUSH_MAX, flushed).await;
    });
}

impl Relay {
    async fn serve(&self, mut inside: TcpStream) {
        let Ok(wanted) = meant_for(&inside) else { return };
        let entered = self.reach.gate().enter().map_err(Refusal::Full);
        let allowed = self.reach.targets(wanted).and_then(|targets| Ok((targets, entered?)));
        let (targets, _place) = match allowed {
            Ok(allowed) => allowed,
            Err(refusal) => return self.refuse(inside, wanted, &refusal).await,
        };
        let connecting = TcpStream::connect(&targets[..]);
        match tokio::time::timeout(CONNECT_MAX, connecting).await {
            Ok(Ok(mut outside)) => {
                let _ = outside.set_nodelay(true);
                let _ = inside.set_nodelay(true);
                let _ = copy_bidirectional(&mut inside, &mut outside).await;
            }
            // A reset, as from a host that does not want the connection.
            _ => drop(inside.set_zero_linger()),
        }
    }

    async fn refuse(&self, inside: TcpStream, wanted: SocketAddr, why: &Refusal) {
        let mut whom = wanted.to_string();
        // Before the function can fail of it.
        if let Refusal::Unlisted(host) = why {
            self.reach.unlisted().note(host);
            if host.name.parse::<IpAddr>().is_err() {
                whom = format!("{host} ({})", wanted.ip());
            }
        }
        let _ = inside.set_zero_linger();
        drop(inside);
        self.tell(format!("a connection to {whom} was refused: {why}")).await;
    }

    /// What the call may reach.
    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Notes that a name was asked for that is not listed.
    pub(super) async fn refuse_name(&self, name: Host) {
        let text = format!("the name `{name}` was not looked up: ");
        self.reach.unlisted().note(&name);
        self.tell(text + &Refusal::Unlisted(name).to_string()).await;
    }

    /// Says something in the function's output, once.
    async fn tell(&self, text: String) {
        let new = {
            let mut told = self.told.lock();
            told.len() < TOLD_MAX && told.insert(text.clone())
        };
        if new {
            let (stream, file, line) = (LogStream::System, None, None);
            let _ = self.sink.send(FunctionEvent::Line { stream, file, line, text }).await;
        }
    }
}

/// Where a connection was meant to go before it was led here.
fn meant_for(stream: &TcpStream) -> io::Result<SocketAddr> {
    Ok(match stream.local_addr()? {
        SocketAddr::V4(_) => rustix::net::sockopt::ip_original_dst(stream)?.into(),
        SocketAddr::V6(_) => rustix::net::sockopt::ipv6_original_dst(stream)?.into(),
    })
}

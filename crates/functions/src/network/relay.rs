//! Passes a sandbox's connections on to where they were meant to go.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
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

use super::{Reach, names};
use crate::{Error, FunctionEvent, Result};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// How long nobody is let in after that failed.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How long what a function has sent may take to leave after the function has ended.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// The most refusals that are told of one call.
const TOLD_MAX: usize = 20;

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
struct Relay {
    reach: Reach,
    sink: mpsc::Sender<FunctionEvent>,
    refused: Mutex<BTreeSet<SocketAddr>>,
    places: Arc<Semaphore>,
}

/// Serves a call's network until the call is over and what it sent has left.
pub(crate) fn relay(
    doors: Doors,
    reach: Reach,
    sink: mpsc::Sender<FunctionEvent>,
    over: CancellationToken,
) {
    let refused = Mutex::default();
    let places = Arc::new(Semaphore::new(reach.gate().of_one_call()));
    let questions = names::serve(doors.questions, reach.clone());
    let relay = Arc::new(Relay { reach, sink, refused, places });
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
        let entered = self.reach.gate().enter();
        let (targets, _place) = match (self.reach.targets(wanted), entered) {
            (Ok(targets), Ok(place)) => (targets, place),
            (Err(why), _) => return self.refuse(inside, wanted, why).await,
            (_, Err(why)) => return self.refuse(inside, wanted, &why).await,
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

    async fn refuse(&self, inside: TcpStream, wanted: SocketAddr, why: &str) {
        let _ = inside.set_zero_linger();
        drop(inside);
        let new = {
            let mut refused = self.refused.lock();
            refused.len() < TOLD_MAX && refused.insert(wanted)
        };
        if new {
            let text = format!("a connection to {wanted} was refused: {why}");
            let line =
                FunctionEvent::Line { stream: LogStream::System, file: None, line: None, text };
            let _ = self.sink.send(line).await;
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

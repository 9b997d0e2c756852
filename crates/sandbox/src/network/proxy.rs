//! Proxy that forwards the connections of a sandbox to their destinations.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::denied_connections::{Denial, REPORTED_MAX};
use super::{AllowedHost, EgressPolicy, dns};
use crate::{Error, Result};

/// Timeout for connecting to a destination.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// Pause after a failed accept call.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// After the function has ended: the maximum time for forwarding bytes that it had sent.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// A callback that writes a message of the proxy to the function's output.
pub type MessageCallback = Box<dyn Fn(String) -> BoxFuture<'static, ()> + Send + Sync>;

/// Sockets that were opened in a sandbox's network namespace, and that the server serves.
#[derive(Debug)]
pub struct ProxySockets {
    listeners: Vec<TcpListener>,
    dns: UdpSocket,
}

impl ProxySockets {
    /// Creates the sockets from their descriptors, which the first process of a sandbox has sent:
    /// the DNS socket, then the TCP listeners.
    pub fn open(descriptors: Vec<OwnedFd>) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let mut descriptors = descriptors.into_iter();
            let dns = descriptors.next().ok_or(io::ErrorKind::InvalidData)?;
            let dns = std::net::UdpSocket::from(dns);
            dns.set_nonblocking(true)?;
            let listener = |descriptor: OwnedFd| {
                let listener = std::net::TcpListener::from(descriptor);
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            };
            let listeners = descriptors.map(listener).collect::<io::Result<_>>()?;
            Ok(ProxySockets { listeners, dns: UdpSocket::from_std(dns)? })
        };
        open().map_err(Error::io("open a function's network"))
    }
}

/// State shared by all connections of a call.
pub(super) struct Proxy {
    policy: EgressPolicy,
    messages: MessageCallback,
    reported: Mutex<BTreeSet<String>>,
    permits: Arc<Semaphore>,
}

/// Serves the network of a call in a separate task. After `over` is cancelled, the task forwards
/// the bytes that the function had sent, and ends.
pub fn serve_proxy(
    sockets: ProxySockets,
    policy: EgressPolicy,
    messages: MessageCallback,
    over: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(policy.connections().per_call()));
    let proxy = Arc::new(Proxy { policy, messages, reported: Mutex::default(), permits });
    let names = dns::serve(sockets.dns, proxy.clone());
    let listeners = sockets.listeners;
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        let accepting = async {
            loop {
                // The first listener with a connection ends the wait, and the other accept calls
                // are cancelled. This loses no connection.
                let accepts = listeners.iter().map(|listener| Box::pin(listener.accept()));
                let (accepted, ..) = futures::future::select_all(accepts).await;
                let Ok(permit) = proxy.permits.clone().acquire_owned().await else { return };
                let Ok((stream, _)) = accepted else {
                    // Retry later: the server may temporarily have no free descriptors.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let proxy = proxy.clone();
                connections.spawn(async move {
                    proxy.serve(stream).await;
                    drop(permit);
                });
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            () = accepting => {}
            () = names => {}
            () = over.cancelled() => {}
        }
        drop(listeners);
        let flushed = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FLUSH_MAX, flushed).await;
    });
}

impl Proxy {
    async fn serve(&self, mut inside: TcpStream) {
        let Ok(wanted) = original_destination(&inside) else { return };
        let permit = self.policy.connections().acquire().map_err(Denial::Full);
        let allowed = self.policy.targets(wanted).and_then(|targets| Ok((targets, permit?)));
        let (targets, _permit) = match allowed {
            Ok(allowed) => allowed,
            Err(denial) => return self.deny(inside, wanted, &denial).await,
        };
        let connecting = TcpStream::connect(&targets[..]);
        match tokio::time::timeout(CONNECT_MAX, connecting).await {
            Ok(Ok(mut outside)) => {
                let _ = outside.set_nodelay(true);
                let _ = inside.set_nodelay(true);
                let _ = copy_bidirectional(&mut inside, &mut outside).await;
            }
            // Reset the connection, as a host that refuses connections does.
            _ => drop(inside.set_zero_linger()),
        }
    }

    async fn deny(&self, inside: TcpStream, wanted: SocketAddr, why: &Denial) {
        let mut whom = wanted.to_string();
        // Record the denial before the connection is reset, so that the hint is available when the
        // function fails.
        if let Denial::Unlisted(host) = why {
            self.policy.denied_hosts().record(host);
            if host.name.parse::<IpAddr>().is_err() {
                whom = format!("{host} ({})", wanted.ip());
            }
        }
        let _ = inside.set_zero_linger();
        drop(inside);
        self.report(format!("a connection to {whom} was refused: {why}")).await;
    }

    /// Returns the policy of the call.
    pub(super) fn policy(&self) -> &EgressPolicy {
        &self.policy
    }

    /// Records and reports a DNS query for a name that is not in the function's list.
    pub(super) async fn deny_name(&self, name: AllowedHost) {
        let text = format!("the name `{name}` was not resolved: ");
        self.policy.denied_hosts().record(&name);
        self.report(text + &Denial::Unlisted(name).to_string()).await;
    }

    /// Writes a message to the function's output, unless the same message was already written or
    /// [`REPORTED_MAX`] is reached.
    async fn report(&self, text: String) {
        let new = {
            let mut reported = self.reported.lock();
            reported.len() < REPORTED_MAX && reported.insert(text.clone())
        };
        if new {
            (self.messages)(text).await;
        }
    }
}

/// Returns the destination that user code requested, before the packet filter redirected the
/// connection to the listener.
fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    Ok(match stream.local_addr()? {
        SocketAddr::V4(_) => rustix::net::sockopt::ip_original_dst(stream)?.into(),
        SocketAddr::V6(_) => rustix::net::sockopt::ipv6_original_dst(stream)?.into(),
    })
}

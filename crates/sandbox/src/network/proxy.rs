//! Proxy between the connections of a sandbox and their destinations.

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

use super::denials::{Denial, REPORTED_MAX};
use super::{EgressPolicy, Host, dns};
use crate::{Error, Result};

/// Timeout for connecting to a destination.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Maximum time for forwarding bytes that the function has sent, after the end of the function.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// A callback for the proxy's messages to the user.
pub type Messages = Box<dyn Fn(String) -> BoxFuture<'static, ()> + Send + Sync>;

/// The sockets in a sandbox's network that the server serves.
#[derive(Debug)]
pub struct ProxySockets {
    listeners: Vec<TcpListener>,
    dns: UdpSocket,
}

impl ProxySockets {
    /// Opens the sockets from the descriptors sent by the first process of a sandbox: the DNS
    /// socket, followed by listeners.
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

/// State shared by the connections of a call.
pub(super) struct Proxy {
    policy: EgressPolicy,
    messages: Messages,
    reported: Mutex<BTreeSet<String>>,
    permits: Arc<Semaphore>,
}

/// Serves the network of a call in a separate task. The task ends after `over` is cancelled and all
/// bytes that the function has sent are forwarded.
pub fn serve_proxy(
    sockets: ProxySockets,
    policy: EgressPolicy,
    messages: Messages,
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
                // The other calls of accept are cancelled. This loses no connection.
                let accepts = listeners.iter().map(|listener| Box::pin(listener.accept()));
                let (accepted, ..) = futures::future::select_all(accepts).await;
                let Ok(permit) = proxy.permits.clone().acquire_owned().await else { return };
                let Ok((stream, _)) = accepted else {
                    // The server may temporarily have no free descriptors.
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

    /// Records and reports a query for an unlisted name.
    pub(super) async fn deny_name(&self, name: Host) {
        let text = format!("the name `{name}` was not resolved: ");
        self.policy.denied_hosts().record(&name);
        self.report(text + &Denial::Unlisted(name).to_string()).await;
    }

    /// Reports a message in the function's output, unless it was already reported or there were too
    /// many reports.
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

/// Returns the destination of a connection before its redirection to the listener.
fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    Ok(match stream.local_addr()? {
        SocketAddr::V4(_) => rustix::net::sockopt::ip_original_dst(stream)?.into(),
        SocketAddr::V6(_) => rustix::net::sockopt::ipv6_original_dst(stream)?.into(),
    })
}

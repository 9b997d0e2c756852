//! The network addresses to which the server may connect for triggers and destinations.
//!
//! Every trigger source that connects to a server resolves the server's name here. Triggers of the
//! lake's owner may connect to any address. Triggers of other users may connect to public
//! addresses. They may connect to another address only if their user has the right to read its
//! location, such as `kafka://10.0.0.7:9092`. A user needs the same right to import files from a
//! location.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Actor, AddressScope, ErrorCode, Problem, embedded_address};

use crate::is_own_address;

/// Timeout for resolving the name of a server.
const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// A callback that returns true if the user may read a location.
pub type LocationCheck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The servers to which the triggers and destinations of one user may connect. The default allows
/// all servers.
#[derive(Clone, Default)]
pub struct ConnectionPolicy {
    user: Option<RestrictedUser>,
}

/// The user, and the check of its right to read a location.
#[derive(Clone)]
struct RestrictedUser {
    actor: Actor,
    allows: LocationCheck,
}

/// Address of a server, as a trigger or a destination states it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    /// The scheme of the server's URL, such as `nats`.
    pub scheme: &'static str,
    /// Host name or IP address; an IPv6 address is without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for ServerAddress {
    /// Writes the location, such as `nats://10.0.0.7:4222`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServerAddress { scheme, host, port } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

impl ConnectionPolicy {
    /// Creates the policy for a user other than the lake's owner. `allows` returns true for the
    /// locations that this user may read.
    pub fn restricted(actor: Actor, allows: LocationCheck) -> Self {
        ConnectionPolicy { user: Some(RestrictedUser { actor, allows }) }
    }

    /// Returns true if both policies are for the same actor: the same account with the same scopes.
    /// If so, connections that were opened under the other policy may stay open.
    pub fn is_same(&self, other: &ConnectionPolicy) -> bool {
        self.actor() == other.actor()
    }

    fn actor(&self) -> Option<&Actor> {
        self.user.as_ref().map(|user| &user.actor)
    }

    /// Returns true if every address is allowed.
    pub fn is_unrestricted(&self) -> bool {
        self.user.is_none()
    }

    /// Returns true if the user may read a location, such as `s3://bucket/folder`.
    pub fn allows_location(&self, location: &str) -> bool {
        self.user.as_ref().is_none_or(|user| (user.allows)(location))
    }

    /// Resolves the name of a server, and returns the addresses that this policy allows.
    ///
    /// Errors: `unavailable` if the name cannot be resolved; `forbidden` if no address is allowed.
    pub async fn resolve(&self, server: &ServerAddress) -> Result<Vec<SocketAddr>, Problem> {
        let lookup = tokio::net::lookup_host((server.host.as_str(), server.port));
        let unavailable = |reason: String| {
            let message = format!("`{}` cannot be resolved: {reason}", server.host);
            Problem::new(ErrorCode::Unavailable, message)
                .with_hint("Check the host; the connection is attempted again.")
        };
        let found = tokio::time::timeout(RESOLVE_MAX, lookup).await;
        let found = found.map_err(|_| unavailable("the nameserver does not respond".to_owned()))?;
        let found: Vec<SocketAddr> =
            found.map_err(|error| unavailable(error.to_string()))?.collect();
        self.check(server, found)
    }

    fn check(
        &self,
        server: &ServerAddress,
        found: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, Problem> {
        let Some(user) = &self.user else { return Ok(found) };
        let location = server.to_string();
        if (user.allows)(&location) {
            return Ok(found);
        }
        let is_public = |one: &&SocketAddr| is_public(one.ip());
        let public: Vec<SocketAddr> = found.iter().filter(is_public).copied().collect();
        match found.first() {
            Some(first) if public.is_empty() => Err(forbidden(user, &location, *first)),
            _ => Ok(public),
        }
    }
}

/// Returns true for a public address, except for addresses of this host.
fn is_public(address: IpAddr) -> bool {
    let is_own = is_own_address(address) || is_own_address(embedded_address(address));
    AddressScope::of(address) == AddressScope::Public && !is_own
}

fn forbidden(user: &RestrictedUser, location: &str, address: SocketAddr) -> Problem {
    let scope = match AddressScope::of(address.ip()) {
        AddressScope::Private => "an address of a private network",
        AddressScope::Host | AddressScope::Public => "an address of the server's host",
    };
    let name = if let Actor::User(user) = &user.actor { user.name.as_str() } else { "anonymous" };
    let message =
        format!("user `{name}` may not connect to `{location}`: `{}` is {scope}", address.ip());
    let hint = format!(
        "An administrator can allow the connection: `headwater grant read \
         --on 'location:{location}' --to {name}`."
    );
    Problem::new(ErrorCode::Forbidden, message).with_hint(hint)
}

impl fmt::Debug for ConnectionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionPolicy").field("actor", &self.actor()).finish()
    }
}

#[cfg(test)]
mod tests {
    use headwater_model::{AuthMethod, AuthenticatedUser, Timestamp};

    use super::*;

    fn ana(seconds: i64) -> AuthenticatedUser {
        AuthenticatedUser {
            name: "ana".to_owned(),
            created: Timestamp::from_timestamp(seconds, 0).expect("a time"),
            method: AuthMethod::Token,
            token: None,
            scopes: None,
            expires: None,
        }
    }

    fn policy(user: AuthenticatedUser) -> ConnectionPolicy {
        let allows = |location: &str| location == "kafka://10.0.0.7:9092";
        ConnectionPolicy::restricted(Actor::User(Box::new(user)), Arc::new(allows))
    }

    fn server(host: &str) -> ServerAddress {
        ServerAddress { scheme: "kafka", host: host.to_owned(), port: 9_092 }
    }

    #[tokio::test]
    async fn only_the_owner_reaches_the_host_and_private_networks() {
        let (user, owner) = (policy(ana(0)), ConnectionPolicy::default());
        for (host, expected) in [
            ("127.0.0.1", "an address of the server's host"),
            ("localhost", "an address of the server's host"),
            ("::1", "an address of the server's host"),
            ("169.254.169.254", "an address of the server's host"),
            ("0.0.0.0", "an address of the server's host"),
            ("10.0.0.8", "an address of a private network"),
            ("fd12::1", "an address of a private network"),
            ("::ffff:192.168.0.1", "an address of a private network"),
        ] {
            owner.resolve(&server(host)).await.expect(host);
            let problem = user.resolve(&server(host)).await.expect_err(host);
            assert_eq!(problem.code, ErrorCode::Forbidden, "{problem}");
            assert!(problem.message.contains(expected), "{problem}");
        }
        for host in ["1.1.1.1", "10.0.0.7", "2606:4700::1111"] {
            assert_eq!(user.resolve(&server(host)).await.expect(host).len(), 1);
        }
        let mixed = ["10.0.0.8:1", "1.1.1.1:1"].map(|one| one.parse().expect("an address"));
        let checked = user.check(&server("mixed.example.com"), mixed.to_vec()).expect("one");
        assert_eq!(checked, mixed[1..]);
    }

    #[test]
    fn connections_stay_only_for_the_same_account_and_scopes() {
        let user = policy(ana(0));
        assert!(user.is_same(&policy(ana(0))));
        assert!(!user.is_same(&ConnectionPolicy::default()));
        assert!(!user.is_same(&policy(ana(1))), "a later account with the same name");
        let limited = AuthenticatedUser { scopes: Some(Vec::new()), ..ana(0) };
        assert!(!user.is_same(&policy(limited)), "a token with scopes");
    }

    #[test]
    fn the_hosts_own_addresses_are_not_public() {
        let outward = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
        if outward.connect("203.0.113.1:9").is_ok() {
            assert!(!is_public(outward.local_addr().expect("an address").ip()));
        }
        assert!(is_public(IpAddr::from([1, 1, 1, 1])));
    }
}

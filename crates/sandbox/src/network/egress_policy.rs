//! The addresses to which the code in a sandbox may connect.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use headwater_model::{AddressScope, embedded_address};

use super::ConnectionCap;
use super::denied_connections::{Denial, DeniedHosts};

/// The nameserver's address inside a sandbox. The address is from a range reserved for
/// documentation.
pub(crate) const NAMESERVER: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 53)), 53);

/// Network access of a function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NetworkAccess {
    /// No access.
    #[default]
    Off,
    /// Every address except those of the host and of its link-local network.
    On,
    /// These hosts only.
    Hosts(Vec<AllowedHost>),
}

impl NetworkAccess {
    /// Returns true if there is no access.
    pub fn denies_all(&self) -> bool {
        *self == NetworkAccess::Off
    }
}

/// A host that a function may reach: `api.example.com`, `10.0.0.7:5432`, `[2001:db8::7]:443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost {
    /// Host name or IP address.
    pub name: String,
    /// The allowed port; `None` allows all ports.
    pub port: Option<u16>,
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(AllowedHost { name: address.ip().to_string(), port: Some(address.port()) });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(AllowedHost { name: address.to_string(), port: None });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| unusable(text))?)),
            None => (text, None),
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let usable = name.len() < 254
            && name.split('.').all(|part| !part.is_empty() && part.chars().all(letters));
        if usable { Ok(AllowedHost { name: name.to_owned(), port }) } else { Err(unusable(text)) }
    }
}

impl std::fmt::Display for AllowedHost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) if self.name.contains(':') => write!(formatter, "[{}]:{port}", self.name),
            Some(port) => write!(formatter, "{}:{port}", self.name),
            None => formatter.write_str(&self.name),
        }
    }
}

fn unusable(text: &str) -> String {
    format!("`{text}` is not a host: write `api.example.com`, `api.example.com:443` or an address")
}

/// The destinations to which one call may connect.
#[derive(Debug, Clone)]
pub struct EgressPolicy {
    listed: AllowedAddresses,
    /// The listed hosts, including those that cannot be resolved.
    hosts: Vec<AllowedHost>,
    connections: Arc<ConnectionCap>,
    denied_hosts: Arc<DeniedHosts>,
}

/// Allowed addresses. The host's own addresses are denied, even if they are listed here.
#[derive(Debug, Clone)]
enum AllowedAddresses {
    /// All addresses. Names are resolved by these nameservers.
    Public(Vec<SocketAddr>),
    /// These addresses, each with the host that resolves to it.
    Only(Vec<(IpAddr, AllowedHost)>),
}

impl EgressPolicy {
    /// Resolves the hosts of a network setting, and returns the policy. The policy is `None` for
    /// [`NetworkAccess::Off`]. Also returns a message for each name that cannot be resolved.
    pub async fn resolve(
        network: &NetworkAccess,
        nameservers: Vec<SocketAddr>,
        connections: Arc<ConnectionCap>,
    ) -> (Option<EgressPolicy>, Vec<String>) {
        let hosts = match network {
            NetworkAccess::Off => return (None, Vec::new()),
            NetworkAccess::On => {
                let listed = AllowedAddresses::Public(nameservers);
                return (Some(EgressPolicy::new(listed, Vec::new(), connections)), Vec::new());
            }
            NetworkAccess::Hosts(hosts) => hosts,
        };
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for host in hosts {
            match tokio::net::lookup_host((host.name.as_str(), 0)).await {
                Ok(all) => found.extend(all.map(|one| (one.ip().to_canonical(), host.clone()))),
                Err(error) => unknown.push(format!("`{}` cannot be resolved: {error}", host.name)),
            }
        }
        (
            Some(EgressPolicy::new(AllowedAddresses::Only(found), hosts.clone(), connections)),
            unknown,
        )
    }

    fn new(
        listed: AllowedAddresses,
        hosts: Vec<AllowedHost>,
        connections: Arc<ConnectionCap>,
    ) -> EgressPolicy {
        EgressPolicy { listed, hosts, connections, denied_hosts: Arc::default() }
    }

    /// Returns the addresses to which the server connects when a sandbox requests the destination
    /// `wanted`. Returns a denial if the destination is not allowed.
    pub(super) fn targets(&self, wanted: SocketAddr) -> Result<Vec<SocketAddr>, Denial> {
        // Connect to a NAT64 address itself, because the embedded IPv4 address may be unreachable.
        let address = wanted.ip().to_canonical();
        let wanted = SocketAddr::new(address, wanted.port());
        let is_host_address = |address| self.connections.is_host_address(address);
        let is_nameserver =
            matches!(self.listed, AllowedAddresses::Public(_)) && wanted == NAMESERVER;
        let is_host = AddressScope::of(address) == AddressScope::Host;
        if !is_nameserver
            && (is_host || is_host_address(address) || is_host_address(embedded_address(address)))
        {
            return Err(Denial::Own);
        }
        let targets = self.listed.targets(wanted);
        let listed = !targets.is_empty() || is_nameserver;
        listed.then_some(targets).ok_or_else(|| Denial::Unlisted(self.listed.as_listed(wanted)))
    }

    /// Returns true if the DNS queries of the sandbox are forwarded. If false, the sandbox can
    /// resolve only the names in its hosts file.
    pub(super) fn resolves(&self) -> bool {
        matches!(self.listed, AllowedAddresses::Public(_))
    }

    /// Returns true if the list of allowed hosts contains this name.
    pub(super) fn lists(&self, name: &str) -> bool {
        self.hosts.iter().any(|host| host.name.eq_ignore_ascii_case(name))
    }

    /// Returns the hosts to which connections of the call were denied.
    pub fn denied_hosts(&self) -> &DeniedHosts {
        &self.denied_hosts
    }

    /// Returns the connection limit that all calls share.
    pub(super) fn connections(&self) -> &ConnectionCap {
        &self.connections
    }

    /// Returns the nameservers of the host.
    pub(super) fn nameservers(&self) -> &[SocketAddr] {
        match &self.listed {
            AllowedAddresses::Public(nameservers) => nameservers,
            AllowedAddresses::Only(_) => &[],
        }
    }

    /// Returns the files that configure name resolution inside the sandbox: contents by path.
    pub fn files(&self) -> BTreeMap<String, String> {
        self.listed.files()
    }
}

impl AllowedAddresses {
    fn targets(&self, wanted: SocketAddr) -> Vec<SocketAddr> {
        match self {
            AllowedAddresses::Public(nameservers) if wanted == NAMESERVER => nameservers.clone(),
            AllowedAddresses::Public(_) => vec![wanted],
            AllowedAddresses::Only(listed) => {
                let named = |(address, host): &(IpAddr, AllowedHost)| {
                    *address == wanted.ip() && host.port.is_none_or(|port| port == wanted.port())
                };
                if listed.iter().any(named) { vec![wanted] } else { Vec::new() }
            }
        }
    }

    /// Returns the entry that a user must add to the function's list to allow a destination. The
    /// entry contains the destination's name if it is known, otherwise its address.
    fn as_listed(&self, wanted: SocketAddr) -> AllowedHost {
        let (address, port) = (wanted.ip(), Some(wanted.port()));
        let AllowedAddresses::Only(listed) = self else {
            return AllowedHost { name: address.to_string(), port };
        };
        let known = listed.iter().find(|(known, _)| *known == address);
        let name = known.map_or_else(|| address.to_string(), |(_, host)| host.name.clone());
        AllowedHost { name, port }
    }

    fn files(&self) -> BTreeMap<String, String> {
        let mut hosts = "127.0.0.1 localhost headwater\n::1 localhost\n".to_owned();
        let resolver = format!("nameserver {}\n", NAMESERVER.ip());
        if let AllowedAddresses::Only(listed) = self {
            for (address, host) in listed {
                let _ = writeln!(hosts, "{address} {}", host.name);
            }
        }
        let files = [("call/hosts", hosts), ("call/resolv.conf", resolver)];
        files.map(|(path, text)| (path.to_owned(), text)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_written() {
        let check = |text: &str, name: &str, port: Option<u16>| {
            let host: AllowedHost = text.parse().unwrap();
            assert_eq!((host.name.as_str(), host.port), (name, port), "{text}");
        };
        check("api.example.com", "api.example.com", None);
        check("api.example.com:443", "api.example.com", Some(443));
        check("10.0.0.7:5432", "10.0.0.7", Some(5432));
        check("2001:db8::7", "2001:db8::7", None);
        check("[2001:db8::7]:443", "2001:db8::7", Some(443));
        for text in
            ["", "*.example.com", "http://x", "x:", "x:99999", "a b", "a..b", "x\n1.2.3.4 y"]
        {
            assert!(text.parse::<AllowedHost>().is_err(), "{text}");
        }
    }

    fn policy(listed: AllowedAddresses) -> EgressPolicy {
        EgressPolicy::new(listed, Vec::new(), Arc::new(ConnectionCap::new(Vec::new(), Some(16))))
    }

    #[test]
    fn the_hosts_own_addresses_are_never_reached() {
        let public = policy(AllowedAddresses::Public(vec!["127.0.0.53:53".parse().unwrap()]));
        let targets = |text: &str| public.targets(text.parse().unwrap()).map_or(0, |all| all.len());
        for text in [
            "127.0.0.1:80",
            "127.9.9.9:80",
            "0.0.0.0:80",
            "169.254.169.254:80",
            "[::1]:80",
            "[::]:80",
            "[::ffff:127.0.0.1]:80",
            "[fe80::1]:80",
            "255.255.255.255:80",
            "100.100.100.200:80",
            "168.63.129.16:80",
            "[fd20:ce::254]:80",
            "[fd00:ec2::23]:80",
            "[fd00:ec2:1::7]:80",
            "[fd00:c1::a9fe:a9fe]:80",
            "[64:ff9b::127.0.0.1]:80",
            "[64:ff9b::169.254.169.254]:80",
            "[64:ff9b:1::7f00:1]:80",
            "[2002:7f00:1::1]:80",
            "[2002:a9fe:a9fe::]:80",
            "[::127.0.0.1]:80",
        ] {
            assert_eq!(targets(text), 0, "{text}");
        }
        assert_eq!(targets("1.1.1.1:443"), 1);
        for text in ["[64:ff9b::1.1.1.1]:443", "[2002:101:101::1]:443"] {
            let text: SocketAddr = text.parse().unwrap();
            assert_eq!(
                public.targets(text).unwrap(),
                [text],
                "the address is reached through NAT64 or 6to4"
            );
        }
        // The host's own addresses are denied. Only the reserved address leads to a nameserver of
        // the host.
        assert_eq!(public.targets(NAMESERVER).unwrap(), ["127.0.0.53:53".parse().unwrap()]);
        assert_eq!(targets("127.0.0.53:53"), 0);
    }

    #[test]
    fn only_listed_hosts_are_allowed() {
        let list = |texts: &[(&str, &str)]| {
            let listed = texts
                .iter()
                .map(|(address, host)| (address.parse().unwrap(), host.parse().unwrap()));
            policy(AllowedAddresses::Only(listed.collect()))
        };
        let listed = list(&[("10.0.0.7", "db.example.com:5432"), ("127.0.0.1", "localhost")]);
        let secrets =
            list(&[("169.254.169.254", "a.example.com"), ("fd00:ec2::254", "b.example.com")]);
        for text in ["169.254.169.254:80", "[fd00:ec2::254]:80"] {
            assert!(secrets.targets(text.parse().unwrap()).is_err(), "{text}");
        }
        let translated = list(&[("64:ff9b::5db8:d822", "example.com:443")]);
        assert!(translated.targets("[64:ff9b::5db8:d822]:443".parse().unwrap()).is_ok());
        for (text, wanted) in
            [("10.0.0.7:5432", 1), ("10.0.0.7:22", 0), ("10.0.0.8:5432", 0), ("127.0.0.1:80", 0)]
        {
            let found = listed.targets(text.parse().unwrap());
            assert_eq!(found.map_or(0, |all| all.len()), wanted, "{text}");
        }
        assert!(listed.targets(NAMESERVER).is_err());
        assert!(listed.files()["call/hosts"].contains("10.0.0.7 db.example.com\n"));
        let denial = |text: &str| listed.targets(text.parse().unwrap()).unwrap_err();
        for (text, host) in
            [("10.0.0.7:22", "db.example.com:22"), ("[2001:db8::7]:443", "[2001:db8::7]:443")]
        {
            assert_eq!(denial(text), Denial::Unlisted(host.parse().unwrap()), "{text}");
            assert_eq!(host.parse::<AllowedHost>().unwrap().to_string(), host);
        }
    }
}

//! Scopes of network addresses: host, private or public. They determine to which addresses the code
//! and the triggers of users may connect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of cloud providers' metadata services, which can return secrets. Only the addresses
/// outside the link-local range are listed; all link-local addresses belong to the host.
const SECRETS_V4: [Ipv4Addr; 2] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const SECRETS_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254),
    Ipv6Addr::new(0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];
/// First 32 bits of the IPv6 network in which AWS has the metadata service of its instances.
const SECRETS_NETWORK: [u16; 2] = [0xfd00, 0x0ec2];

/// The scope of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressScope {
    /// An address of the host, or an address that only the host can reach. Examples are a loopback
    /// address and the metadata service of a virtual machine.
    Host,
    /// An address of a private network.
    Private,
    /// Any other address.
    Public,
}

impl AddressScope {
    /// Returns the scope of an address. If an IPv6 address contains an IPv4 address, returns the
    /// narrower of the scopes of both addresses; `Host` is the narrowest scope.
    pub fn of(address: IpAddr) -> Self {
        let both = [address.to_canonical(), embedded_address(address)];
        if both.iter().any(|address| is_host(*address)) {
            AddressScope::Host
        } else if both.iter().any(|address| is_private(*address)) {
            AddressScope::Private
        } else {
            AddressScope::Public
        }
    }
}

/// Returns the IPv4 address that an IPv6 address contains (IPv4-mapped, NAT64 or 6to4). Other
/// addresses are returned unchanged.
pub fn embedded_address(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match six.segments() {
        [0x64, 0xff9b, 0 | 1, _, _, _, high, low] | [0x2002, high, low, ..] => of(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => of(high, low),
        _ => six.to_canonical(),
    }
}

fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.octets()[0] == 0
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || SECRETS_V4.contains(&address)
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address == Ipv6Addr::UNSPECIFIED
                || address.is_unicast_link_local()
                || address.is_multicast()
                || address.segments()[..2] == SECRETS_NETWORK
                || SECRETS_V6.contains(&address)
        }
    }
}

/// Returns true for private (RFC 1918), shared (RFC 6598) and unique local (RFC 4193) addresses.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || (first == 100 && second & 0b1100_0000 == 64)
        }
        IpAddr::V6(address) => {
            // Site-local addresses (fec0::/10) are deprecated, but still private.
            address.is_unique_local() || address.segments()[0] & 0xffc0 == 0xfec0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scope() {
        let check = |scope: AddressScope, addresses: &[&str]| {
            for text in addresses {
                let address = text.parse().expect("an address");
                assert_eq!(AddressScope::of(address), scope, "{text}");
            }
        };
        check(
            AddressScope::Host,
            &[
                "127.0.0.1",
                "127.9.9.9",
                "0.0.0.0",
                "169.254.169.254",
                "255.255.255.255",
                "100.100.100.200",
                "168.63.129.16",
                "::1",
                "::",
                "::ffff:127.0.0.1",
                "::127.0.0.1",
                "fe80::1",
                "fd00:ec2::23",
                "64:ff9b::169.254.169.254",
                "2002:7f00:1::1",
            ],
        );
        check(
            AddressScope::Private,
            &[
                "10.0.0.1",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.1.1",
                "100.64.0.1",
                "100.127.255.255",
                "::ffff:10.0.0.1",
                "64:ff9b::10.0.0.1",
                "2002:a00:1::1",
                "fd12::1",
                "fc00::1",
                "fec0::1",
            ],
        );
        check(
            AddressScope::Public,
            &["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::1.1.1.1"],
        );
    }
}

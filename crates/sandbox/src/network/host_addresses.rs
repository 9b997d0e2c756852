//! Detects addresses of the host itself, from the kernel's current routes.

use std::net::IpAddr;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};

use crate::netlink::{ERROR, REQUEST, attribute, message};

const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const DESTINATION: u16 = 1;

/// The type of a route to another machine.
const UNICAST: u8 = 1;

/// Returns true if a connection to this address would end on this host. That is the case if the
/// address belongs to an interface of the host, or if its route stays on the host. Returns false
/// for unreachable addresses.
pub fn is_own_address(address: IpAddr) -> bool {
    match route_to(address) {
        Ok(kind) => kind != UNICAST,
        Err(rustix::io::Errno::NETUNREACH | rustix::io::Errno::HOSTUNREACH) => false,
        // If the kernel's reply is unknown, deny the connection, as for an address of the host.
        Err(_) => true,
    }
}

/// Returns the kernel's type of the route to this address, such as [`UNICAST`].
fn route_to(address: IpAddr) -> rustix::io::Result<u8> {
    let (family, bytes) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let bits = bytes.len() as u8 * 8;
    let mut body = vec![family as u8, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    body.extend(attribute(DESTINATION, &bytes));
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    rustix::net::send(&socket, &message(GET_ROUTE, REQUEST, 1, &body), SendFlags::empty())?;
    let mut answer = vec![0_u8; 4 << 10];
    let (length, _) = rustix::net::recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
    let answer = &answer[..length];
    let kind = |at: usize| Some(u16::from_ne_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    match (kind(4), answer.get(16..24)) {
        (Some(NEW_ROUTE), Some(route)) => Ok(route[7]),
        (Some(ERROR), Some(told)) => {
            let error = i32::from_ne_bytes([told[0], told[1], told[2], told[3]]);
            Err(rustix::io::Errno::from_raw_os_error(-error))
        }
        _ => Err(rustix::io::Errno::BADMSG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_addresses_are_known() {
        for text in ["127.0.0.1", "127.8.9.10", "::1", "255.255.255.255"] {
            assert!(is_own_address(text.parse().unwrap()), "{text}");
        }
        // These addresses are reserved for documentation, so they are never the host's own.
        for text in ["203.0.113.9", "198.51.100.7"] {
            assert!(!is_own_address(text.parse().unwrap()), "{text}");
        }
        let outward = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        if outward.connect("203.0.113.1:9").is_ok() {
            assert!(is_own_address(outward.local_addr().unwrap().ip()));
        }
    }
}

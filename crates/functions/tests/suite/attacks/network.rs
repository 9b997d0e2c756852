//! The network: none unless asked for, and never another's.

use std::io::Read;

use super::{held, held_within};
use headwater_functions::Limits;

#[tokio::test]
async fn nothing_outside_can_be_reached() {
    held(
        "addresses = [(socket.AF_INET, ('1.1.1.1', 53)), (socket.AF_INET6, ('2606:4700::1111', 53))]
for family, address in addresses:
    with socket.socket(family, socket.SOCK_STREAM) as stream:
        stream.settimeout(3)
        if not fails(stream.connect, address):
            return False
    with socket.socket(family, socket.SOCK_DGRAM) as datagram:
        if not fails(datagram.sendto, b'x', address):
            return False
return True",
    )
    .await;
}

#[tokio::test]
async fn no_name_is_resolved() {
    held("return fails(socket.getaddrinfo, 'pypi.org', 443)").await;
}

#[tokio::test]
async fn services_on_the_hosts_loopback_are_not_there() {
    let mut addresses = Vec::new();
    let mut services = Vec::new();
    for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
        if let Ok(service) = std::net::TcpListener::bind(address) {
            addresses.push(service.local_addr().unwrap().port());
            services.push(service);
        }
    }
    held(&format!(
        "for port in {addresses:?}:
    for host in ['127.0.0.1', '::1', '0.0.0.0', '127.0.0.53', 'localhost']:
        if not fails(socket.create_connection, (host, port), timeout=3):
            return False
return True"
    ))
    .await;
}

#[tokio::test]
async fn its_loopback_is_its_own() {
    held(
        "server = socket.create_server(('127.0.0.1', 0))
socket.create_connection(server.getsockname(), timeout=3)
return [name for _, name in socket.if_nameindex()] == ['lo']",
    )
    .await;
}

#[tokio::test]
async fn packets_cannot_be_made_by_hand() {
    held(
        "raw = fails(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)
return raw and fails(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0)",
    )
    .await;
}

#[tokio::test]
async fn odd_families_of_sockets_are_refused() {
    held(
        "own = {int(family) for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)}
for family in range(3, 46):
    if family not in own and not fails(socket.socket, family, socket.SOCK_DGRAM):
        return False
return True",
    )
    .await;
}

#[tokio::test]
async fn its_network_cannot_be_changed() {
    held(
        "import fcntl
request = struct.pack('16sH14s', b'lo', 0, b'')
with socket.socket() as one:
    return fails(fcntl.ioctl, one, 0x8914, request)",
    )
    .await;
}

/// With the network comes the host's namespace, and with that its abstract sockets.
#[tokio::test]
async fn abstract_sockets_of_the_host_are_out_of_reach() {
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!("headwater-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let service = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    service.set_nonblocking(true).unwrap();
    let body = format!(
        "with socket.socket(socket.AF_UNIX) as one:
    return fails(one.connect, b'\\0{name}')"
    );
    held_within(Limits { network: true, ..Limits::default() }, &body).await;
    held(&body).await;
    assert!(service.accept().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock));
    // The host itself can.
    let mut connected = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
    connected.set_nonblocking(true).unwrap();
    assert!(connected.read(&mut [0]).is_err());
}

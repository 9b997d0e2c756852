//! The network: no access by default, and never the network of another sandbox.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::atomic::Ordering;

use super::{held, held_by, held_for_anybody, held_where, held_within, probe};
use crate::support::{
    NO_ADDRESS, environment, not_checked, own_address, run, service, start, with_reachable_address,
};
use headwater_functions::{
    FunctionEvent, FunctionResult, Functions, FunctionsOptions, Invocation, Limits, NetworkAccess,
};
use tokio_util::sync::CancellationToken;

fn with(network: NetworkAccess) -> Limits {
    Limits { network, ..Limits::default() }
}

fn hosts(hosts: &[String]) -> Limits {
    with(NetworkAccess::Hosts(hosts.iter().map(|host| host.parse().unwrap()).collect()))
}

/// A function that returns true if a service on the host responds.
const REACHED: &str = "def reached(host, port):
    try:
        with socket.create_connection((host, port), timeout=5) as one:
            return one.recv(1) == b'!'
    except OSError:
        return False
";

#[tokio::test]
async fn nothing_outside_can_be_reached() {
    held_for_anybody(
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
async fn services_on_the_hosts_loopback_are_unreachable() {
    let mut addresses = Vec::new();
    let mut services = Vec::new();
    for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
        if let Ok(service) = std::net::TcpListener::bind(address) {
            addresses.push(service.local_addr().unwrap().port());
            services.push(service);
        }
    }
    held_for_anybody(&format!(
        "for port in {addresses:?}:
    for host in ['127.0.0.1', '::1', '0.0.0.0', '127.0.0.53', 'localhost']:
        if not fails(socket.create_connection, (host, port), timeout=3):
            return False
return True"
    ))
    .await;
}

#[tokio::test]
async fn a_function_has_its_own_loopback_interface() {
    held(
        "server = socket.create_server(('127.0.0.1', 0))
socket.create_connection(server.getsockname(), timeout=3)
return [name for _, name in socket.if_nameindex()] == ['lo']",
    )
    .await;
}

#[tokio::test]
async fn raw_packets_cannot_be_created() {
    held_for_anybody(
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
async fn a_function_cannot_change_its_network() {
    held(
        "import fcntl
request = struct.pack('16sH14s', b'lo', 0, b'')
with socket.socket() as one:
    return fails(fcntl.ioctl, one, 0x8914, request)",
    )
    .await;
}

#[tokio::test]
async fn abstract_sockets_of_the_host_are_unreachable() {
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!("headwater-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let service = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    service.set_nonblocking(true).unwrap();
    let body = format!(
        "with socket.socket(socket.AF_UNIX) as one:
    return fails(one.connect, b'\\0{name}')"
    );
    held_within(with(NetworkAccess::On), &body).await;
    held(&body).await;
    assert!(service.accept().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock));
    // A process outside the sandbox can connect to the service.
    let mut connected = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
    connected.set_nonblocking(true).unwrap();
    assert!(connected.read(&mut [0]).is_err());
}

#[tokio::test]
async fn the_hosts_loopback_is_unreachable_with_network_access() {
    let mut services = vec![service(Some(Ipv4Addr::LOCALHOST.into())).unwrap()];
    services.extend(service(Some(Ipv6Addr::LOCALHOST.into())));
    let ports: Vec<u16> = services.iter().map(|(address, _)| address.port()).collect();
    let own = own_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let names = format!(
        "['127.0.0.1', '::1', '0.0.0.0', '::', '127.0.0.53', '::ffff:127.0.0.1', 'localhost', '{own}']"
    );
    let body = format!(
        "{REACHED}return not any(reached(host, port) for host in {names} for port in {ports:?})"
    );
    held_within(with(NetworkAccess::On), &body).await;
    let listed = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    held_within(hosts(&listed), &body).await;
    assert!(services.iter().all(|(_, count)| count.load(Ordering::Relaxed) == 0));
}

#[tokio::test]
async fn the_host_is_unreachable_at_its_other_addresses() {
    let Some((own, count)) = service(own_address()) else {
        return not_checked(NO_ADDRESS);
    };
    let body = format!(
        "{REACHED}return not reached('{0}', {1}) and not reached('::ffff:{0}', {1})",
        own.ip(),
        own.port()
    );
    for limits in [with(NetworkAccess::On), hosts(&[own.ip().to_string()])] {
        held_within(limits.clone(), &body).await;
        let functions = start().await;
        let environment = environment(&functions, &[]).await;
        let (outcome, lines) =
            run(&functions, Invocation { limits, ..probe(&environment, &body) }).await;
        outcome.unwrap();
        let refused =
            format!("a connection to {own} was refused: the address belongs to this host");
        assert!(lines.iter().any(|(_, _, _, text)| text.contains(&refused)), "{lines:?}");
    }
    assert_eq!(count.load(Ordering::Relaxed), 0);
}

/// Starts a service that sends `!` to each client, and keeps the connections open until it is
/// released.
fn holding(address: IpAddr, released: std::sync::mpsc::Receiver<()>) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind((address, 0)).unwrap();
    let own = listener.local_addr().unwrap();
    let held = std::sync::Arc::new(std::sync::Mutex::new(Some(Vec::new())));
    let kept = held.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"!");
            if let Some(held) = &mut *held.lock().unwrap() {
                held.push(stream);
            }
        }
    });
    std::thread::spawn(move || {
        let _ = released.recv();
        kept.lock().unwrap().take();
    });
    own
}

#[tokio::test]
async fn connections_leave_the_server_its_descriptors() {
    let Some(own) = own_address() else { return not_checked(NO_ADDRESS) };
    let (release, released) = std::sync::mpsc::channel::<()>();
    let other = holding(own, released);
    let options = FunctionsOptions { connections_max: Some(8), ..with_reachable_address() };
    let functions = Functions::start(options).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let (host, port) = (other.ip(), other.port());
    // Each call opens as many connections as possible; the total of all calls is limited.
    let body = format!(
        "held = []
for _ in range(4):
    held.append(socket.create_connection(('{host}', {port}), timeout=5))
    if held[-1].recv(1) != b'!':
        return False
print('held')
for one in held:
    one.settimeout(60)
    one.recv(1)
return True"
    );
    let more = format!(
        "def reached():
    try:
        with socket.create_connection(('{host}', {port}), timeout=5) as one:
            return one.recv(1) == b'!'
    except OSError:
        return False
if reached():
    return False
print('refused')
while not reached():
    time.sleep(0.1)
return True"
    );
    let limits = Limits { memory_bytes: 1 << 30, ..with(NetworkAccess::On) };
    let call = |body: &str| Invocation { limits: limits.clone(), ..probe(&environment, body) };
    let (sink, mut lines) = tokio::sync::mpsc::channel(64);
    let holds = async || {
        let outcome = functions.invoke(call(&body), sink.clone(), CancellationToken::new()).await;
        assert!(matches!(outcome.returned, Ok(FunctionResult::Bool(true))), "{outcome:?}");
    };
    let waits = async {
        for _ in 0..2 {
            lines.recv().await.unwrap();
        }
        let (sink, mut lines) = tokio::sync::mpsc::channel(64);
        let third = functions.invoke(call(&more), sink, CancellationToken::new());
        let told = async {
            let mut told = Vec::new();
            while let Some(FunctionEvent::Line { text, .. }) = lines.recv().await {
                if text == "refused" {
                    release.send(()).unwrap();
                }
                told.push(text);
            }
            told
        };
        tokio::join!(third, told)
    };
    let ((), (), (third, told)) = tokio::join!(holds(), holds(), waits);
    assert!(matches!(third.returned, Ok(FunctionResult::Bool(true))), "{third:?} {told:?}");
    assert!(told.iter().any(|text| text.contains("ulimit -n")), "{told:?}");
}

#[tokio::test]
async fn only_listed_hosts_are_reachable() {
    let (Some((one, _)), Some((other, count))) = (service(own_address()), service(own_address()))
    else {
        return not_checked(NO_ADDRESS);
    };
    let body = format!(
        "{REACHED}host = '{}'
return reached(host, {}) and not reached(host, {}) and not reached('203.0.113.1', 80)",
        one.ip(),
        one.port(),
        other.port()
    );
    held_where(with_reachable_address(), hosts(&[one.to_string()]), &body).await;
    assert_eq!(count.load(Ordering::Relaxed), 0);

    let functions = Functions::start(with_reachable_address()).await.unwrap();
    let environment = environment(&functions, &[]).await;
    let limits = hosts(&[one.to_string()]);
    let (outcome, lines) =
        run(&functions, Invocation { limits, ..probe(&environment, &body) }).await;
    outcome.unwrap();
    let refused = format!("a connection to {other} was refused");
    assert!(lines.iter().any(|(_, _, _, text)| text.contains(&refused)), "{lines:?}");
}

#[tokio::test]
async fn functions_with_network_use_the_hosts_nameserver() {
    let Some((service, _)) = service(own_address()) else {
        return not_checked(NO_ADDRESS);
    };
    let IpAddr::V4(address) = service.ip() else { return };
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nameservers = Some(vec![server.local_addr().unwrap()]);
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, asker)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&answer(&buffer[..length], address), asker);
        }
    });
    let functions = Functions::start(FunctionsOptions { nameservers, ..with_reachable_address() })
        .await
        .unwrap();
    let port = service.port();
    let body = format!("{REACHED}return reached('service.example', {port})");
    held_by(&functions, with(NetworkAccess::On), &body).await;
    let unlisted = format!("{REACHED}return not reached('service.example', {port})");
    held_by(&functions, hosts(&["other.invalid".to_owned()]), &unlisted).await;
    held_by(&functions, with(NetworkAccess::Off), &unlisted).await;
}

/// Returns a DNS response to a query for an IPv4 address, and an empty response to other queries.
fn answer(question: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let name = question[12..].iter().position(|byte| *byte == 0).unwrap() + 13;
    let found = question[name..name + 2] == [0, 1];
    let mut text = question[..2].to_vec();
    text.extend([0x81, 0x80, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
    text.extend(&question[12..name + 4]);
    if found {
        text.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        text.extend(address.octets());
    }
    text
}

#[tokio::test]
async fn packets_cannot_bypass_the_network_proxy() {
    let outside = own_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let server = UdpSocket::bind((outside, 0)).unwrap();
    server.set_nonblocking(true).unwrap();
    let body = format!(
        "for host in ['{outside}', '127.0.0.1', '198.51.100.53']:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.sendto(b'x', (host, {}))
        except OSError:
            pass
raw = fails(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)
return raw and fails(socket.create_server, ('127.0.0.1', 1))",
        server.local_addr().unwrap().port()
    );
    held_within(with(NetworkAccess::On), &body).await;
    assert!(server.recv(&mut [0]).is_err());
}

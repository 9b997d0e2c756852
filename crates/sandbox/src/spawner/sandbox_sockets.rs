//! Network of a sandbox with network access. All its TCP connections go to a listener on the
//! loopback interface, which the server serves.
//!
//! A route makes the kernel deliver packets for every address locally. A rule of the packet filter
//! redirects new connections to the listener. The server can query the original destination of a
//! connection. The first process of the sandbox sets up the route and the rule before it drops its
//! privileges.

use std::io::{Error, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, netlink};

use super::root_filesystem::{StepResult, step};
use crate::channel::Channel;
use crate::netlink::{ERROR, REQUEST, attribute, message};
use crate::network::NAMESERVER;

/// The listener's port.
const PORT: u16 = 1;

/// Message with which the sockets are sent to the server.
const MESSAGE: &[u8] = br#"{"said":"network"}"#;

const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;

/// Sockets that were created in a sandbox's network namespace, for the server: the DNS socket, then
/// the TCP listeners.
#[derive(Debug)]
pub(super) struct SandboxSockets(Vec<OwnedFd>);

impl SandboxSockets {
    /// Sets up the network in this process's network namespace. The loopback interface must be up.
    pub(super) fn create() -> StepResult<SandboxSockets> {
        step("route every address to the loopback interface", route(libc::AF_INET))?;
        // Set up IPv6 only if the host has IPv6. Otherwise, the server could not forward the
        // connections.
        let six = host_has_ipv6() && route(libc::AF_INET6).is_ok();
        step("redirect connections to the listener", redirect(six))?;
        let questions = step("listen for DNS queries", UdpSocket::bind(NAMESERVER))?;
        let mut sockets: Vec<OwnedFd> = vec![questions.into()];
        let four = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT));
        sockets.push(step("listen for connections", four)?.into());
        if six {
            let six = TcpListener::bind((Ipv6Addr::LOCALHOST, PORT));
            sockets.push(step("listen for connections", six)?.into());
        }
        Ok(SandboxSockets(sockets))
    }

    /// Sends the sockets to the server. Must be called before user code can send messages.
    pub(super) fn send_to(self, server: &Channel) -> StepResult {
        let sockets: Vec<_> = self.0.iter().map(AsFd::as_fd).collect();
        step("send the network sockets to the server", server.send(MESSAGE, &sockets))
    }
}

/// Returns true if the host has a route to public IPv6 addresses.
fn host_has_ipv6() -> bool {
    HOST_HAS_IPV6.get().copied().unwrap_or_default()
}

static HOST_HAS_IPV6: std::sync::OnceLock<bool> = std::sync::OnceLock::new();

/// Determines if the host has IPv6, once for all sandboxes. Sends no packet.
pub(super) fn detect_ipv6() {
    let public: SocketAddr = (Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 0x1111), 53).into();
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    let reached = socket.and_then(|socket| socket.connect(public)).is_ok();
    let _ = HOST_HAS_IPV6.set(reached);
}

/// Makes the kernel treat every address of a family (IPv4 or IPv6) as an address of this namespace.
fn route(family: i32) -> Result<()> {
    const NEW_ROUTE: u16 = 24;
    const TABLE_LOCAL: u8 = 255;
    const BY_BOOT: u8 = 3;
    const SCOPE_HOST: u8 = 254;
    const LOCAL: u8 = 2;
    const INTERFACE: u16 = 4;
    const LOOPBACK: u32 = 1;
    let mut body = vec![family as u8, 0, 0, 0, TABLE_LOCAL, BY_BOOT, SCOPE_HOST, LOCAL];
    body.extend(0_u32.to_ne_bytes());
    body.extend(attribute(INTERFACE, &LOOPBACK.to_ne_bytes()));
    let message = message(NEW_ROUTE, REQUEST | ACKNOWLEDGE | CREATE, 1, &body);
    ask(None, &message, 1)
}

/// Redirects new TCP connections to the listener, except connections to loopback addresses.
fn redirect(six: bool) -> Result<()> {
    const BEGIN: u16 = 0x10;
    const END: u16 = 0x11;
    const TABLE: u16 = 0;
    const CHAIN: u16 = 3;
    const RULE: u16 = 6;
    const INET: u8 = 1;
    const SUBSYSTEM: u16 = 10;
    const LOCAL_OUT: u32 = 3;
    const PRIORITY: i32 = -100;
    let name = |kind| attribute(kind, b"headwater\0");
    let batch = |kind| {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        message(kind, REQUEST, 0, &[0, 0, high, low])
    };
    let change = |kind: u16, sequence: u32, attributes: &[u8]| {
        let body = [&[INET, 0, 0, 0], attributes].concat();
        let flags = REQUEST | ACKNOWLEDGE | CREATE | if kind == RULE { APPEND } else { 0 };
        message(SUBSYSTEM << 8 | kind, flags, sequence, &body)
    };
    let hook = [number(1, LOCAL_OUT), attribute(2, &PRIORITY.to_be_bytes())].concat();
    let chain = [name(1), name(3), attribute(4 | NESTED, &hook), attribute(7, b"nat\0")].concat();
    // Loopback addresses: for IPv4, every address with the same first byte; for IPv6, one address.
    let own_six = Ipv6Addr::LOCALHOST.octets();
    let mut rules = vec![rule(2, 16, &[127])];
    if six {
        rules.push(rule(10, 24, &own_six));
    }
    let mut text = [batch(BEGIN), change(TABLE, 1, &name(1)), change(CHAIN, 2, &chain)].concat();
    let count = 2 + rules.len();
    for (sequence, rule) in (3..).zip(rules) {
        let rule = [name(1), name(2), attribute(4 | NESTED, &rule)].concat();
        text.extend(change(RULE, sequence, &rule));
    }
    text.extend(batch(END));
    ask(Some(netlink::NETFILTER), &text, count)
}

/// Encodes a packet filter rule. It matches TCP connections of this address family to addresses
/// that do not start with the bytes `own`, the prefix of loopback addresses.
fn rule(family: u8, offset: u32, own: &[u8]) -> Vec<u8> {
    const FAMILY: u32 = 15;
    const PROTOCOL: u32 = 16;
    const EQUAL: u32 = 0;
    const NOT_EQUAL: u32 = 1;
    const SPECIFIED: u32 = 2;
    let load = |key| expression(b"meta\0", &[number(1, 1), number(2, key)].concat());
    let compare = |how, value: &[u8]| {
        let value = attribute(3 | NESTED, &attribute(1, value));
        expression(b"cmp\0", &[number(1, 1), number(2, how), value].concat())
    };
    let place = [number(1, 1), number(2, 1), number(3, offset), number(4, own.len() as u32)];
    let port = attribute(2 | NESTED, &attribute(1, &PORT.to_be_bytes()));
    [
        load(FAMILY),
        compare(EQUAL, &[family]),
        load(PROTOCOL),
        compare(EQUAL, &[libc::IPPROTO_TCP as u8]),
        expression(b"payload\0", &place.concat()),
        compare(NOT_EQUAL, own),
        expression(b"immediate\0", &[number(1, 1), port].concat()),
        expression(b"redir\0", &[number(1, 1), number(3, SPECIFIED)].concat()),
    ]
    .concat()
}

fn expression(name: &[u8], content: &[u8]) -> Vec<u8> {
    let content = [attribute(1, name), attribute(2 | NESTED, content)].concat();
    attribute(1 | NESTED, &content)
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// Sends netlink messages to the kernel, and waits for `count` acknowledgements.
fn ask(protocol: Option<Protocol>, messages: &[u8], count: usize) -> Result<()> {
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, protocol)?;
    rustix::net::send(&socket, messages, SendFlags::empty())?;
    let mut buffer = vec![0_u8; 16 << 10];
    let mut left = count;
    while left > 0 {
        let (length, _) = rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        let mut answers = &buffer[..length];
        while answers.len() >= 20 {
            let length = u32::from_ne_bytes([answers[0], answers[1], answers[2], answers[3]]);
            let kind = u16::from_ne_bytes([answers[4], answers[5]]);
            let error = i32::from_ne_bytes([answers[16], answers[17], answers[18], answers[19]]);
            if kind == ERROR && error != 0 {
                return Err(Error::from_raw_os_error(-error));
            }
            left = left.saturating_sub(usize::from(kind == ERROR));
            let length = (length as usize).next_multiple_of(4).clamp(16, answers.len());
            answers = &answers[length..];
        }
    }
    Ok(())
}

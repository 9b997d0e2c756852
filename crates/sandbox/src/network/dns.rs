//! DNS for sandboxes: queries are forwarded to the host's nameservers. If the function has a list
//! of allowed hosts, its queries are not forwarded, and names outside the list get the response "no
//! such name".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

use super::AllowedHost;
use super::proxy::Proxy;

/// Timeout for the response of a nameserver.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of concurrent queries of one call.
const QUERIES_MAX: usize = 64;

/// The size of a message header, in bytes.
const HEADER: usize = 12;

/// The maximum length of a label in a name, in bytes.
const LABEL_MAX: usize = 63;

/// The first flag byte of a response: the bits for "response" and "recursion desired".
const ANSWER: u8 = 0x81;
const RECURSION: u8 = 0x80;

/// Response code for an unknown name.
const NO_SUCH_NAME: u8 = 3;

/// Returns the host's nameservers.
pub fn nameservers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let named = lines.filter_map(|address| address.trim().parse::<IpAddr>().ok());
    named.map(|address| SocketAddr::new(address, 53)).collect()
}

/// Forwards queries and responses until the future is dropped.
pub(super) async fn serve(socket: UdpSocket, proxy: Arc<Proxy>) {
    let nameservers = proxy.policy().nameservers().to_vec();
    let (socket, open) = (Arc::new(socket), Arc::new(Semaphore::new(QUERIES_MAX)));
    let mut queries = tokio::task::JoinSet::new();
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            // An error here is about an earlier response: its client had already closed the socket.
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        while queries.try_join_next().is_some() {}
        if !proxy.policy().resolves() {
            if let Some(answer) = deny(&buffer[..length], &proxy).await {
                let _ = socket.send_to(&answer, client).await;
            }
            continue;
        }
        let Ok(permit) = open.clone().acquire_owned().await else { return };
        // If no connection permit is free, drop the query. For the client, this is a lost packet.
        let Ok(descriptors) = proxy.policy().connections().acquire() else { continue };
        let (query, nameservers) = (buffer[..length].to_vec(), nameservers.clone());
        let socket = socket.clone();
        queries.spawn(async move {
            if let Some(answer) = ask(&query, &nameservers).await {
                let _ = socket.send_to(&answer, client).await;
            }
            drop((permit, descriptors));
        });
    }
}

/// Returns the response if the function has a list of allowed hosts. The response for a listed name
/// has no records: such names are in the sandbox's hosts file, which libraries read first. The
/// response for any other name is "no such name".
async fn deny(query: &[u8], proxy: &Proxy) -> Option<Vec<u8>> {
    let (name, end) = name_of(query)?;
    let listed = proxy.policy().lists(&name);
    // Do not report queries below `.arpa`: libraries send such queries without a request of user
    // code for a connection.
    if !listed && !name.to_ascii_lowercase().ends_with(".arpa") {
        // Report only valid host names, because a query of user code can contain any text.
        let host = name.parse::<AllowedHost>().ok().filter(|host| host.port.is_none());
        if let Some(host) = host {
            proxy.deny_name(host).await;
        }
    }
    let code = if listed { 0 } else { NO_SUCH_NAME };
    let mut answer = query[..2].to_vec();
    answer.extend([ANSWER, RECURSION | code, 0, 1, 0, 0, 0, 0, 0, 0]);
    answer.extend(&query[HEADER..end]);
    Some(answer)
}

/// Parses a query. Returns its name, and the offset at which its question ends. Returns `None` for
/// malformed messages and for messages with several questions. The content comes from user code.
fn name_of(message: &[u8]) -> Option<(String, usize)> {
    if message.get(4..6)? != [0, 1] {
        return None;
    }
    let (mut name, mut at) = (String::new(), HEADER);
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = message.get(at..at + length).filter(|_| length <= LABEL_MAX)?;
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(std::str::from_utf8(label).ok()?);
        at += length;
    }
    // After the name, the question contains a type and a class, two bytes each.
    let end = at + 4;
    (end <= message.len()).then_some((name, end))
}

async fn ask(query: &[u8], nameservers: &[SocketAddr]) -> Option<Vec<u8>> {
    for nameserver in nameservers {
        if let Ok(Ok(answer)) =
            tokio::time::timeout(ANSWER_TIMEOUT, query_nameserver(query, *nameserver)).await
        {
            return Some(answer);
        }
    }
    None
}

async fn query_nameserver(query: &[u8], nameserver: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = match nameserver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(nameserver).await?;
    socket.send(query).await?;
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_queries_are_rejected() {
        let question = |labels: &[&[u8]]| {
            let mut message = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in labels {
                message.push(label.len() as u8);
                message.extend(*label);
            }
            message.extend([0, 0, 1, 0, 1]);
            message
        };
        let whole = question(&[b"api", b"example", b"com"]);
        assert_eq!(name_of(&whole), Some(("api.example.com".to_owned(), whole.len())));
        for length in 0..whole.len() {
            assert_eq!(name_of(&whole[..length]), None, "{length}");
        }
        assert_eq!(name_of(&question(&[b"\xff\xfe"])), None);
        assert_eq!(name_of(&question(&[&[b'x'; 64]])), None);
        let mut several = whole;
        several[5] = 2;
        assert_eq!(name_of(&several), None);
    }
}

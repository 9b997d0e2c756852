//! Names: questions that a sandbox asks are passed on to the host's own nameservers; one that may reach
//! listed hosts alone is told that there are no others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

use super::Host;
use super::relay::Relay;

/// How long an answer may take, and how many questions may be open at once.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const QUESTIONS_MAX: usize = 64;

/// Of messages as they are on the wire: how long a header is, and a part of a name at most; what the flags
/// of an answer are, and its code where a name is not there.
const HEADER: usize = 12;
const LABEL_MAX: usize = 63;
const ANSWER: u8 = 0x81;
const RECURSION: u8 = 0x80;
const NO_SUCH_NAME: u8 = 3;

/// The host's nameservers.
pub(crate) fn nameservers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let named = lines.filter_map(|address| address.trim().parse::<IpAddr>().ok());
    named.map(|address| SocketAddr::new(address, 53)).collect()
}

/// Passes questions on and answers back, until it is dropped.
pub(super) async fn serve(socket: UdpSocket, relay: Arc<Relay>) {
    let nameservers = relay.reach().nameservers().to_vec();
    let (socket, open) = (Arc::new(socket), Arc::new(Semaphore::new(QUESTIONS_MAX)));
    let mut questions = tokio::task::JoinSet::new();
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((length, asker)) = socket.recv_from(&mut buffer).await else {
            // What a socket reports of an asker that is gone.
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        while questions.try_join_next().is_some() {}
        if !relay.reach().resolves() {
            if let Some(answer) = deny(&buffer[..length], &relay).await {
                let _ = socket.send_to(&answer, asker).await;
            }
            continue;
        }
        let Ok(place) = open.clone().acquire_owned().await else { return };
        // One more than there are descriptors for is not asked, as if it were lost on the way.
        let Ok(descriptors) = relay.reach().gate().enter() else { continue };
        let (question, nameservers) = (buffer[..length].to_vec(), nameservers.clone());
        let socket = socket.clone();
        questions.spawn(async move {
            if let Some(answer) = ask(&question, &nameservers).await {
                let _ = socket.send_to(&answer, asker).await;
            }
            drop((place, descriptors));
        });
    }
}

/// What is answered to whoever may not ask: nothing of a name that is listed, which lies in its own file
/// of hosts, and that there is no other.
async fn deny(question: &[u8], relay: &Relay) -> Option<Vec<u8>> {
    let (name, end) = name_of(question)?;
    let listed = relay.reach().lists(&name);
    // Libraries look for the names of addresses by themselves.
    if !listed && !name.to_ascii_lowercase().ends_with(".arpa") {
        // What cannot be listed is told to nobody: it may be any text.
        let host = name.parse::<Host>().ok().filter(|host| host.port.is_none());
        if let Some(host) = host {
            relay.refuse_name(host).await;
        }
    }
    let code = if listed { 0 } else { NO_SUCH_NAME };
    let mut answer = question[..2].to_vec();
    answer.extend([ANSWER, RECURSION | code, 0, 1, 0, 0, 0, 0, 0, 0]);
    answer.extend(&question[HEADER..end]);
    Some(answer)
}

/// The name that a message asks for, and where its question ends; none where it asks for several, or
/// cannot be read. It comes from user code.
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
    // Its type and its class.
    let end = at + 4;
    (end <= message.len()).then_some((name, end))
}

async fn ask(question: &[u8], nameservers: &[SocketAddr]) -> Option<Vec<u8>> {
    for nameserver in nameservers {
        if let Ok(Ok(answer)) =
            tokio::time::timeout(ANSWER_MAX, ask_one(question, *nameserver)).await
        {
            return Some(answer);
        }
    }
    None
}

async fn ask_one(question: &[u8], nameserver: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = match nameserver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(nameserver).await?;
    socket.send(question).await?;
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_whatever_it_holds() {
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

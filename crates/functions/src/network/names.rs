//! Names: questions that a sandbox asks are passed on to the host's own nameservers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

use super::Reach;

/// How long an answer may take, and how many questions may be open at once.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const QUESTIONS_MAX: usize = 64;

/// The host's nameservers.
pub(crate) fn nameservers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let named = lines.filter_map(|address| address.trim().parse::<IpAddr>().ok());
    named.map(|address| SocketAddr::new(address, 53)).collect()
}

/// Passes questions on and answers back, until it is dropped.
pub(super) async fn serve(socket: UdpSocket, reach: Reach) {
    let nameservers = reach.nameservers().to_vec();
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
        let Ok(place) = open.clone().acquire_owned().await else { return };
        // One more than there are descriptors for is not asked, as if it were lost on the way.
        let Ok(descriptors) = reach.gate().enter() else { continue };
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

//! A connection to one server of a cluster.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use headwater_model::Problem;
use headwater_sandbox::ServerAddress;
use rustls::pki_types::ServerName as TlsName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::messages::{ListOffsetsRequest, PartitionOffset, Request, decode, encode, error_text};
use crate::records::RecordError;
use crate::wire::MalformedMessage;

/// Maximum time for a connection and for a request.
pub const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Maximum time without a received byte during a response.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Maximum time to receive the complete response with records.
pub const FETCH_MAX: Duration = Duration::from_secs(60);
const CLIENT: &str = "headwater";

/// The reason why a server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BrokerFailure {
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The server did not respond in time.
    #[error("the server does not respond")]
    TimedOut,
    /// A response does not follow the protocol.
    #[error(transparent)]
    MalformedMessage(#[from] MalformedMessage),
    /// Records cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A response is too large.
    #[error("a response has {bytes} bytes, which is more than the maximum of {bytes_max}")]
    TooLarge {
        /// Size of the response.
        bytes: usize,
        /// Maximum size of a response to the request.
        bytes_max: usize,
    },
    /// Any other error, such as one that the server returned, as text.
    #[error("{0}")]
    Server(String),
    /// A problem that is shown to the user as it is.
    #[error("{0}")]
    Problem(Problem),
}

impl From<Problem> for BrokerFailure {
    fn from(problem: Problem) -> Self {
        BrokerFailure::Problem(problem)
    }
}

/// A connection to a server. After an interrupted request, the connection must not be used.
pub struct Connection {
    stream: BufStream<Either<TcpStream, TlsStream<TcpStream>>>,
    /// Number of the next request.
    number: i32,
}

impl Connection {
    /// Connects to the first address that accepts connections, with TLS if `tls` is given.
    pub(crate) async fn open(
        server: &ServerAddress,
        addresses: &[SocketAddr],
        tls: Option<&TlsConnector>,
    ) -> Result<Self, BrokerFailure> {
        let connect = async {
            let stream = TcpStream::connect(addresses).await?;
            stream.set_nodelay(true)?;
            let Some(tls) = tls else { return Ok(Either::Left(stream)) };
            let name = TlsName::try_from(server.host.clone()).map_err(std::io::Error::other)?;
            Ok(Either::Right(tls.connect(name, stream).await?))
        };
        let connected: std::io::Result<_> = tokio::time::timeout(REQUEST_MAX, connect)
            .await
            .map_err(|_| BrokerFailure::TimedOut)?;
        Ok(Connection { stream: BufStream::new(connected?), number: 0 })
    }

    /// Returns the number of requests that were sent.
    pub fn request_count(&self) -> usize {
        self.number.unsigned_abs() as usize
    }

    /// Sends a request and receives its response.
    pub async fn request<R: Request>(
        &mut self,
        request: &R,
        time_max: Duration,
    ) -> Result<R::Response, BrokerFailure> {
        let exchanged = tokio::time::timeout(time_max, self.exchange(request)).await;
        exchanged.map_err(|_| BrokerFailure::TimedOut)?
    }

    /// Requests the offset of the first record at or after `timestamp` for each partition.
    /// `timestamp` is in milliseconds since 1970. [`EARLIEST`](crate::EARLIEST) selects the first
    /// record, and [`LATEST`](crate::LATEST) the offset after the last record.
    pub async fn offsets(
        &mut self,
        topic: &str,
        partitions: Vec<i32>,
        timestamp: i64,
    ) -> Result<Vec<PartitionOffset>, BrokerFailure> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let request = ListOffsetsRequest { topic, partitions, timestamp };
        self.request(&request, REQUEST_MAX).await
    }

    /// Requests an offset of one partition, as [`Connection::offsets`] does.
    pub async fn offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> Result<i64, BrokerFailure> {
        let offsets = self.offsets(topic, vec![partition], timestamp).await?;
        let found = offsets.first().ok_or(MalformedMessage("the partition is missing"))?;
        if found.error == 0 {
            Ok(found.offset)
        } else {
            Err(BrokerFailure::Server(error_text(found.error)))
        }
    }

    async fn exchange<R: Request>(&mut self, request: &R) -> Result<R::Response, BrokerFailure> {
        let number = self.number;
        self.number = number.wrapping_add(1);
        let bytes = encode(request, number, CLIENT);
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.stream.write_u32(length).await?;
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;
        Ok(decode::<R>(self.receive(R::RESPONSE_BYTES_MAX).await?, number)?)
    }

    async fn receive(&mut self, bytes_max: usize) -> Result<Bytes, BrokerFailure> {
        let length = received(self.stream.read_u32()).await? as usize;
        if length > bytes_max {
            return Err(BrokerFailure::TooLarge { bytes: length, bytes_max });
        }
        // Let the buffer grow with the bytes that arrive: a wrong declared length then uses no
        // memory.
        let mut response: Vec<u8> = Vec::new();
        let mut rest = (&mut self.stream).take(length as u64);
        while response.len() < length {
            if received(rest.read_buf(&mut response)).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
        Ok(response.into())
    }
}

/// Waits for bytes for a limited time.
async fn received<T>(read: impl Future<Output = std::io::Result<T>>) -> Result<T, BrokerFailure> {
    let read = tokio::time::timeout(IDLE_MAX, read).await;
    Ok(read.map_err(|_| BrokerFailure::TimedOut)??)
}

//! Running a tool of our own, such as `uv`: through the spawner, since the server never forks, with
//! its output caught.

use std::os::fd::AsFd;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::spawner::{Exit, Plan, Spawner};
use crate::{Error, Result};

/// The most output that is kept.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// What a tool said.
#[derive(Debug)]
pub(super) struct Said {
    /// Whether it exited with 0.
    pub(super) success: bool,
    /// How it ended.
    pub(super) exit: Exit,
    /// Its standard output and error, in the order they came.
    pub(super) text: String,
}

/// Runs a tool with the server's own environment variables and these on top. It is killed where the
/// future is dropped.
pub(super) async fn run(
    spawner: &Spawner,
    command: Vec<String>,
    variables: Vec<(String, String)>,
    background: bool,
) -> Result<Said> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| Error::io("make a pipe")(errno.into()))?;
    let plan = Plan { command, variables, inherit: true, background, ..Plan::default() };
    let mut running = spawner.run(plan, &[writer.as_fd(), writer.as_fd()])?;
    drop(writer);
    let output = read(reader).await?;
    let exit = running.ended().await?.exit;
    Ok(Said { success: exit == Exit::Code(0), exit, text: output })
}

async fn read(reader: std::os::fd::OwnedFd) -> Result<String> {
    rustix::io::ioctl_fionbio(&reader, true)
        .map_err(|errno| Error::io("read a pipe")(errno.into()))?;
    let mut reader = Receiver::from_owned_fd(reader).map_err(Error::io("read a pipe"))?;
    let mut output = Vec::new();
    let mut buffer = vec![0; 8192];
    loop {
        let length = reader.read(&mut buffer).await.map_err(Error::io("read a pipe"))?;
        if length == 0 {
            return Ok(String::from_utf8_lossy(&output).into_owned());
        }
        let room = OUTPUT_BYTES_MAX - output.len();
        output.extend_from_slice(&buffer[..length.min(room)]);
    }
}

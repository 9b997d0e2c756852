//! Subprocesses such as `uv`, started by the spawner, because the server never forks.

use std::os::fd::AsFd;

use headwater_sandbox::{ExitStatus, ProcessSpec, Spawner};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::{Error, Result};

/// Maximum output in bytes; the rest is dropped.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Result of a subprocess.
#[derive(Debug)]
pub(crate) struct SubprocessOutput {
    /// True if the exit code is 0.
    pub(crate) success: bool,
    /// The exit status.
    pub(crate) exit: ExitStatus,
    /// Standard output and error, interleaved.
    pub(crate) text: String,
}

/// Runs a command with the server's environment variables and `variables`. Dropping the future
/// kills the process.
pub(crate) async fn run(
    spawner: &Spawner,
    command: Vec<String>,
    variables: Vec<(String, String)>,
    background: bool,
) -> Result<SubprocessOutput> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| Error::io("make a pipe")(errno.into()))?;
    let plan =
        ProcessSpec { command, variables, inherit: true, background, ..ProcessSpec::default() };
    let mut running = spawner.run(plan, &[writer.as_fd(), writer.as_fd()])?;
    drop(writer);
    let output = read(reader).await?;
    let exit = running.ended().await?.exit;
    Ok(SubprocessOutput { success: exit == ExitStatus::Code(0), exit, text: output })
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
        let rest = OUTPUT_BYTES_MAX - output.len();
        output.extend_from_slice(&buffer[..length.min(rest)]);
    }
}

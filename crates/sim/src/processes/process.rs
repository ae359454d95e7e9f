//! One server: the real binary, its folder, its ports.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU16, Ordering},
};

use tokio::{
    process::{Child, Command},
    sync::Mutex,
};

/// A server that can be killed and started again. Dropping it kills it; and as it stops when its stdin ends, it outlives this
/// process in no case.
#[derive(Debug)]
pub(super) struct Process {
    /// Where clients connect.
    pub(super) port: u16,
    /// Where members connect, behind a proxy.
    pub(super) peer_port: u16,
    binary: PathBuf,
    flags: Vec<String>,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// A server with this id (from 1), not started yet; `folder` holds its data and its log.
    pub(super) fn new(binary: &Path, folder: &Path, id: usize) -> io::Result<Process> {
        let (port, peer_port) = (free_port()?, free_port()?);
        let data = folder.join(format!("data-{id}")).display().to_string();
        let flags = [
            "serve".to_string(),
            "--stop-on-stdin-eof".to_string(),
            format!("--id={id}"),
            format!("--data={data}"),
            format!("--listen=127.0.0.1:{port}"),
            format!("--peer-listen=127.0.0.1:{peer_port}"),
        ];
        Ok(Process {
            port,
            peer_port,
            binary: binary.to_path_buf(),
            flags: flags.into(),
            log: folder.join(format!("server-{id}.log")),
            child: Mutex::default(),
        })
    }

    /// Further flags, for all starts from now on.
    pub(super) fn add_flags(&mut self, flags: impl IntoIterator<Item = String>) {
        self.flags.extend(flags);
    }

    /// Starts it, if it does not run.
    pub(super) async fn start(&self) -> io::Result<()> {
        let mut child = self.child.lock().await;
        if child.is_none() {
            let log = File::options().create(true).append(true).open(&self.log)?;
            let command = Command::new(&self.binary)
                .args(&self.flags)
                // Settings come from flags only.
                .env_clear()
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(log)
                .kill_on_drop(true)
                .spawn()?;
            *child = Some(command);
        }
        Ok(())
    }

    /// SIGKILL, if it runs. Returns once it is gone.
    pub(super) async fn kill(&self) -> io::Result<()> {
        match self.child.lock().await.take() {
            Some(mut child) => child.kill().await,
            None => Ok(()),
        }
    }

    /// Asks it to stop, if it runs. Returns once it has.
    pub(super) async fn stop(&self) -> io::Result<()> {
        if let Some(mut child) = self.child.lock().await.take() {
            drop(child.stdin.take());
            child.wait().await?;
        }
        Ok(())
    }

    /// How it ended, if it should run and does not.
    pub(super) async fn ended(&self) -> Option<String> {
        let status = self.child.lock().await.as_mut()?.try_wait().ok()??;
        Some(status.to_string())
    }

    /// Its process id, while it runs.
    pub(super) async fn pid(&self) -> Option<u32> {
        self.child.lock().await.as_ref()?.id()
    }

    /// Its log so far.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// A port that was free a moment ago, below the range that the kernel gives to outgoing connections. Processes start looking at
/// different places.
fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 400) as u16 * 50;
    for _ in 0..20_000 {
        let port = 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("no port between 10000 and 30000 is free"))
}

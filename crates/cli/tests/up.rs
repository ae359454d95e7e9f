//! `pontoon up` and the commands that a person types next, on real processes.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Whatever is waited for has to come within this.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `pontoon up`; stopped when dropped, with its servers.
struct Up {
    process: Child,
    lines: Receiver<String>,
    /// The servers' process ids, as `up` told them.
    pids: Vec<i32>,
}

impl Up {
    fn start(dir: &Path, port: u16) -> Up {
        let log = File::create(dir.with_extension("err")).unwrap();
        let mut process = pontoon(&["up", "--nodes", "3", "--port", &port.to_string(), "--dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut up = Up { process, lines, pids: Vec::new() };
        up.expect("ready: ");
        for node in 1..=3 {
            let line = up.expect(&format!("  server {node}  "));
            let pid =
                line.split("pid ").nth(1).and_then(|text| text.split(' ').next()).expect("a process id");
            up.pids.push(pid.parse().unwrap());
        }
        up
    }

    /// Waits for a line that starts like this.
    fn expect(&mut self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.starts_with(start) => return line,
                Ok(_) => {}
                Err(error) => panic!("{start:?} was not said: {error}"),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Not waited for yet, so the id is still its own.
        if let Ok(None) = self.process.try_wait() {
            self.signal(Signal::SIGTERM);
            let _ = self.process.wait();
        }
    }
}

fn pontoon(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pontoon"));
    command.args(args);
    command
}

/// A client's command against the cluster: its exit code and what it printed.
fn client(port: u16, args: &[&str]) -> (i32, String) {
    let servers = (port..port + 3).map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let Output { status, stdout, .. } = pontoon(args).args(["--servers", &servers]).output().unwrap();
    (status.code().expect("it exits"), String::from_utf8(stdout).unwrap())
}

fn printed(text: &str) -> (i32, String) {
    (0, format!("{text}\n"))
}

/// The first of three free ports in a row, with three more a thousand above, below the ports that the system hands out. Tests that
/// run at the same time each have a range of their own.
fn free_ports(test: u16) -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let seed = std::process::id() as u16 % 900;
    (0..900)
        .map(|attempt| 12_000 + 4_000 * test + (seed + 3 * attempt) % 900)
        .find(|first| (*first..first + 3).all(|port| is_free(port) && is_free(port + 1000)))
        .expect("some ports are free")
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_cluster_serves_survives_a_kill_stops_when_asked_and_finds_its_data_again() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, port) = (dir.path().join("cluster"), free_ports(0));

    let mut up = Up::start(&dir, port);
    assert_eq!(client(port, &["put", "greeting", "hello"]), printed("OK"));
    assert_eq!(client(port, &["append", "greeting", ", world"]), printed("12"));
    assert_eq!(client(port, &["get", "greeting"]), printed("hello, world"));
    assert_eq!(client(port, &["get", "greeting", "--raw"]), (0, "hello, world".to_string()));
    assert_eq!(client(port, &["put", "empty", ""]), printed("OK"));
    assert_eq!(client(port, &["get", "empty"]), printed(""), "an empty value is there");
    assert_eq!(client(port, &["get", "missing"]), (2, String::new()), "a missing key is not");
    assert_eq!(client(port, &["put", "number", "-5"]), printed("OK"));
    assert_eq!(client(port, &["del", "number", "empty", "missing"]), printed("2"));
    assert_eq!(client(port, &["status"]).0, 0);

    kill(Pid::from_raw(up.pids[0]), Signal::SIGKILL).unwrap();
    up.expect("server 1 died (killed by SIGKILL)");
    up.expect("server 1 is back");

    up.signal(Signal::SIGTERM);
    assert_eq!(up.process.wait().unwrap().code(), Some(0));
    up.expect("stopped");
    assert_eq!(client(port, &["status"]).0, 1, "no server is left");

    let _up = Up::start(&dir, port);
    assert_eq!(client(port, &["get", "greeting"]), printed("hello, world"));
}

#[test]
fn servers_do_not_outlive_the_up_that_started_them() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_ports(1);
    let up = Up::start(&dir.path().join("cluster"), port);
    up.signal(Signal::SIGKILL);
    let is_down = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_err();
    wait_until("the servers to stop", || (port..port + 3).all(is_down));
}

//! The servers' processes.

use std::{
    collections::BTreeMap,
    env, fmt,
    fs::{self, File},
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{folder::Folder, plan::Plan};

/// A dead server is started again after this.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// A server that dies so often in a row without ever having answered is left dead.
const FAILED_STARTS_MAX: u32 = 5;
/// How long servers may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// A line of a log is looked for in the log's last bytes.
const LOG_TAIL_BYTES: usize = 4096;

/// What the flags of every server say already, so that the environment must not say it too.
const ENVIRONMENT_OF_FLAGS: [&str; 9] = [
    "PONTOON_CONFIG",
    "PONTOON_ID",
    "PONTOON_DATA",
    "PONTOON_LISTEN",
    "PONTOON_PEER_LISTEN",
    "PONTOON_CLUSTER",
    "PONTOON_CLUSTER_ID",
    "PONTOON_SECRET",
    "PONTOON_SECRET_FILE",
];

/// Why a server's process cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start server {node}: {error}")]
pub struct SpawnError {
    node: u64,
    error: io::Error,
}

/// What happened to a server's process.
#[derive(Debug)]
pub enum Event {
    /// It ended.
    Died {
        /// The server.
        node: u64,
        /// How, for a person.
        how: String,
        /// The last line of its log.
        last_words: Option<String>,
        /// Whether it will be started again.
        restarts: bool,
    },
    /// It was started again.
    Restarted {
        /// The server.
        node: u64,
    },
    /// It could not be started again; it is tried once more later.
    NotRestarted {
        /// Why.
        error: SpawnError,
    },
}

/// All servers of a cluster. Dropping it closes their stdin, which stops them.
#[derive(Debug)]
pub struct Fleet {
    members: BTreeMap<u64, Member>,
    executable: PathBuf,
    restart: bool,
}

#[derive(Debug)]
struct Member {
    args: Vec<std::ffi::OsString>,
    password: Option<String>,
    log: PathBuf,
    state: State,
    /// Whether it has answered since it was started.
    answered: bool,
    failed_starts: u32,
}

#[derive(Debug)]
enum State {
    /// Its stdin, held open by the child's handle, ends with this process, and it with that.
    Running(Child),
    Waits {
        until: Instant,
    },
    Dead,
}

impl Fleet {
    /// Starts all servers.
    pub fn start(plan: &Plan, folder: &Folder, restart: bool) -> Result<Fleet, SpawnError> {
        let executable = env::current_exe().map_err(|error| SpawnError { node: 1, error })?;
        let mut fleet = Fleet { members: BTreeMap::new(), executable, restart };
        for node in plan.nodes() {
            let mut member = Member {
                args: plan.serve_args(node, folder.cluster_id(), &folder.secret_file()),
                password: plan.password().map(str::to_string),
                log: plan.log(node),
                state: State::Dead,
                answered: false,
                failed_starts: 0,
            };
            member.spawn(&fleet.executable).map_err(|error| SpawnError { node, error })?;
            fleet.members.insert(node, member);
        }
        Ok(fleet)
    }

    /// Looks after the processes: what happened since the last time.
    pub fn poll(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        for (&node, member) in &mut self.members {
            match &mut member.state {
                State::Running(child) => {
                    // An error means that it cannot be waited for: it is as gone as it can be.
                    if let Some(status) = child.try_wait().unwrap_or(Some(ExitStatus::default())) {
                        events.push(member.died(node, status, self.restart, now));
                    }
                }
                State::Waits { until } if *until <= now => match member.spawn(&self.executable) {
                    Ok(()) => events.push(Event::Restarted { node }),
                    Err(error) => {
                        member.state = State::Waits { until: now + RESTART_DELAY };
                        events.push(Event::NotRestarted { error: SpawnError { node, error } });
                    }
                },
                State::Waits { .. } | State::Dead => {}
            }
        }
        events
    }

    /// Notes that a server works.
    pub fn answered(&mut self, node: u64) {
        if let Some(member) = self.members.get_mut(&node) {
            member.answered = true;
            member.failed_starts = 0;
        }
    }

    /// Whether a server has a process.
    pub fn is_running(&self, node: u64) -> bool {
        self.pid(node).is_some()
    }

    /// Whether a server has a process, or will have one.
    pub fn is_alive(&self, node: u64) -> bool {
        self.members.get(&node).is_some_and(|member| !matches!(member.state, State::Dead))
    }

    /// A running server's process id.
    pub fn pid(&self, node: u64) -> Option<u32> {
        match &self.members.get(&node)?.state {
            State::Running(child) => Some(child.id()),
            State::Waits { .. } | State::Dead => None,
        }
    }

    /// Stops all servers: asks them, waits for them, and kills those that do not; which are returned.
    pub fn stop(mut self) -> Vec<u64> {
        let mut running = BTreeMap::new();
        for (node, member) in &mut self.members {
            if let State::Running(child) = std::mem::replace(&mut member.state, State::Dead) {
                terminate(&child);
                running.insert(*node, child);
            }
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        while !running.is_empty() && Instant::now() < deadline {
            running.retain(|_, child| matches!(child.try_wait(), Ok(None)));
            thread::sleep(Duration::from_millis(10));
        }
        for child in running.values_mut() {
            // An error means that it has ended just now.
            let _ = child.kill();
            let _ = child.wait();
        }
        running.into_keys().collect()
    }
}

impl Member {
    fn spawn(&mut self, executable: &PathBuf) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(executable);
        command.args(&self.args).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        // A terminal's Ctrl-C is for us alone: we ask the servers ourselves.
        command.process_group(0);
        for name in ENVIRONMENT_OF_FLAGS {
            command.env_remove(name);
        }
        if let Some(password) = &self.password {
            command.env("PONTOON_PASSWORD", password);
        }
        self.state = State::Running(command.spawn()?);
        self.answered = false;
        Ok(())
    }

    fn died(&mut self, node: u64, status: ExitStatus, restart: bool, now: Instant) -> Event {
        if !self.answered {
            self.failed_starts += 1;
        }
        // A server that refuses to start (a damaged file, a bad setting) would do so again.
        let refuses = !self.answered && status.code() == Some(1);
        let restarts = restart && !refuses && self.failed_starts < FAILED_STARTS_MAX;
        self.state = if restarts { State::Waits { until: now + RESTART_DELAY } } else { State::Dead };
        let last_words = if status.code() == Some(1) { last_line(&self.log) } else { None };
        Event::Died { node, how: how(status).to_string(), last_words, restarts }
    }
}

fn terminate(child: &Child) {
    let pid = i32::try_from(child.id()).expect("process ids are positive 32-bit numbers");
    // It has not been waited for, so the id is still its own; an error means that it has ended.
    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
}

/// How a process ended, for a person.
fn how(status: ExitStatus) -> impl fmt::Display {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {number}"),
        },
        (None, None) => "ended".to_string(),
    }
}

/// The last line of a log, without our own name before it.
fn last_line(path: &PathBuf) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned();
    let line = tail.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim_start_matches("pontoon: ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_end_is_told_in_words() {
        assert_eq!(how(ExitStatus::from_raw(1 << 8)).to_string(), "exit code 1");
        assert_eq!(how(ExitStatus::from_raw(9)).to_string(), "killed by SIGKILL");
    }

    #[test]
    fn the_last_words_are_the_last_line_that_says_something() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert_eq!(last_line(&path), None);
        fs::write(&path, "first\npontoon: the folder is damaged\n\n").unwrap();
        assert_eq!(last_line(&path).as_deref(), Some("the folder is damaged"));
    }
}

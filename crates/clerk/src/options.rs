//! What a clerk is told before it starts.

use std::time::Duration;

/// How a [`Clerk`](crate::Clerk) works. The defaults fit a cluster with default settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClerkOptions {
    /// The servers, `host:port` each; all of one cluster, at least one.
    pub servers: Vec<String>,
    /// What to present with `AUTH`; none: nothing.
    pub password: Option<String>,
    /// A call has an outcome after this at the latest.
    pub deadline: Duration,
    /// Calls in flight at once; more wait. At most the cluster's `session_window`.
    pub inflight_max: usize,
    /// The session is kept alive at a third of this while nothing else is asked. At most the cluster's `session_ttl_ms`.
    pub session_ttl: Duration,
    /// A connection that takes longer to open has failed, and another server is tried.
    pub connect_timeout: Duration,
    /// A server that owes replies and sends nothing for this long is given up, and another takes over.
    pub silence_max: Duration,
    /// The wait before the first retry; it doubles with each one.
    pub backoff_min: Duration,
    /// The longest wait between two retries.
    pub backoff_max: Duration,
    /// One reply, in bytes; a server that sends more is given up.
    pub reply_bytes_max: usize,
}

/// The options make no sense; the text says which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// `servers` is empty.
    #[error("no servers are given: name at least one as host:port")]
    NoServers,
    /// A server has no port.
    #[error("server {0:?} is not of the form host:port")]
    BadServer(String),
    /// A number or a time is zero.
    #[error("{0} must be above zero")]
    Zero(&'static str),
}

impl ClerkOptions {
    /// The defaults for these servers.
    pub fn new(servers: impl IntoIterator<Item = impl Into<String>>) -> ClerkOptions {
        ClerkOptions {
            servers: servers.into_iter().map(Into::into).collect(),
            password: None,
            deadline: Duration::from_secs(10),
            inflight_max: 256,
            session_ttl: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(1),
            silence_max: Duration::from_secs(3),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(500),
            reply_bytes_max: 256 << 20,
        }
    }

    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        if self.servers.is_empty() {
            return Err(OptionsError::NoServers);
        }
        let is_address = |server: &str| {
            server
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if let Some(bad) = self.servers.iter().find(|server| !is_address(server)) {
            return Err(OptionsError::BadServer(bad.clone()));
        }
        let times = [
            ("deadline", self.deadline),
            ("session_ttl", self.session_ttl),
            ("connect_timeout", self.connect_timeout),
            ("silence_max", self.silence_max),
            ("backoff_min", self.backoff_min),
            ("backoff_max", self.backoff_max),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(OptionsError::Zero(name));
        }
        match (self.inflight_max, self.reply_bytes_max) {
            (0, _) => Err(OptionsError::Zero("inflight_max")),
            (_, 0) => Err(OptionsError::Zero("reply_bytes_max")),
            _ => Ok(()),
        }
    }
}

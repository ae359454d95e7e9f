//! What a reply says about the one copy of a request that it answers.

use pontoon_wire::resp::Value;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// Executed; this is its result.
    Result(Value),
    /// Executed or not, it is wrong and changed nothing; any server says the same.
    Wrong(String),
    /// This server does not take requests from us; this copy was surely not executed.
    Refused(String),
    /// This copy was surely not executed; a later one may be, perhaps better on another server.
    TryAgain { why: String, elsewhere: bool },
    /// The session does not exist (any more): neither this copy nor a later one is executed.
    SessionGone(String),
    /// The seq was given up: neither this copy nor a later one is executed.
    Stale(String),
    /// This copy may have been executed, or may yet be.
    Unknown(String),
}

impl Verdict {
    pub(super) fn of(value: Value) -> Verdict {
        let why = match value {
            Value::Error(text) => text.into_owned(),
            result => return Verdict::Result(result),
        };
        // Redis has no code of its own for a server whose connections are used up.
        if why.starts_with("ERR max number of clients") {
            return Verdict::TryAgain { why, elsewhere: true };
        }
        match why.split(' ').next().unwrap_or_default() {
            "ERR" | "WRONGTYPE" => Verdict::Wrong(why),
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Verdict::Refused(why),
            "NOTREADY" | "BUSY" | "STOPPING" => Verdict::TryAgain { why, elsewhere: true },
            // Both are the state machine's word and the same on every server; they pass with time.
            "OUTSIDEWINDOW" | "TOOMANYSESSIONS" => Verdict::TryAgain { why, elsewhere: false },
            "SESSIONEXPIRED" => Verdict::SessionGone(why),
            "STALE" => Verdict::Stale(why),
            // `UNKNOWN`, and any code that this version does not know: in doubt, it may have happened.
            _ => Verdict::Unknown(why),
        }
    }
}

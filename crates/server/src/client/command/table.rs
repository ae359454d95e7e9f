//! The table of commands. `COMMAND` shows it to clients.

use bytes::Bytes;
use pontoon_kv::Command;
use pontoon_wire::resp::Value;

use super::{Reject, client, config, connection, data, reflect, session};
use crate::client::{caller::Caller, service::Service};

/// A command, as Redis describes one.
pub(super) struct Spec {
    /// Lower case.
    pub(super) name: &'static str,
    /// How many arguments it takes, its name included; negative: at least so many.
    pub(super) arity: i64,
    /// Redis's, separated by spaces.
    pub(super) flags: &'static str,
    /// Its first key, its last key (negative: from the end), and how far one is from the next; 0 without keys.
    pub(super) keys: (i64, i64, i64),
    pub(super) group: &'static str,
    pub(super) summary: &'static str,
    pub(super) handler: Handler,
}

/// What a command does. Each gets all arguments, the name included; their number fits `arity`.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// Is executed by the machine.
    Data(fn(&[Bytes]) -> Result<Command, Reject>),
    /// Is executed by the machine, exactly once.
    Once,
    /// Opens, keeps alive or closes a session.
    Session,
    /// Is answered by this server alone.
    Local(fn(&[Bytes], &mut Caller, &Service) -> Result<Value, Reject>),
    /// `DEBUG`
    Debug,
}

impl Spec {
    pub(super) fn has_flag(&self, flag: &str) -> bool {
        self.flags.split_ascii_whitespace().any(|has| has == flag)
    }
}

/// Finds a command by its name in upper or lower case.
pub(super) fn find(name: &[u8]) -> Option<&'static Spec> {
    const NAME_BYTES_MAX: usize = 16;
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let at = TABLE.binary_search_by(|spec| spec.name.as_bytes().cmp(lower)).ok()?;
    Some(&TABLE[at])
}

const NO_KEYS: (i64, i64, i64) = (0, 0, 0);
const ONE_KEY: (i64, i64, i64) = (1, 1, 1);
const ALL_KEYS: (i64, i64, i64) = (1, -1, 1);

/// All commands, by name.
pub(super) static TABLE: &[Spec] = &[
    Spec {
        name: "append",
        arity: 3,
        flags: "write denyoom fast",
        keys: ONE_KEY,
        group: "string",
        summary: "Appends to a value, or creates it; replies with its new length",
        handler: Handler::Data(data::append),
    },
    Spec {
        name: "auth",
        arity: -2,
        flags: "noscript loading stale fast no_auth allow_busy",
        keys: NO_KEYS,
        group: "connection",
        summary: "Presents the password",
        handler: Handler::Local(connection::auth),
    },
    Spec {
        name: "batch",
        arity: -4,
        flags: "write denyoom movablekeys",
        keys: NO_KEYS,
        group: "string",
        summary: "Executes commands on data atomically and in order: BATCH count {argc command args...}...",
        handler: Handler::Data(session::batch),
    },
    Spec {
        name: "client",
        arity: -2,
        flags: "loading stale",
        keys: NO_KEYS,
        group: "connection",
        summary: "ID, INFO, SETNAME, GETNAME, SETINFO, NO-EVICT, NO-TOUCH, REPLY ON: of this connection",
        handler: Handler::Local(client::client),
    },
    Spec {
        name: "command",
        arity: -1,
        flags: "loading stale",
        keys: NO_KEYS,
        group: "server",
        summary: "Describes the commands: COUNT, DOCS, INFO, LIST",
        handler: Handler::Local(reflect::command),
    },
    Spec {
        name: "config",
        arity: -2,
        flags: "admin noscript loading stale",
        keys: NO_KEYS,
        group: "server",
        summary: "Shows settings: GET pattern...",
        handler: Handler::Local(config::config),
    },
    Spec {
        name: "debug",
        arity: -2,
        flags: "admin noscript loading stale",
        keys: NO_KEYS,
        group: "server",
        summary: "DIGEST: a hash of this server's whole state",
        handler: Handler::Debug,
    },
    Spec {
        name: "decr",
        arity: 2,
        flags: "write denyoom fast",
        keys: ONE_KEY,
        group: "string",
        summary: "Subtracts one from an integer; a missing key counts as 0",
        handler: Handler::Data(data::decr),
    },
    Spec {
        name: "decrby",
        arity: 3,
        flags: "write denyoom fast",
        keys: ONE_KEY,
        group: "string",
        summary: "Subtracts from an integer; a missing key counts as 0",
        handler: Handler::Data(data::decrby),
    },
    Spec {
        name: "del",
        arity: -2,
        flags: "write",
        keys: ALL_KEYS,
        group: "generic",
        summary: "Removes keys; replies with how many there were",
        handler: Handler::Data(data::del),
    },
    Spec {
        name: "echo",
        arity: 2,
        flags: "loading stale fast",
        keys: NO_KEYS,
        group: "connection",
        summary: "Replies with its argument",
        handler: Handler::Local(connection::echo),
    },
    Spec {
        name: "exists",
        arity: -2,
        flags: "readonly fast",
        keys: ALL_KEYS,
        group: "generic",
        summary: "Replies with how many of the keys exist",
        handler: Handler::Data(data::exists),
    },
    Spec {
        name: "get",
        arity: 2,
        flags: "readonly fast",
        keys: ONE_KEY,
        group: "string",
        summary: "Replies with a value",
        handler: Handler::Data(data::get),
    },
    Spec {
        name: "hello",
        arity: -1,
        flags: "noscript loading stale fast no_auth allow_busy",
        keys: NO_KEYS,
        group: "connection",
        summary: "Chooses RESP2 or RESP3: HELLO [protover [AUTH user password] [SETNAME name]]",
        handler: Handler::Local(connection::hello),
    },
    Spec {
        name: "incr",
        arity: 2,
        flags: "write denyoom fast",
        keys: ONE_KEY,
        group: "string",
        summary: "Adds one to an integer; a missing key counts as 0",
        handler: Handler::Data(data::incr),
    },
    Spec {
        name: "incrby",
        arity: 3,
        flags: "write denyoom fast",
        keys: ONE_KEY,
        group: "string",
        summary: "Adds to an integer; a missing key counts as 0",
        handler: Handler::Data(data::incrby),
    },
    Spec {
        name: "info",
        arity: -1,
        flags: "loading stale",
        keys: NO_KEYS,
        group: "server",
        summary: "What the server says of itself: INFO [server|clients|memory|stats|raft]...",
        handler: Handler::Local(connection::info),
    },
    Spec {
        name: "mget",
        arity: -2,
        flags: "readonly fast",
        keys: ALL_KEYS,
        group: "string",
        summary: "Replies with several values",
        handler: Handler::Data(data::mget),
    },
    Spec {
        name: "mset",
        arity: -3,
        flags: "write denyoom",
        keys: (1, -1, 2),
        group: "string",
        summary: "Sets several keys atomically",
        handler: Handler::Data(data::mset),
    },
    Spec {
        name: "once",
        arity: -5,
        flags: "write denyoom movablekeys",
        keys: NO_KEYS,
        group: "string",
        summary: "Executes a command on data exactly once in a session: ONCE sid seq ack command args...",
        handler: Handler::Once,
    },
    Spec {
        name: "ping",
        arity: -1,
        flags: "fast",
        keys: NO_KEYS,
        group: "connection",
        summary: "Replies with PONG or with its argument",
        handler: Handler::Local(connection::ping),
    },
    Spec {
        name: "quit",
        arity: -1,
        flags: "noscript loading stale fast no_auth allow_busy",
        keys: NO_KEYS,
        group: "connection",
        summary: "Closes the connection after the replies that are due",
        handler: Handler::Local(connection::quit),
    },
    Spec {
        name: "reset",
        arity: 1,
        flags: "noscript loading stale fast no_auth allow_busy",
        keys: NO_KEYS,
        group: "connection",
        summary: "Makes the connection as it was when it was new",
        handler: Handler::Local(connection::reset),
    },
    Spec {
        name: "select",
        arity: 2,
        flags: "loading stale fast",
        keys: NO_KEYS,
        group: "connection",
        summary: "Chooses a database; there is only 0",
        handler: Handler::Local(connection::select),
    },
    Spec {
        name: "session",
        arity: -2,
        flags: "write fast",
        keys: NO_KEYS,
        group: "connection",
        summary: "Exactly-once sessions: OPEN, KEEPALIVE sid, CLOSE sid",
        handler: Handler::Session,
    },
    Spec {
        name: "set",
        arity: -3,
        flags: "write denyoom",
        keys: ONE_KEY,
        group: "string",
        summary: "Sets a key: SET key value [NX|XX] [GET]",
        handler: Handler::Data(data::set),
    },
    Spec {
        name: "strlen",
        arity: 2,
        flags: "readonly fast",
        keys: ONE_KEY,
        group: "string",
        summary: "Replies with a value's length in bytes",
        handler: Handler::Data(data::strlen),
    },
];

#[cfg(test)]
mod tests {
    use super::{TABLE, find};

    #[test]
    fn every_command_is_found_by_its_name_in_any_case() {
        for spec in TABLE {
            for name in [spec.name.to_string(), spec.name.to_uppercase()] {
                assert_eq!(find(name.as_bytes()).map(|found| found.name), Some(spec.name));
            }
        }
        for name in ["", "ge", "gett", "zzz", "a name that is longer than any command's"] {
            assert!(find(name.as_bytes()).is_none(), "{name}");
        }
    }

    #[test]
    fn what_the_table_says_of_reads_and_writes_is_what_the_machine_does() {
        let arguments: Vec<bytes::Bytes> = ["", "2", "2", "GET", "k"].map(bytes::Bytes::from).to_vec();
        for spec in TABLE {
            let super::Handler::Data(parse) = spec.handler else { continue };
            let count = spec.arity.unsigned_abs() as usize;
            if let Ok(command) = parse(&arguments[..count]) {
                assert_eq!(command.is_read(), spec.has_flag("readonly"), "{}", spec.name);
            }
        }
    }
}

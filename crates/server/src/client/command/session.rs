//! Commands that are Pontoon's own: sessions, `ONCE` and atomic batches.

use bytes::Bytes;
use pontoon_kv::{Command, Seq, SessionId, limits::COMMAND_PARTS_MAX};
use pontoon_replica::Request;

use super::{Reject, Service, data, integer, text, unknown_subcommand};

/// `SESSION OPEN | KEEPALIVE sid | CLOSE sid`
pub(super) fn session(arguments: &[Bytes]) -> Result<Request, Reject> {
    match (text(&arguments[1]).as_str(), &arguments[2..]) {
        ("open", []) => Ok(Request::OpenSession),
        ("keepalive", [session]) => Ok(Request::KeepAliveSession(SessionId(integer(session)?))),
        ("close", [session]) => Ok(Request::CloseSession(SessionId(integer(session)?))),
        ("open", _) => Err(Reject::Arity("session|open")),
        ("keepalive", _) => Err(Reject::Arity("session|keepalive")),
        ("close", _) => Err(Reject::Arity("session|close")),
        _ => Err(unknown_subcommand("SESSION", arguments)),
    }
}

/// `ONCE sid seq ack COMMAND args...`
pub(super) fn once(arguments: &[Bytes], service: &Service) -> Result<Request, Reject> {
    let session = SessionId(integer(&arguments[1])?);
    let (seq, ack) = (Seq(integer(&arguments[2])?), Seq(integer(&arguments[3])?));
    let command = data(&arguments[4..])?;
    command.check(&service.settings.cluster.limits)?;
    Ok(Request::Once { session, seq, ack, command })
}

/// `BATCH count {argc command args...}...`: atomically and in order; `argc` counts the command's name, too.
pub(super) fn batch(arguments: &[Bytes]) -> Result<Command, Reject> {
    let count: usize = integer(&arguments[1])?;
    if count == 0 || count > COMMAND_PARTS_MAX {
        return Err(Reject::Other(format!(
            "ERR BATCH takes 1 to {COMMAND_PARTS_MAX} commands; not executed"
        )));
    }
    let mut rest = &arguments[2..];
    let mut commands = Vec::with_capacity(count.min(rest.len() / 2));
    for _ in 0..count {
        let (argc, after) = rest.split_first().ok_or(Reject::Syntax)?;
        let argc: usize = integer(argc)?;
        let (command, after) = after.split_at_checked(argc).ok_or(Reject::Syntax)?;
        if command.is_empty() {
            return Err(Reject::Syntax);
        }
        commands.push(member(command)?);
        rest = after;
    }
    if rest.is_empty() { Ok(Command::Batch { commands }) } else { Err(Reject::Syntax) }
}

/// Looked at before it is parsed: batches within batches within batches would otherwise be parsed as deep as they go.
fn member(arguments: &[Bytes]) -> Result<Command, Reject> {
    if arguments[0].eq_ignore_ascii_case(b"batch") {
        return Err(Reject::Other("ERR not executed; a batch holds no batch".to_string()));
    }
    data(arguments)
}

//! What a request means: looked up in the table, checked as Redis checks it, then parsed.

mod client;
mod config;
mod connection;
mod data;
mod reflect;
mod session;
mod table;

use bytes::Bytes;
use pontoon_kv::{Command, LimitExceeded};
use pontoon_replica::Request;
use pontoon_wire::resp::Value;

use self::table::{Handler, Spec};
use super::{caller::Caller, service::Service};

/// What is to be done about a request.
pub(crate) enum Action {
    /// It is answered here.
    Reply(Value),
    /// The core is to be asked.
    Request(Request),
    /// `DEBUG DIGEST`
    Digest,
}

/// A request that is wrong in itself: it was not executed. The texts are Redis's where Redis has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reject {
    #[error("ERR unknown command '{name}', with args beginning with: {arguments}")]
    UnknownCommand { name: String, arguments: String },
    #[error("ERR unknown subcommand '{subcommand}'. Try {command} HELP.")]
    UnknownSubcommand { command: &'static str, subcommand: String },
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    #[error("ERR syntax error")]
    Syntax,
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    #[error("NOAUTH Authentication required.")]
    NoAuth,
    #[error("ERR not executed; {0}")]
    Limit(#[from] LimitExceeded),
    #[error("ERR not executed; '{0}' is not a command on data")]
    NotData(String),
    /// Anything else that one command alone says.
    #[error("{0}")]
    Other(String),
}

/// What a client's request means.
pub(crate) fn interpret(
    arguments: &[Bytes],
    caller: &mut Caller,
    service: &Service,
) -> Result<Action, Reject> {
    let spec = find(arguments)?;
    if !caller.authenticated && !spec.has_flag("no_auth") {
        return Err(Reject::NoAuth);
    }
    match spec.handler {
        Handler::Data(_) => {
            let command = checked(spec, arguments, service)?;
            Ok(Action::Request(Request::Plain(command)))
        }
        Handler::Once => session::once(arguments, service).map(Action::Request),
        Handler::Session => session::session(arguments).map(Action::Request),
        Handler::Local(handle) => handle(arguments, caller, service).map(Action::Reply),
        Handler::Debug => match text(&arguments[1]).as_str() {
            "digest" if arguments.len() == 2 => Ok(Action::Digest),
            "digest" => Err(Reject::Arity("debug|digest")),
            _ => Err(unknown_subcommand("DEBUG", arguments)),
        },
    }
}

/// The command of this name, if it takes so many arguments.
fn find(arguments: &[Bytes]) -> Result<&'static Spec, Reject> {
    let spec = table::find(&arguments[0]).ok_or_else(|| unknown_command(arguments))?;
    let count = arguments.len() as i64;
    let fits = if spec.arity < 0 { count >= -spec.arity } else { count == spec.arity };
    if fits { Ok(spec) } else { Err(Reject::Arity(spec.name)) }
}

/// A command on data, for those that contain others.
fn data(arguments: &[Bytes]) -> Result<Command, Reject> {
    let spec = find(arguments)?;
    match spec.handler {
        Handler::Data(parse) => parse(arguments),
        _ => Err(Reject::NotData(spec.name.to_string())),
    }
}

/// A command on data, within the limits.
fn checked(spec: &Spec, arguments: &[Bytes], service: &Service) -> Result<Command, Reject> {
    let Handler::Data(parse) = spec.handler else { return Err(Reject::NotData(spec.name.to_string())) };
    let command = parse(arguments)?;
    command.check(&service.settings.cluster.limits)?;
    Ok(command)
}

/// Redis shows 128 characters of the name and about as many of the arguments.
fn unknown_command(arguments: &[Bytes]) -> Reject {
    const SHOWN_BYTES_MAX: usize = 128;
    let shown =
        |bytes: &[u8], max: usize| String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned();
    let mut rest = String::new();
    for argument in &arguments[1..] {
        if rest.len() >= SHOWN_BYTES_MAX {
            break;
        }
        rest = format!("{rest}'{}' ", shown(argument, SHOWN_BYTES_MAX - rest.len()));
    }
    Reject::UnknownCommand { name: shown(&arguments[0], SHOWN_BYTES_MAX), arguments: rest }
}

fn unknown_subcommand(command: &'static str, arguments: &[Bytes]) -> Reject {
    let shown = &arguments[1][..arguments[1].len().min(128)];
    Reject::UnknownSubcommand { command, subcommand: String::from_utf8_lossy(shown).into_owned() }
}

/// An option or a name, in lower case; of what is longer than any of them, only the beginning.
fn text(argument: &[u8]) -> String {
    String::from_utf8_lossy(&argument[..argument.len().min(64)]).to_lowercase()
}

fn integer<T: std::str::FromStr>(argument: &[u8]) -> Result<T, Reject> {
    std::str::from_utf8(argument)
        .ok()
        .filter(|digits| canonical(digits))
        .and_then(|digits| digits.parse().ok())
        .ok_or(Reject::NotAnInteger)
}

/// As strict as Redis: no plus sign, no leading zeros, no `-0`.
fn canonical(digits: &str) -> bool {
    let magnitude = digits.strip_prefix('-').unwrap_or(digits);
    digits == "0" || magnitude.starts_with(|first: char| ('1'..='9').contains(&first))
}

fn bulk(text: impl Into<Bytes>) -> Value {
    Value::Bulk(text.into())
}

//! Commands about the connection itself.

use bytes::Bytes;
use pontoon_wire::resp::{Protocol, Value};

use super::{Reject, bulk, client::set_name, integer, text};
use crate::client::{caller::Caller, info, service::Service};

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

pub(super) fn ping(arguments: &[Bytes], _: &mut Caller, _: &Service) -> Result<Value, Reject> {
    match arguments {
        [_] => Ok(Value::Simple("PONG".into())),
        [_, message] => Ok(Value::Bulk(message.clone())),
        _ => Err(Reject::Arity("ping")),
    }
}

pub(super) fn echo(arguments: &[Bytes], _: &mut Caller, _: &Service) -> Result<Value, Reject> {
    Ok(Value::Bulk(arguments[1].clone()))
}

pub(super) fn quit(_: &[Bytes], caller: &mut Caller, _: &Service) -> Result<Value, Reject> {
    caller.leaving = true;
    Ok(Value::OK)
}

pub(super) fn reset(_: &[Bytes], caller: &mut Caller, service: &Service) -> Result<Value, Reject> {
    caller.reset(service.settings.password.as_deref());
    Ok(Value::Simple("RESET".into()))
}

pub(super) fn select(arguments: &[Bytes], _: &mut Caller, _: &Service) -> Result<Value, Reject> {
    match integer::<i64>(&arguments[1])? {
        0 => Ok(Value::OK),
        _ => Err(Reject::Other("ERR DB index is out of range".to_string())),
    }
}

/// `AUTH [user] password`
pub(super) fn auth(arguments: &[Bytes], caller: &mut Caller, service: &Service) -> Result<Value, Reject> {
    let password = service.settings.password.as_deref();
    let (user, presented): (&[u8], &[u8]) = match arguments {
        [_, _] if password.is_none() => {
            return Err(Reject::Other(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?"
                    .to_string(),
            ));
        }
        [_, presented] => (b"default", presented),
        [_, user, presented] => (user, presented),
        _ => return Err(Reject::Syntax),
    };
    match caller.authenticate(user, presented, password) {
        Ok(()) => Ok(Value::OK),
        Err(_) => Err(Reject::Other(WRONG_PASSWORD.to_string())),
    }
}

/// `HELLO [protover [AUTH user password] [SETNAME name]]`. If anything is wrong, nothing but the authentication changes.
pub(super) fn hello(arguments: &[Bytes], caller: &mut Caller, service: &Service) -> Result<Value, Reject> {
    let protocol = match arguments.get(1).map(|version| integer::<i64>(version)) {
        None => caller.protocol,
        Some(Ok(2)) => Protocol::Resp2,
        Some(Ok(3)) => Protocol::Resp3,
        Some(Ok(_)) => return Err(Reject::Other("NOPROTO unsupported protocol version".to_string())),
        Some(Err(_)) => {
            return Err(Reject::Other("ERR Protocol version is not an integer or out of range".to_string()));
        }
    };
    let mut options = arguments.get(2..).unwrap_or_default();
    let mut name = None;
    while let [option, rest @ ..] = options {
        options = match (text(option).as_str(), rest) {
            ("auth", [user, presented, rest @ ..]) => {
                let password = service.settings.password.as_deref();
                if caller.authenticate(user, presented, password).is_err() {
                    return Err(Reject::Other(WRONG_PASSWORD.to_string()));
                }
                rest
            }
            ("setname", [given, rest @ ..]) => {
                name = Some(given);
                rest
            }
            _ => {
                let shown = String::from_utf8_lossy(&option[..option.len().min(128)]);
                return Err(Reject::Other(format!("ERR Syntax error in HELLO option '{shown}'")));
            }
        };
    }
    if !caller.authenticated {
        return Err(Reject::Other(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
             option can be used to authenticate the client and select the RESP protocol version at the same time"
                .to_string(),
        ));
    }
    if let Some(name) = name {
        set_name(name, caller)?;
    }
    caller.protocol = protocol;
    Ok(greeting(caller))
}

fn greeting(caller: &Caller) -> Value {
    let version = match caller.protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    };
    Value::Map(vec![
        (bulk("server"), bulk("pontoon")),
        (bulk("version"), bulk(env!("CARGO_PKG_VERSION"))),
        (bulk("proto"), Value::Integer(version)),
        (bulk("id"), Value::Integer(i64::from(caller.id))),
        (bulk("mode"), bulk("standalone")),
        // Every server takes writes.
        (bulk("role"), bulk("master")),
        (bulk("modules"), Value::Array(Vec::new())),
    ])
}

/// `INFO [section]...`
pub(super) fn info(arguments: &[Bytes], _: &mut Caller, service: &Service) -> Result<Value, Reject> {
    let sections: Vec<String> = arguments[1..].iter().map(|section| text(section)).collect();
    Ok(Value::Verbatim { format: *b"txt", text: info::text(&sections, service).into() })
}

//! `CLIENT`: what a connection says and asks of itself.

use bytes::Bytes;
use pontoon_wire::resp::Value;

use super::{Reject, bulk, text, unknown_subcommand};
use crate::client::{caller::Caller, service::Service};

/// Names are kept as long as the connection lives.
const NAME_BYTES_MAX: usize = 1024;

pub(super) fn client(arguments: &[Bytes], caller: &mut Caller, _: &Service) -> Result<Value, Reject> {
    let subcommand = text(&arguments[1]);
    let arity = |name| Err(Reject::Arity(name));
    match (subcommand.as_str(), &arguments[2..]) {
        ("id", []) => Ok(Value::Integer(i64::from(caller.id))),
        ("info", []) => Ok(Value::Verbatim { format: *b"txt", text: caller.line().into() }),
        ("getname", []) if caller.name.is_empty() => Ok(Value::Null),
        ("getname", []) => Ok(Value::Bulk(caller.name.clone())),
        ("setname", [name]) => set_name(name, caller).map(|()| Value::OK),
        ("setinfo", [attribute, value]) => set_info(attribute, value, caller),
        // There is nothing that they would change.
        ("no-evict" | "no-touch", [switch]) => match text(switch).as_str() {
            "on" | "off" => Ok(Value::OK),
            _ => Err(Reject::Syntax),
        },
        ("reply", [mode]) => match text(mode).as_str() {
            "on" => Ok(Value::OK),
            "off" | "skip" => {
                Err(Reject::Other("ERR CLIENT REPLY takes ON only: every request is answered".to_string()))
            }
            _ => Err(Reject::Syntax),
        },
        ("id", _) => arity("client|id"),
        ("info", _) => arity("client|info"),
        ("getname", _) => arity("client|getname"),
        ("setname", _) => arity("client|setname"),
        ("setinfo", _) => arity("client|setinfo"),
        ("no-evict", _) => arity("client|no-evict"),
        ("no-touch", _) => arity("client|no-touch"),
        ("reply", _) => arity("client|reply"),
        ("help", _) => Ok(help()),
        _ => Err(unknown_subcommand("CLIENT", arguments)),
    }
}

pub(super) fn set_name(name: &Bytes, caller: &mut Caller) -> Result<(), Reject> {
    caller.name = plain(name, "Client names")?;
    Ok(())
}

fn set_info(attribute: &[u8], value: &Bytes, caller: &mut Caller) -> Result<Value, Reject> {
    match text(attribute).as_str() {
        "lib-name" => caller.library = plain(value, "lib-name")?,
        "lib-ver" => caller.library_version = plain(value, "lib-ver")?,
        other => return Err(Reject::Other(format!("ERR Unrecognized option '{other}'"))),
    }
    Ok(Value::OK)
}

/// A copy: a slice would keep the whole request in memory.
fn plain(value: &Bytes, what: &str) -> Result<Bytes, Reject> {
    if value.len() > NAME_BYTES_MAX {
        return Err(Reject::Other(format!("ERR {what} cannot be longer than {NAME_BYTES_MAX} bytes.")));
    }
    if !value.iter().all(u8::is_ascii_graphic) {
        return Err(Reject::Other(format!(
            "ERR {what} cannot contain spaces, newlines or special characters."
        )));
    }
    Ok(Bytes::copy_from_slice(value))
}

fn help() -> Value {
    let lines = [
        "CLIENT <subcommand> [<arg> ...]. Subcommands are:",
        "ID, INFO, GETNAME, SETNAME <name>, SETINFO LIB-NAME|LIB-VER <value>,",
        "NO-EVICT ON|OFF, NO-TOUCH ON|OFF, REPLY ON.",
    ];
    Value::Array(lines.into_iter().map(bulk).collect())
}

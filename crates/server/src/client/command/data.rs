//! Commands that the machine executes.

use bytes::Bytes;
use pontoon_kv::{Command, SetCondition};

use super::{Reject, integer, text};

pub(super) fn get(arguments: &[Bytes]) -> Result<Command, Reject> {
    Ok(Command::Get { key: arguments[1].clone() })
}

pub(super) fn strlen(arguments: &[Bytes]) -> Result<Command, Reject> {
    Ok(Command::StrLen { key: arguments[1].clone() })
}

pub(super) fn exists(arguments: &[Bytes]) -> Result<Command, Reject> {
    Ok(Command::Exists { keys: arguments[1..].to_vec() })
}

pub(super) fn mget(arguments: &[Bytes]) -> Result<Command, Reject> {
    Ok(Command::MGet { keys: arguments[1..].to_vec() })
}

pub(super) fn del(arguments: &[Bytes]) -> Result<Command, Reject> {
    Ok(Command::Del { keys: arguments[1..].to_vec() })
}

pub(super) fn append(arguments: &[Bytes]) -> Result<Command, Reject> {
    Ok(Command::Append { key: arguments[1].clone(), value: arguments[2].clone() })
}

/// `SET key value [NX|XX] [GET]`. Options with a time are refused until keys can expire.
pub(super) fn set(arguments: &[Bytes]) -> Result<Command, Reject> {
    let (key, value) = (arguments[1].clone(), arguments[2].clone());
    let mut condition = SetCondition::Always;
    let mut return_old = false;
    for option in &arguments[3..] {
        let option = text(option);
        match (option.as_str(), condition) {
            ("nx", SetCondition::Always | SetCondition::IfAbsent) => condition = SetCondition::IfAbsent,
            ("xx", SetCondition::Always | SetCondition::IfPresent) => condition = SetCondition::IfPresent,
            ("get", _) => return_old = true,
            ("ex" | "px" | "exat" | "pxat" | "keepttl", _) => {
                return Err(Reject::Other(format!(
                    "ERR SET with a time option ({}) is not supported yet: keys do not expire; not executed",
                    option.to_uppercase()
                )));
            }
            _ => return Err(Reject::Syntax),
        }
    }
    Ok(Command::Set { key, value, condition, return_old })
}

pub(super) fn mset(arguments: &[Bytes]) -> Result<Command, Reject> {
    let (pairs, rest) = arguments[1..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Reject::Arity("mset"));
    }
    Ok(Command::MSet { pairs: pairs.iter().map(|[key, value]| (key.clone(), value.clone())).collect() })
}

pub(super) fn incr(arguments: &[Bytes]) -> Result<Command, Reject> {
    Ok(Command::IncrBy { key: arguments[1].clone(), delta: 1 })
}

pub(super) fn decr(arguments: &[Bytes]) -> Result<Command, Reject> {
    Ok(Command::IncrBy { key: arguments[1].clone(), delta: -1 })
}

pub(super) fn incrby(arguments: &[Bytes]) -> Result<Command, Reject> {
    Ok(Command::IncrBy { key: arguments[1].clone(), delta: integer(&arguments[2])? })
}

pub(super) fn decrby(arguments: &[Bytes]) -> Result<Command, Reject> {
    let delta = integer::<i64>(&arguments[2])?
        .checked_neg()
        .ok_or_else(|| Reject::Other("ERR decrement would overflow".to_string()))?;
    Ok(Command::IncrBy { key: arguments[1].clone(), delta })
}

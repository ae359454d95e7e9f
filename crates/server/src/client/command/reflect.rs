//! `COMMAND`: the table of commands, as clients ask for it.

use bytes::Bytes;
use pontoon_wire::resp::Value;

use super::{
    Reject, bulk,
    table::{self, Spec, TABLE},
    text, unknown_subcommand,
};
use crate::client::{caller::Caller, service::Service};

/// The version of Pontoon that first had the commands of the table.
const SINCE: &str = "0.1.0";

pub(super) fn command(arguments: &[Bytes], _: &mut Caller, _: &Service) -> Result<Value, Reject> {
    let Some(subcommand) = arguments.get(1) else {
        return Ok(Value::Array(TABLE.iter().map(describe).collect()));
    };
    let names = &arguments[2..];
    match text(subcommand).as_str() {
        "count" if names.is_empty() => Ok(Value::Integer(TABLE.len() as i64)),
        "count" => Err(Reject::Arity("command|count")),
        "list" if names.is_empty() => Ok(Value::Array(TABLE.iter().map(|spec| bulk(spec.name)).collect())),
        "list" => Err(Reject::Syntax),
        "info" if names.is_empty() => Ok(Value::Array(TABLE.iter().map(describe).collect())),
        "info" => Ok(Value::Array(
            names.iter().map(|name| table::find(name).map_or(Value::Null, describe)).collect(),
        )),
        "docs" if names.is_empty() => Ok(Value::Map(TABLE.iter().map(document).collect())),
        "docs" => Ok(Value::Map(names.iter().filter_map(|name| table::find(name)).map(document).collect())),
        _ => Err(unknown_subcommand("COMMAND", arguments)),
    }
}

/// The ten fields of Redis 7; tips, key specifications and subcommands are left empty.
fn describe(spec: &Spec) -> Value {
    let (first, last, step) = spec.keys;
    Value::Array(vec![
        bulk(spec.name),
        Value::Integer(spec.arity),
        Value::Set(spec.flags.split_ascii_whitespace().map(|flag| Value::Simple(flag.into())).collect()),
        Value::Integer(first),
        Value::Integer(last),
        Value::Integer(step),
        Value::Set(categories(spec).into_iter().map(|category| Value::Simple(category.into())).collect()),
        Value::Array(Vec::new()),
        Value::Array(Vec::new()),
        Value::Array(Vec::new()),
    ])
}

fn categories(spec: &Spec) -> Vec<&'static str> {
    let mut categories = Vec::new();
    for (flag, category) in [("write", "@write"), ("readonly", "@read"), ("admin", "@admin")] {
        if spec.has_flag(flag) {
            categories.push(category);
        }
    }
    match spec.group {
        "string" => categories.push("@string"),
        "generic" => categories.push("@keyspace"),
        "connection" => categories.push("@connection"),
        _ => {}
    }
    categories.push(if spec.has_flag("fast") { "@fast" } else { "@slow" });
    categories
}

fn document(spec: &'static Spec) -> (Value, Value) {
    let fields = [("summary", spec.summary), ("since", SINCE), ("group", spec.group)];
    (bulk(spec.name), Value::Map(fields.into_iter().map(|(name, text)| (bulk(name), bulk(text))).collect()))
}

//! `CONFIG GET`: what Redis's tools and clients look for, and Pontoon's own settings.

use bytes::Bytes;
use pontoon_wire::resp::{BULK_BYTES_HARD_MAX, Value};

use super::{Reject, bulk, unknown_subcommand};
use crate::client::{caller::Caller, service::Service};

pub(super) fn config(arguments: &[Bytes], _: &mut Caller, service: &Service) -> Result<Value, Reject> {
    match super::text(&arguments[1]).as_str() {
        "get" if arguments.len() > 2 => Ok(get(&arguments[2..], service)),
        "get" => Err(Reject::Arity("config|get")),
        "set" | "rewrite" | "resetstat" => Err(Reject::Other(
            "ERR settings cannot be changed while a server runs: give them at its start \
             (flags, configuration file or environment; see pontoon serve --help)"
                .to_string(),
        )),
        _ => Err(unknown_subcommand("CONFIG", arguments)),
    }
}

fn get(patterns: &[Bytes], service: &Service) -> Value {
    let wanted = |name: &str| patterns.iter().any(|pattern| matches(pattern, name.as_bytes()));
    let found = settings(service).into_iter().filter(|(name, _)| wanted(name));
    Value::Map(found.map(|(name, value)| (bulk(name), bulk(value))).collect())
}

fn settings(service: &Service) -> Vec<(&'static str, String)> {
    let settings = &service.settings;
    let limits = &settings.cluster.limits;
    let log_bytes = settings.snapshot_log_bytes.map_or("-1".to_string(), |bytes| bytes.to_string());
    vec![
        // As Redis would say it of a server that loses nothing and evicts nothing.
        ("save", String::new()),
        ("appendonly", "yes".to_string()),
        ("appendfsync", "always".to_string()),
        ("databases", "1".to_string()),
        ("maxclients", settings.connections_max.to_string()),
        ("maxmemory", "0".to_string()),
        ("maxmemory-policy", "noeviction".to_string()),
        ("port", service.port.to_string()),
        ("proto-max-bulk-len", BULK_BYTES_HARD_MAX.to_string()),
        ("timeout", "0".to_string()),
        // Pontoon's own.
        ("id", settings.node.to_string()),
        ("cluster-id", settings.cluster.id.clone()),
        ("connections-max", settings.connections_max.to_string()),
        ("key-bytes-max", limits.key_bytes_max.to_string()),
        ("value-bytes-max", limits.value_bytes_max.to_string()),
        ("sessions-max", limits.sessions_max.to_string()),
        ("session-window", limits.session_window.to_string()),
        ("session-ttl-ms", limits.session_ttl_ms.to_string()),
        ("request-timeout-ms", settings.request_timeout.as_millis().to_string()),
        ("snapshot-log-bytes", log_bytes),
    ]
}

/// Redis's patterns without classes: `*` is any text, `?` any byte; case does not count. Takes at most |pattern| x |text| steps.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Behind the last `*`, and where the text after it is taken to begin.
    let mut retry = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || byte.eq_ignore_ascii_case(&text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((after, begin)) => {
                    retry = Some((after, begin + 1));
                    (p, t) = (after, begin + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("save", "save", true),
            ("SAVE", "save", true),
            ("save", "saved", false),
            ("saved", "save", false),
            ("*", "anything", true),
            ("*", "", true),
            ("max*", "maxmemory-policy", true),
            ("*y", "maxmemory-policy", true),
            ("m*y", "maxmemory-policy", true),
            ("m*m*m*y", "maxmemory-policy", true),
            ("m*m*m*m*y", "maxmemory-policy", false),
            ("ma?memory", "maxmemory", true),
            ("max?", "max", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}

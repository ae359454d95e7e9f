//! Commands that write, as Redis 7 defines them.

use bytes::Bytes;

use crate::{
    Command, CommandError, Limits, Reader, Reply, SetCondition, StoreError,
    layout::CHUNK_BYTES,
    overlay::Overlay,
    read::{Budget, read_within, value_reply},
    record::{Head, Stored},
};

/// The longest decimal 64-bit integer: `-9223372036854775808`.
const INTEGER_BYTES_MAX: usize = 20;
const _: () = assert!(INTEGER_BYTES_MAX <= CHUNK_BYTES, "integers are never in chunks");

/// Executes a command, read or write. What it makes of replies comes out of the budget.
pub(crate) fn execute<R: Reader>(
    state: &mut Overlay<'_, R>,
    command: &Command,
    limits: &Limits,
    budget: &mut Budget,
) -> Result<Reply, StoreError> {
    match command {
        Command::Set { key, value, condition, return_old } => {
            let options = SetOptions { condition: *condition, return_old: *return_old };
            set(state, key, value, options, limits, budget)
        }
        Command::Append { key, value } => append(state, key, value, limits),
        Command::Del { keys } => delete(state, keys),
        Command::MSet { pairs } => set_many(state, pairs, limits),
        Command::IncrBy { key, delta } => increment(state, key, *delta),
        Command::Batch { commands } => {
            let mut replies = Vec::with_capacity(commands.len());
            for command in commands {
                replies.push(execute(state, command, limits, budget)?);
            }
            Ok(Reply::Array(replies))
        }
        read => read_within(state, read, budget),
    }
}

#[derive(Clone, Copy)]
struct SetOptions {
    condition: SetCondition,
    return_old: bool,
}

fn set<R: Reader>(
    state: &mut Overlay<'_, R>,
    key: &Bytes,
    value: &Bytes,
    options: SetOptions,
    limits: &Limits,
    budget: &mut Budget,
) -> Result<Reply, StoreError> {
    if value.len() as u64 > u64::from(limits.value_bytes_max) {
        return Ok(Reply::Error(CommandError::ValueTooLarge));
    }
    let store_key = state.head_key(key);
    let old = match options {
        SetOptions { condition: SetCondition::Always, return_old: false } => {
            state.load_replaced(&store_key, key)?
        }
        _ => Head::load_at(state, &store_key, key)?,
    };
    let holds = match options.condition {
        SetCondition::Always => true,
        SetCondition::IfAbsent => old.is_none(),
        SetCondition::IfPresent => old.is_some(),
    };
    let reply = match options.return_old {
        true => value_reply(state, old.as_ref(), budget)?,
        false if holds => Reply::Ok,
        false => Reply::Nil,
    };
    if holds && !matches!(reply, Reply::Error(_)) {
        state.set(store_key, key, old.as_ref(), value);
    }
    Ok(reply)
}

fn append<R: Reader>(
    state: &mut Overlay<'_, R>,
    key: &Bytes,
    value: &Bytes,
    limits: &Limits,
) -> Result<Reply, StoreError> {
    let store_key = state.head_key(key);
    let old = Head::load_at(state, &store_key, key)?;
    let len = old.as_ref().map_or(0, |old| old.value.len()) + value.len() as u64;
    if len > u64::from(limits.value_bytes_max) {
        return Ok(Reply::Error(CommandError::ValueTooLarge));
    }
    match old {
        Some(old) => state.append(store_key, key, &old, value)?,
        None => state.set(store_key, key, None, value),
    }
    Ok(Reply::Integer(len as i64))
}

fn delete<R: Reader>(state: &mut Overlay<'_, R>, keys: &[Bytes]) -> Result<Reply, StoreError> {
    let mut found = 0;
    for key in keys {
        let store_key = state.head_key(key);
        if let Some(old) = Head::load_at(state, &store_key, key)? {
            state.remove(store_key, &old);
            found += 1;
        }
    }
    Ok(Reply::Integer(found))
}

fn set_many<R: Reader>(
    state: &mut Overlay<'_, R>,
    pairs: &[(Bytes, Bytes)],
    limits: &Limits,
) -> Result<Reply, StoreError> {
    if pairs.iter().any(|(_, value)| value.len() as u64 > u64::from(limits.value_bytes_max)) {
        return Ok(Reply::Error(CommandError::ValueTooLarge));
    }
    for (key, value) in pairs {
        let store_key = state.head_key(key);
        let old = state.load_replaced(&store_key, key)?;
        state.set(store_key, key, old.as_ref(), value);
    }
    Ok(Reply::Ok)
}

fn increment<R: Reader>(state: &mut Overlay<'_, R>, key: &Bytes, delta: i64) -> Result<Reply, StoreError> {
    let store_key = state.head_key(key);
    let old = Head::load_at(state, &store_key, key)?;
    let present = match &old {
        None => Some(0),
        Some(Head { value: Stored::Inline(bytes), .. }) => parse_integer(bytes),
        Some(_) => None,
    };
    let Some(present) = present else { return Ok(Reply::Error(CommandError::NotAnInteger)) };
    let Some(sum) = present.checked_add(delta) else { return Ok(Reply::Error(CommandError::Overflow)) };
    state.set(store_key, key, old.as_ref(), &Bytes::from(sum.to_string()));
    Ok(Reply::Integer(sum))
}

/// A decimal integer in its one canonical form, as Redis's `string2ll` takes it: no plus sign, leading zero, space or `-0`.
fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        b"0" => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => text.len() <= INTEGER_BYTES_MAX && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse_integer;

    #[test]
    fn integers_are_parsed_as_strictly_as_redis_does() {
        for n in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(parse_integer(n.to_string().as_bytes()), Some(n));
        }
        for text in [
            "",
            "-",
            "+1",
            " 1",
            "1 ",
            "01",
            "-0",
            "00",
            "-01",
            "1.0",
            "1e3",
            "0x1",
            "9223372036854775808",
            "-9223372036854775809",
        ] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_integer(&[b'1', 0xff]), None);
    }
}

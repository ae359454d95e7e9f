//! `put`, `append`, `get` and `del`, through the Clerk.

use std::{
    ffi::OsString,
    io::{self, Read},
    os::unix::ffi::OsStringExt,
    time::Duration,
};

use bytes::Bytes;
use pontoon_clerk::{Clerk, ClerkError, ClerkOptions, Operation, OperationReply};

use crate::{
    args::{CallArgs, DelArgs, GetArgs, WriteArgs},
    failure::{FAILED, Failure, NOT_FOUND, UNKNOWN},
    output,
};

/// A session that nobody closes expires by itself: closing it is worth this long and no more.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Sets a key.
pub fn put(args: WriteArgs) -> Result<(), Failure> {
    let (key, value) = (bytes(args.key), value(args.value)?);
    with_clerk(args.call, async |clerk| clerk.put(key, value).await)?.map_err(failed_write)?;
    output::deliver(&[b"OK\n"])
}

/// Appends to a key.
pub fn append(args: WriteArgs) -> Result<(), Failure> {
    let (key, value) = (bytes(args.key), value(args.value)?);
    let length =
        with_clerk(args.call, async |clerk| clerk.append(key, value).await)?.map_err(failed_write)?;
    output::deliver(&[format!("{length}\n").as_bytes()])
}

/// Prints a key's value.
pub fn get(args: GetArgs) -> Result<(), Failure> {
    let key = bytes(args.key);
    match with_clerk(args.call, async |clerk| clerk.get(key).await)?.map_err(failed_read)? {
        Some(value) if args.raw => output::deliver(&[&value]),
        Some(value) => output::deliver(&[&value, b"\n"]),
        None => Err(Failure::with_code(NOT_FOUND, "there is no such key")),
    }
}

/// Removes keys.
pub fn delete(args: DelArgs) -> Result<(), Failure> {
    let deletes: Vec<_> = args.keys.into_iter().map(|key| Operation::Delete { key: bytes(key) }).collect();
    let replies = with_clerk(args.call, async |clerk| clerk.batch(deletes).await)?.map_err(failed_write)?;
    let deleted = replies.iter().filter(|reply| matches!(reply, OperationReply::Deleted(true))).count();
    output::deliver(&[format!("{deleted}\n").as_bytes()])
}

/// Makes one call and ends its session.
fn with_clerk<T>(
    args: CallArgs,
    call: impl AsyncFnOnce(&Clerk) -> Result<T, ClerkError>,
) -> Result<Result<T, ClerkError>, Failure> {
    let options = ClerkOptions {
        password: args.client.password,
        deadline: args.timeout.0,
        inflight_max: 1,
        ..ClerkOptions::new(args.client.servers)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format_args!("cannot start the client: {error}")))?;
    runtime.block_on(async {
        let clerk = Clerk::connect(options).map_err(Failure::new)?;
        let outcome = call(&clerk).await;
        // Whatever becomes of the session, the outcome is known.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, clerk.close()).await;
        Ok(outcome)
    })
}

fn failed_write(error: ClerkError) -> Failure {
    let code = if error.may_have_happened() { UNKNOWN } else { FAILED };
    Failure::with_code(code, error)
}

/// A read has no effect that could be unknown.
fn failed_read(error: ClerkError) -> Failure {
    match error {
        ClerkError::Unknown { why } => Failure::new(format_args!("not read: {why}")),
        error => Failure::new(error),
    }
}

/// The value of a write; `-` stands for stdin.
fn value(arg: OsString) -> Result<Bytes, Failure> {
    if arg != "-" {
        return Ok(bytes(arg));
    }
    let mut value = Vec::new();
    match io::stdin().lock().read_to_end(&mut value) {
        Ok(_) => Ok(value.into()),
        Err(error) => Err(Failure::new(format_args!("cannot read the value from stdin: {error}"))),
    }
}

fn bytes(text: OsString) -> Bytes {
    text.into_vec().into()
}

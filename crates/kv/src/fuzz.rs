//! One entry point per decoder, and one for the machine, for fuzzers and for the mutation tests: any bytes may go in. Each panics
//! if what it says does not hold.

mod author;
mod machine;
mod model;
mod snapshot;

use bytes::Bytes;

pub use self::{
    author::{Author, KEYS, LIMITS, Step, Then},
    machine::machine,
    model::Model,
    snapshot::{snapshot, unframed},
};
use crate::{
    Applied, Block, Encoding, Reply,
    arena::Arena,
    layout::{USER_KEY_PREFIX_BYTES, key_tail},
    record::Head,
    session::Session,
};

/// A log entry's payload: what decodes encodes to the very bytes it came from.
pub fn block(data: &[u8]) {
    if let Ok(proposals) = Block::decode(Bytes::copy_from_slice(data)) {
        assert_eq!(Block::encode(&proposals), data, "a block has exactly one encoding");
    }
}

/// The records of a store, and the replies that sessions keep: the same.
pub fn store_record(data: &[u8]) {
    fn check<T: Encoding>(record: &Bytes) {
        if let Ok(value) = T::decode(record.clone()) {
            assert_eq!(value.encode(), record, "a {} has exactly one encoding", T::NAME);
        }
    }
    let record = Bytes::copy_from_slice(data);
    check::<Applied>(&record);
    check::<Session>(&record);
    check::<Reply>(&record);
    if let Ok((head, tail)) = Head::decode(record) {
        let user_key = if tail.is_empty() { Vec::new() } else { vec![b'k'; USER_KEY_PREFIX_BYTES] };
        let user_key = [&user_key, &tail[..]].concat();
        assert_eq!(key_tail(&user_key), tail);
        assert_eq!(
            head.encode(&user_key, &mut Arena::default()),
            data,
            "a head record has exactly one encoding"
        );
    }
}

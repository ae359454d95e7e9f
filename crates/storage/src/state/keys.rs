//! The tree's keys: those of the data, and the store's own.

use std::ops::Bound;

use pontoon_kv::{GroupId, Index, layout::STORE_KEY_BYTES_MAX};

/// Where a generation says which batch is its last: `group u64, index u64`, little-endian. No key of the data begins with this
/// byte, so all of them sort before it.
pub(super) const POSITION_KEY: &[u8] = &[0xff];

/// The longest key that the tree can hold, in bytes.
const KEY_BYTES_MAX: usize = STORE_KEY_BYTES_MAX;
const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize, "the tree stores a key's length in 16 bits");

/// The value of [`POSITION_KEY`].
pub(super) fn encode_position(group: GroupId, index: Index) -> [u8; 16] {
    let mut position = [0; 16];
    position[..8].copy_from_slice(&group.0.to_le_bytes());
    position[8..].copy_from_slice(&index.0.to_le_bytes());
    position
}

/// What such a value says, if it is of this group.
pub(super) fn decode_position(group: GroupId, position: &[u8]) -> Result<Index, String> {
    let Ok(position) = <&[u8; 16]>::try_from(position) else {
        return Err("its position record has another length".to_owned());
    };
    let number = |at: usize| u64::from_le_bytes(position[at..at + 8].try_into().expect("eight bytes"));
    match (number(0), number(8)) {
        (owner, index) if owner == group.0 => Ok(Index(index)),
        (owner, _) => Err(format!("it belongs to group {owner}, not to group {group}")),
    }
}

/// Whether the tree can hold this as a key of the data.
pub(super) fn is_key(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= KEY_BYTES_MAX && !key.starts_with(POSITION_KEY)
}

/// `from <= key`. The tree panics on bounds that are longer than its keys; no key lies between such a one and its beginning.
pub(super) fn lower_bound(from: &[u8]) -> Bound<&[u8]> {
    from.get(..KEY_BYTES_MAX)
        .filter(|start| start.len() < from.len())
        .map_or(Bound::Included(from), Bound::Excluded)
}

/// `key < to`, in the same way.
pub(super) fn upper_bound(to: &[u8]) -> Bound<&[u8]> {
    to.get(..KEY_BYTES_MAX)
        .filter(|start| start.len() < to.len())
        .map_or(Bound::Excluded(to), Bound::Included)
}

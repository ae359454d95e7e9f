//! Small files that change as a whole, and folders that remember it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use xxhash_rust::xxh3::xxh3_64;

/// Makes a folder's entries (files created, renamed, removed) durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Replaces a file's contents: after a crash it has the old ones or the new ones, never a mixture.
pub(crate) fn replace_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = path.parent().expect("a file of the data folder has a parent");
    let temporary = path.with_extension(TEMPORARY);
    let mut file = File::create(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    sync_folder(folder)
}

/// Extension of a file that [`replace_file`] had not finished.
pub(crate) const TEMPORARY: &str = "tmp";

/// Why a sealed record was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SealError {
    /// Too short, of another kind, or its checksum does not match.
    Damaged,
    /// Intact, and written by a newer version of this program.
    Newer(u32),
}

/// Seals a small record: `magic | version u32 | body length u32 | body | xxh3-64 of all before`, little-endian. This frame is
/// the same in all versions, so that an old program tells a newer record from a damaged one.
pub(crate) fn seal(magic: &[u8; 8], version: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("sealed records are small");
    let mut record = Vec::with_capacity(body.len() + FRAME_BYTES);
    record.extend_from_slice(magic);
    record.extend_from_slice(&version.to_le_bytes());
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(body);
    let checksum = xxh3_64(&record);
    record.extend_from_slice(&checksum.to_le_bytes());
    record
}

/// Opens a sealed record of exactly this version.
pub(crate) fn unseal<'a>(magic: &[u8; 8], version: u32, record: &'a [u8]) -> Result<&'a [u8], SealError> {
    if record.len() < FRAME_BYTES || !record.starts_with(magic) {
        return Err(SealError::Damaged);
    }
    let (sealed, checksum) = record.split_at(record.len() - 8);
    if xxh3_64(sealed).to_le_bytes() != checksum {
        return Err(SealError::Damaged);
    }
    let (head, body) = sealed.split_at(16);
    let found = u32::from_le_bytes(head[8..12].try_into().expect("four bytes"));
    let length = u32::from_le_bytes(head[12..16].try_into().expect("four bytes"));
    if found != version {
        return Err(SealError::Newer(found));
    }
    if length as usize != body.len() {
        return Err(SealError::Damaged);
    }
    Ok(body)
}

/// What a seal adds: magic, version, length, checksum.
const FRAME_BYTES: usize = 8 + 4 + 4 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &[u8; 8] = b"PNTNTEST";

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_sealed_record_is_noticed() {
        let record = seal(MAGIC, 1, b"body");
        assert_eq!(unseal(MAGIC, 1, &record), Ok(&b"body"[..]));
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(MAGIC, 1, &damaged), Err(SealError::Damaged), "bit {bit}");
        }
        for length in 0..record.len() {
            assert_eq!(unseal(MAGIC, 1, &record[..length]), Err(SealError::Damaged), "length {length}");
        }
    }

    #[test]
    fn a_newer_record_is_told_from_a_damaged_one() {
        assert_eq!(unseal(MAGIC, 1, &seal(MAGIC, 2, b"body")), Err(SealError::Newer(2)));
    }
}

//! Looks through the log's files before raft-engine opens them.
//!
//! raft-engine can cut a damaged tail by itself, but it takes everything after the first damaged byte of its newest file for
//! tail: a flipped bit in the middle of that file would silently drop acknowledged entries. So the engine is opened in its
//! strictest mode, and what may be cut is decided and cut here:
//!
//! - Older files were closed with a sync. Any damage in them is refused.
//! - The newest file of a queue ends at its first invalid batch. That is a **torn tail** (or space allocated ahead, or what a
//!   recycled file held before), unless a later valid batch says by its [`Mark`] that the bytes were durable: then it is
//!   **damage**, and refused. Batches of the rewrite queue carry no mark; there any later valid batch makes it damage.
//!
//! Not noticed: damage to the very last durable batch, if nothing was written after it; it looks like a torn one. (A clean
//! shutdown writes a last mark, so then only the mark itself is exposed.)

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::record::{MARK_GROUP, MARK_KEY, Mark, Place};
use crate::{disk, log::OpenError};

/// Checks all files of the log in `folder`, then cuts torn tails and removes files that a purge left behind. Changes nothing if
/// it refuses.
pub(super) fn check_and_cut(folder: &Path) -> Result<(), OpenError> {
    let (append, rewrite) = (files_of(folder, Queue::Append)?, files_of(folder, Queue::Rewrite)?);
    let mark = newest_mark(&append)?;
    let (mut cuts, mut leftovers) = (Vec::new(), Vec::new());
    for (queue, files, first) in
        [(Queue::Append, append, mark.first_append), (Queue::Rewrite, rewrite, mark.first_rewrite)]
    {
        let (purged, needed) = split_purged(files, first);
        check_complete(folder, queue, first, &needed)?;
        for (position, (number, path)) in needed.iter().enumerate() {
            let newest = position + 1 == needed.len();
            cuts.extend(
                check_file(path, queue, *number, newest)?.map(|keep_bytes| (path.clone(), keep_bytes)),
            );
        }
        leftovers.extend(purged.into_iter().map(|(_, path)| path));
    }
    for (path, keep_bytes) in &cuts {
        cut(path, *keep_bytes).map_err(OpenError::io(path))?;
    }
    for path in &leftovers {
        fs::remove_file(path).map_err(OpenError::io(path))?;
    }
    if !leftovers.is_empty() {
        disk::sync_folder(folder).map_err(OpenError::io(folder))?;
    }
    Ok(())
}

type Files = Vec<(u64, PathBuf)>;

/// The mark of the newest valid batch.
fn newest_mark(append: &Files) -> Result<Mark, OpenError> {
    for (number, path) in append.iter().rev() {
        let bytes = fs::read(path).map_err(OpenError::io(path))?;
        if check_header(&bytes).is_ok() {
            let (mut offset, mut newest) = (HEADER_BYTES, None);
            while let Some(length) = bytes.get(offset..).and_then(|rest| batch_at(rest, *number).ok()) {
                newest = mark_of(&bytes[offset..]).or(newest);
                offset += length;
            }
            if let Some(mark) = newest {
                return Ok(mark);
            }
        }
    }
    Ok(Mark::default())
}

/// Splits off files that had been purged: those before `first`, or before the last gap if that is not known. (The engine keeps
/// some purged files under their old names for recycling, and deletes others.)
fn split_purged(mut files: Files, first: u64) -> (Files, Files) {
    let position = if first > 0 {
        files.partition_point(|(number, _)| *number < first)
    } else {
        files.windows(2).rposition(|pair| pair[1].0 != pair[0].0 + 1).map_or(0, |gap| gap + 1)
    };
    let needed = files.split_off(position);
    (files, needed)
}

/// Whether the files go on from `first`, if it is known, without a gap.
fn check_complete(folder: &Path, queue: Queue, first: u64, files: &Files) -> Result<(), OpenError> {
    let first = if first > 0 { first } else { files.first().map_or(0, |(number, _)| *number) };
    let numbers = files.iter().map(|(number, _)| *number).chain(files.is_empty().then_some(0));
    match (first..=u64::MAX).zip(numbers).find(|(expected, number)| expected != number) {
        Some((missing, _)) => Err(OpenError::Missing { path: folder.join(queue.file_name(missing)) }),
        None => Ok(()),
    }
}

/// raft-engine's two sequences of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    /// What is written, in order.
    Append,
    /// What was still needed of purged append files.
    Rewrite,
}

impl Queue {
    fn file_name(self, number: u64) -> String {
        match self {
            Queue::Append => format!("{number:016}.raftlog"),
            Queue::Rewrite => format!("{number:016}.rewrite"),
        }
    }
}

/// The queue's files in order.
fn files_of(folder: &Path, queue: Queue) -> Result<Files, OpenError> {
    let mut files = Vec::new();
    for file in fs::read_dir(folder).map_err(OpenError::io(folder))? {
        let file = file.map_err(OpenError::io(folder))?;
        let name = file.file_name();
        let number = name.to_str().and_then(|name| name.get(..16)).and_then(|digits| digits.parse().ok());
        if let Some(number) = number.filter(|number| name.to_str() == Some(&queue.file_name(*number))) {
            files.push((number, file.path()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Checks one file. `Some(n)`: its torn tail from byte `n` on must be cut.
fn check_file(path: &Path, queue: Queue, number: u64, newest: bool) -> Result<Option<u64>, OpenError> {
    let bytes = fs::read(path).map_err(OpenError::io(path))?;
    let damaged =
        |offset: usize, reason| OpenError::Damaged { path: path.to_owned(), offset: offset as u64, reason };
    let (valid_bytes, reason) = match check_header(&bytes) {
        Err(HeaderError::Newer(version)) => return Err(OpenError::Newer { path: path.to_owned(), version }),
        Err(HeaderError::Damaged) => (0, "its header is damaged"),
        Ok(()) => match valid_prefix(&bytes, number) {
            (end, None) => {
                assert_eq!(end, bytes.len(), "a file without an invalid batch is valid to its end");
                return Ok(None);
            }
            (end, Some(reason)) => (end, reason),
        },
    };
    if !newest || durable_beyond(&bytes, valid_bytes, queue, number) {
        return Err(damaged(valid_bytes, reason));
    }
    Ok(Some(valid_bytes as u64))
}

/// Cuts a file. One of which nothing remains gets its header anew: the engine would refuse it without, and without the file the
/// next start would miss it, if this one is cut off.
fn cut(path: &Path, keep_bytes: u64) -> io::Result<()> {
    tracing::debug!(file = %path.display(), keep_bytes, "cutting off what a crash left in the log");
    let mut file = File::options().write(true).open(path)?;
    file.set_len(keep_bytes)?;
    if keep_bytes == 0 {
        file.write_all(&header())?;
    }
    file.sync_all()
}

const MAGIC: &[u8] = b"RAFT-LOG-FILE-HEADER-9986AB3E47F320B394C8E84916EB0ED5";
/// Magic, version u64 and alignment u64, big-endian.
pub(super) const HEADER_BYTES: usize = MAGIC.len() + 16;
const VERSION: u64 = 2;

/// What a file begins with.
pub(super) fn header() -> Vec<u8> {
    [MAGIC, &VERSION.to_be_bytes(), &[0; 8]].concat()
}

enum HeaderError {
    Damaged,
    Newer(u64),
}

fn check_header(bytes: &[u8]) -> Result<(), HeaderError> {
    if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
        return Err(HeaderError::Damaged);
    }
    match (u64_be(&bytes[MAGIC.len()..]), u64_be(&bytes[MAGIC.len() + 8..])) {
        (VERSION, 0) => Ok(()),
        (VERSION, _) | (0..VERSION, _) => Err(HeaderError::Damaged),
        (version, _) => Err(HeaderError::Newer(version)),
    }
}

/// How far the file's batches are valid, and what is wrong with the next one, if there is more.
fn valid_prefix(bytes: &[u8], number: u64) -> (usize, Option<&'static str>) {
    let mut offset = HEADER_BYTES;
    while offset < bytes.len() {
        match batch_at(&bytes[offset..], number) {
            Ok(length) => offset += length,
            Err(reason) => return (offset, Some(reason)),
        }
    }
    (offset, None)
}

/// Whether a valid batch after `end` shows that the bytes from `end` on were durable once.
fn durable_beyond(bytes: &[u8], end: usize, queue: Queue, number: u64) -> bool {
    let end_place = Place { file: number, offset: end as u64 };
    (end + 1..bytes.len()).any(|offset| {
        let rest = &bytes[offset..];
        let claims = queue == Queue::Rewrite || mark_of(rest).is_some_and(|mark| mark.durable > end_place);
        claims && batch_at(rest, number).is_ok()
    })
}

pub(super) const BATCH_HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;

/// The parts of a batch: `length u56 | compression u8 | footer offset u64 | entries | crc | items | crc`.
pub(super) struct Batch<'a> {
    pub(super) length: usize,
    entries: &'a [u8],
    pub(super) items: &'a [u8],
}

pub(super) fn parts_at(bytes: &[u8]) -> Option<Batch<'_>> {
    if bytes.len() < BATCH_HEADER_BYTES {
        return None;
    }
    let (length, compression) = (usize::try_from(u64_be(bytes) >> 8).ok()?, bytes[7]);
    let footer = usize::try_from(u64_be(&bytes[8..])).ok()?;
    let fits = BATCH_HEADER_BYTES <= footer && footer < length && length <= bytes.len() && compression <= 1;
    fits.then(|| Batch { length, entries: &bytes[BATCH_HEADER_BYTES..footer], items: &bytes[footer..length] })
}

/// The length of the valid batch that begins here, or what is wrong with it. The file's number signs it, so that what a
/// recycled file held before is not valid.
fn batch_at(bytes: &[u8], number: u64) -> Result<usize, &'static str> {
    let batch = parts_at(bytes).ok_or("a batch's header is damaged")?;
    let signature = number as u32;
    if !checksum_holds(batch.items, signature) {
        return Err("a batch's items do not match their checksum");
    }
    if !batch.entries.is_empty() && !checksum_holds(batch.entries, 0) {
        return Err("a batch's entries do not match their checksum");
    }
    Ok(batch.length)
}

/// Whether the last four bytes are the CRC of the others, by exclusive or with the signature.
fn checksum_holds(bytes: &[u8], signature: u32) -> bool {
    let Some(split) = bytes.len().checked_sub(CHECKSUM_BYTES).filter(|split| *split > 0) else {
        return false;
    };
    let (content, checksum) = bytes.split_at(split);
    (crc32fast::hash(content) ^ signature).to_le_bytes() == checksum
}

/// The mark that a batch of ours begins with.
fn mark_of(bytes: &[u8]) -> Option<Mark> {
    let mut items = parts_at(bytes)?.items;
    let _count = varint(&mut items)?;
    let (kv, put) = (3, 1);
    let head = [MARK_GROUP.0 as u8, kv, put, MARK_KEY.len() as u8];
    let value = items.strip_prefix(&head)?.strip_prefix(MARK_KEY)?.strip_prefix(&[Mark::BYTES as u8])?;
    Mark::from_bytes(value.get(..Mark::BYTES)?)
}

/// A number of seven bits per byte, lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn u64_be(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_needed_file_without_a_header_stays_and_gets_one() {
        let folder = tempfile::tempdir().expect("a folder");
        for queue in [Queue::Append, Queue::Rewrite] {
            for torn in [&b""[..], &MAGIC[..20], &[0; 5000]] {
                let path = folder.path().join(queue.file_name(1));
                fs::write(&path, torn).expect("writable");
                check_and_cut(folder.path()).expect("nothing durable is missing");
                let bytes = fs::read(&path).expect("it is there");
                assert_eq!(bytes, header(), "{queue:?}, {torn:?}");
            }
        }
    }
}

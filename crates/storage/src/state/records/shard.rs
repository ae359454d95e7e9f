//! A part of the table of newest records, and what is in it.

use std::{
    hint::black_box,
    mem,
    sync::{Arc, atomic::AtomicBool},
};

use bytes::Bytes;
use hashbrown::{HashTable, hash_table::Entry as Place};
use lsm_tree::Slice;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Epoch, Record};

/// What an entry takes beside the bytes of its key and record, about: a place in a table that is half full, and an allocation.
pub(in crate::state) const ENTRY_BYTES: usize = 128;

/// How many places a shard can be made to touch at once.
pub(super) const AT_ONCE_MAX: usize = 64;

/// What the processor brings into its cache at once.
const CACHE_LINE_BYTES: usize = 64;

/// Keys of some hashes, and their records.
#[derive(Default)]
pub(super) struct Shard {
    table: HashTable<Entry>,
    /// What the entries take, about.
    bytes: usize,
    /// Where it last looked for what may be forgotten.
    hand: usize,
}

/// What a shard may keep.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// In all.
    pub(super) bytes_max: usize,
    /// What later memtables wrote must stay.
    pub(super) flushed: Epoch,
}

/// A key and its newest record.
pub(super) struct Entry {
    key: Slice,
    pub(super) record: Option<Record>,
    /// The memtable that the record was written to.
    pub(super) epoch: Epoch,
    /// Whether somebody has asked for it since the hand was here.
    pub(super) wanted: AtomicBool,
}

/// A record that is to be written.
pub(super) struct Write {
    pub(super) hash: u64,
    pub(super) key: Slice,
    pub(super) record: Option<Bytes>,
}

/// What a write takes the place of.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::state) enum Replaced {
    /// A record of so many bytes that the same memtable has.
    Own(usize),
    /// What a memtable has that may wait for its flush.
    Sealed(Epoch, Option<Record>),
    /// Nothing, or what is in the tree.
    Flushed,
}

impl Shard {
    /// What is known of a key.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.table.find(hash, |present| *present.key == *key)
    }

    /// Has the processor bring the places of these keys into its cache, with what they hold and will be overwritten: of several at a
    /// time, while an insertion waits for its own.
    pub(super) fn touch(&self, writes: &[Write]) {
        let mut records = [&[][..]; AT_ONCE_MAX];
        for (write, record) in writes.iter().zip(&mut records) {
            let present = self.find(write.hash, &write.key).and_then(|present| present.record.as_deref());
            let present = present.unwrap_or_default();
            let is_overwritten = write.record.as_ref().is_some_and(|record| record.len() == present.len());
            *record = if is_overwritten { present } else { &present[..present.len().min(1)] };
        }
        for record in records {
            for byte in record.iter().step_by(CACHE_LINE_BYTES).chain(record.last()) {
                black_box(*byte);
            }
        }
    }

    /// What it takes the place of.
    pub(super) fn write(&mut self, write: Write, epoch: Epoch, flushed: Epoch, seed: u64) -> Replaced {
        let Write { hash, key, record } = write;
        let record = record.as_deref();
        match self.place(hash, &key, seed) {
            Place::Vacant(place) => {
                let entry = Entry::new(key, record.map(Record::from), epoch);
                let bytes = entry.bytes();
                place.insert(entry);
                self.bytes += bytes;
                Replaced::Flushed
            }
            Place::Occupied(mut place) => {
                let present = place.get_mut();
                let len_before = len(present.record.as_deref());
                let replaced = match mem::replace(&mut present.epoch, epoch) {
                    before if before == epoch => Replaced::Own(len_before),
                    before if before <= flushed => Replaced::Flushed,
                    before => Replaced::Sealed(before, present.record.take()),
                };
                present.set(record);
                self.bytes = self.bytes - len_before + len(record);
                replaced
            }
        }
    }

    /// Adds a key that was not known.
    pub(super) fn learn(&mut self, hash: u64, key: &[u8], record: Option<Record>, seed: u64) {
        if let Place::Vacant(place) = self.place(hash, key, seed) {
            let entry = Entry::new(key.into(), record, Epoch(0));
            let bytes = entry.bytes();
            place.insert(entry);
            self.bytes += bytes;
        }
    }

    fn place(&mut self, hash: u64, key: &[u8], seed: u64) -> Place<'_, Entry> {
        self.table.entry(
            hash,
            |present| *present.key == *key,
            |present| xxh3_64_with_seed(&present.key, seed),
        )
    }

    /// What its entries take, about.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many entries it has room for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// How many places there are to look at.
    pub(super) fn places(&self) -> usize {
        self.table.num_buckets()
    }

    /// Looks at so many places for entries that are in the tree, and forgets them until no more bytes are left than there may be.
    /// False: so it is.
    pub(super) fn forget(&mut self, looks: usize, Bounds { bytes_max, flushed }: Bounds) -> bool {
        for _ in 0..looks {
            if self.bytes <= bytes_max {
                return false;
            }
            self.hand = (self.hand + 1) % self.table.num_buckets();
            let Ok(mut place) = self.table.get_bucket_entry(self.hand) else { continue };
            if place.get().epoch <= flushed && !mem::take(place.get_mut().wanted.get_mut()) {
                let (entry, _) = place.remove();
                self.bytes -= entry.bytes();
            }
        }
        self.bytes > bytes_max
    }

    /// Forgets all that is in the tree.
    pub(super) fn forget_flushed(&mut self, flushed: Epoch) {
        self.table.retain(|entry| entry.epoch > flushed);
        self.bytes = self.table.iter().map(Entry::bytes).sum();
    }

    /// Gives back the room of a table that is nearly empty.
    pub(super) fn shrink(&mut self, seed: u64) {
        if self.table.len() < self.table.capacity() / 4 {
            self.table.shrink_to(2 * self.table.len(), |entry| xxh3_64_with_seed(&entry.key, seed));
        }
    }
}

impl Entry {
    fn new(key: Slice, record: Option<Record>, epoch: Epoch) -> Entry {
        Entry { key, record, epoch, wanted: AtomicBool::new(false) }
    }

    /// Where the present record is, if it is as long and nobody else has it: its memory is in the processor's cache, and new one would
    /// not be.
    fn set(&mut self, record: Option<&[u8]>) {
        match (self.record.as_mut().and_then(Arc::get_mut), record) {
            (Some(present), Some(record)) if present.len() == record.len() => present.copy_from_slice(record),
            _ => self.record = record.map(Record::from),
        }
    }

    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.key.len() + len(self.record.as_deref())
    }
}

/// Of a record, in bytes.
pub(super) fn len(record: Option<&[u8]>) -> usize {
    record.map_or(0, <[u8]>::len)
}

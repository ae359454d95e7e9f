//! Reading a generation: its newest records, and what the tree has beside them.

use bytes::Bytes;
use lsm_tree::{AbstractTree, Guard, SeqNo, Slice};
use pontoon_kv::StoreError;

use super::{Generation, Moment, lock};
use crate::{
    AFTER_DAMAGE,
    state::{
        keys::{self, POSITION_KEY, is_key},
        memtable::Range,
        records::{Pair, Record},
    },
};

/// A longer record that was read is left to the tree and its cache of blocks. Heads of values that are not in chunks, and chunks,
/// are shorter.
const READ_BYTES_MAX: usize = 8 << 10;

/// Takes a key and its value; false: no more.
type Visit<'a> = &'a mut dyn FnMut(Bytes, Bytes) -> bool;

impl Generation {
    /// The value at a key, as of the latest batch. For the writer.
    pub(in crate::state) fn get_latest(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(known) = self.records.get(key) {
            return Ok(known.map(Bytes::from_owner));
        }
        match self.get_flushed(key, self.latest())? {
            Some(record) if record.len() > READ_BYTES_MAX => Ok(Some(into_bytes(record))),
            record => {
                let record = record.map(|record| Record::from(&*record));
                self.records.learn(key, record.clone());
                Ok(record.map(Bytes::from_owner))
            }
        }
    }

    /// The value at a key, as it was at that moment.
    pub(in crate::state) fn get(&self, key: &[u8], moment: &Moment) -> Result<Option<Bytes>, StoreError> {
        match moment.memtables.get(&self.records, key) {
            Some(known) => Ok(known.map(Bytes::from_owner)),
            None => Ok(self.get_flushed(key, moment.seqno)?.map(into_bytes)),
        }
    }

    fn get_flushed(&self, key: &[u8], seqno: SeqNo) -> Result<Option<Slice>, StoreError> {
        if !is_key(key) {
            return Ok(None);
        }
        self.tree.get(key, seqno).map_err(|error| self.read_error(&error))
    }

    /// Visits pairs in key order, as of the latest batch. For the writer.
    pub(in crate::state) fn scan_latest(
        &self,
        from: &[u8],
        to: &[u8],
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        let Some(range) = range(from, to) else { return Ok(()) };
        let newest = lock(&self.memtables).range(&self.records, range);
        self.scan_below(newest.iter(), range, self.latest(), visit)
    }

    /// Visits pairs in key order, as they were at that moment.
    pub(in crate::state) fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        moment: &Moment,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        let Some(range) = range(from, to) else { return Ok(()) };
        self.scan_below(moment.memtables.range(&self.records, range), range, moment.seqno, visit)
    }

    /// Visits what is newest, and what the tree has beside it.
    fn scan_below<'a>(
        &self,
        newest: impl Iterator<Item = &'a Pair>,
        range: Range<'_>,
        seqno: SeqNo,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        let visit_newer = |(key, record): &Pair, visit: Visit<'_>| match record {
            Some(record) => visit(Bytes::copy_from_slice(key), Bytes::from_owner(record.clone())),
            None => true,
        };
        let mut newest = newest.peekable();
        for pair in self.tree.range::<&[u8], _>(range, seqno, None) {
            let (key, value) = pair.into_inner().map_err(|error| self.read_error(&error))?;
            let mut is_old = false;
            while let Some(newer) = newest.next_if(|(newer, _)| *newer <= key) {
                is_old = newer.0 == key;
                if !visit_newer(newer, visit) {
                    return Ok(());
                }
            }
            if !is_old && !visit(into_bytes(key), into_bytes(value)) {
                return Ok(());
            }
        }
        let _all_visited = newest.all(|newer| visit_newer(newer, visit));
        Ok(())
    }

    /// Whether a read error is one of this machine: always. The text names the folder.
    fn read_error(&self, error: &lsm_tree::Error) -> StoreError {
        StoreError(format!("{} is damaged or cannot be read: {error}. {AFTER_DAMAGE}", self.path.display()))
    }
}

/// The range of these keys, if there can be any; `to` empty: no upper bound.
fn range<'a>(from: &'a [u8], to: &'a [u8]) -> Option<Range<'a>> {
    let to = if to.is_empty() { POSITION_KEY } else { to.min(POSITION_KEY) };
    (from < to).then(|| (keys::lower_bound(from), keys::upper_bound(to)))
}

/// Long values are shared with the tree or its caches, short ones copied.
fn into_bytes(slice: Slice) -> Bytes {
    if slice.len() <= 256 { Bytes::copy_from_slice(&slice) } else { Bytes::from_owner(slice) }
}

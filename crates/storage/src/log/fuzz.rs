//! One entry point per parser of the log, for fuzzers and for the mutation tests: any bytes may go in. Each panics if what it
//! says does not hold.

use std::{env, fs, path::PathBuf, process, thread};

use pontoon_kv::{GroupId, Index};

use super::{
    Log, LogOptions,
    record::{
        Mark, entries_to_stored, entry_from_stored, hard_state_from_bytes, hard_state_to_bytes,
        position_from_bytes, position_to_bytes,
    },
    scan::{BATCH_HEADER_BYTES, HEADER_BYTES, check_and_cut, header, parts_at},
};

const GROUP: GroupId = GroupId(1);

/// The log's own records: what decodes encodes to the very bytes it came from.
pub fn log_record(data: &[u8]) {
    if let Some(state) = hard_state_from_bytes(GROUP, data) {
        assert_eq!(hard_state_to_bytes(GROUP, &state), data);
    }
    if let Some(position) = position_from_bytes(GROUP, data) {
        assert_eq!(position_to_bytes(GROUP, position), data);
    }
    if let Some(mark) = Mark::from_bytes(data) {
        assert_eq!(mark.to_bytes(), data);
    }
    let (context, content) = data.split_at(data.len().min(16));
    let stored = raft::eraftpb::Entry {
        index: content.len() as u64,
        data: content.to_vec().into(),
        context: context.to_vec().into(),
        ..Default::default()
    };
    if let Some(entry) = entry_from_stored(GROUP, stored.clone()) {
        assert_eq!(entries_to_stored(GROUP, &[entry]), [stored], "an entry keeps all that is stored of it");
    }
}

/// The bytes as the only file of a log, as they come and with the checksums of all batches set right. The check that comes before
/// the engine refuses them and leaves them as they are, or leaves a front of them or a header, with which it is content. What it leaves
/// can be opened and read, or is refused with a reason.
pub fn log_file(data: &[u8]) {
    let folder = Folder::new();
    check_file(&folder, &sealed(data));
    if !check_file(&folder, data) {
        return;
    }
    // Only as they come: that no damage has a checksum that holds, the engine may trust.
    let Ok(log) = Log::open(&folder.0, LogOptions::for_trim_bytes(None)) else { return };
    for group in log.groups() {
        let Ok(restored) = log.restore(group) else { continue };
        let first = restored.trimmed.0.0 + 1;
        for (index, entry) in (first..).zip(&restored.entries) {
            assert_eq!(entry.index, Index(index), "entries follow one another");
        }
    }
}

/// Whether the file is accepted.
fn check_file(folder: &Folder, data: &[u8]) -> bool {
    let path = folder.0.join(format!("{FILE_NUMBER:016}.raftlog"));
    fs::write(&path, data).expect("a temporary file can be written");
    let file = || fs::read(&path).ok();
    if check_and_cut(&folder.0).is_err() {
        assert_eq!(file().as_deref(), Some(data), "a refusal changes nothing");
        return false;
    }
    let left = file();
    let cut = |left: &Vec<u8>| data.starts_with(left) || *left == header();
    assert!(left.iter().all(cut), "a torn tail is cut, down to a header, nothing else");
    check_and_cut(&folder.0).expect("what was cut is content with itself");
    assert_eq!(file(), left, "a second start finds nothing to cut");
    true
}

const FILE_NUMBER: u32 = 1;

fn sealed(data: &[u8]) -> Vec<u8> {
    fn seal(part: &mut [u8], signature: u32) {
        if let Some((content, checksum)) = part.split_last_chunk_mut() {
            *checksum = (crc32fast::hash(content) ^ signature).to_le_bytes();
        }
    }
    let mut file = data.to_vec();
    let mut start = HEADER_BYTES;
    while let Some(batch) = file.get(start..).and_then(parts_at) {
        let end = start + batch.length;
        let (entries, items) = (start + BATCH_HEADER_BYTES, end - batch.items.len());
        seal(&mut file[entries..items], 0);
        seal(&mut file[items..end], FILE_NUMBER);
        start = end;
    }
    file
}

/// A folder of this thread's, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let name = format!("pontoon-fuzz-{}-{:?}", process::id(), thread::current().id());
        let folder = Folder(env::temp_dir().join(name));
        // What a run that was killed may have left.
        fs::remove_dir_all(&folder.0).ok();
        fs::create_dir(&folder.0).expect("a temporary folder can be made");
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

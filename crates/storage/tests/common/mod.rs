//! Shared by the tests of this crate.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses some of it")]

pub mod server;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use pontoon_kv::{Index, Reader, WriteBatch};
use pontoon_storage::state::{Notice, Notify};

/// A state, as the tests know it to be.
pub type Model = BTreeMap<Bytes, Bytes>;

/// A small generator (xorshift64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed; printed by tests when they fail.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From the clock.
    pub fn seed() -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("the clock is after 1970").as_nanos() as u64
    }

    /// Below the bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    /// Bytes, half of them compressible.
    pub fn bytes(&mut self, length: u64) -> Bytes {
        let start = self.below(256) as u8;
        (0..length)
            .map(|at| if at % 2 == 0 { start.wrapping_add(at as u8) } else { 7 })
            .collect::<Vec<u8>>()
            .into()
    }
}

/// A batch over a small set of keys, so that they are overwritten and deleted again and again.
pub fn random_batch(random: &mut Random, value_bytes_max: u64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for _ in 0..1 + random.below(8) {
        let key = [&[1 + random.below(3) as u8][..], format!("key-{}", random.below(60)).as_bytes()].concat();
        // Few lengths: a record that is as long is overwritten where it is.
        let length = random.below(4) * (value_bytes_max / 4);
        let value = (random.below(4) > 0).then(|| random.bytes(length));
        batch.insert(key.into(), value);
    }
    batch
}

/// What a batch makes of a model.
pub fn apply(model: &mut Model, batch: &WriteBatch) {
    for (key, value) in batch {
        match value {
            Some(value) => model.insert(key.clone(), value.clone()),
            None => model.remove(key),
        };
    }
}

/// All pairs of a reader.
pub fn contents(reader: &impl Reader) -> Model {
    let mut model = Model::new();
    let scanned = reader.scan(&[], &[], &mut |key, value| {
        let after_the_last = model.last_key_value().is_none_or(|(last, _)| *last < key);
        assert!(after_the_last, "keys ascend");
        model.insert(key, value);
        true
    });
    scanned.expect("the state is readable");
    model
}

/// A notify that hands notices to a channel.
pub fn notices() -> (Notify, mpsc::Receiver<Notice>) {
    let (sender, receiver) = mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let notify = move |notice| {
        let _nobody_listens = sender.lock().expect("no panic holds this lock").send(notice);
    };
    (Arc::new(notify), receiver)
}

/// A notify that nobody hears.
pub fn deaf() -> Notify {
    Arc::new(|_notice| {})
}

/// Waits until the state is durable up to this index.
pub fn await_durable(notices: &mpsc::Receiver<Notice>, index: Index) {
    loop {
        match notices.recv_timeout(Duration::from_secs(20)).expect("a notice comes") {
            Notice::Durable(durable) if durable >= index => return,
            Notice::Durable(_) => {}
            Notice::Failed(error) => panic!("{error}"),
        }
    }
}

/// Waits until there is nothing more to wait for.
pub fn await_none(what: impl Fn() -> Option<String>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Some(what) = what() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// All files below a folder, with their contents.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                // A background thread may just have removed it.
                found.extend(fs::read(&path).ok().map(|contents| (path, contents)));
            }
        }
    }
    found
}

/// A copy of a folder as it is now.
pub fn copy(folder: &Path) -> tempfile::TempDir {
    let target = tempfile::tempdir().expect("a folder");
    for (path, contents) in files(folder) {
        let path = target.path().join(path.strip_prefix(folder).expect("below the folder"));
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, contents).expect("the file is copied");
    }
    target
}

/// Flips a bit.
pub fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).expect("the file is readable");
    bytes[offset] ^= 0x10;
    fs::write(path, bytes).expect("the file is writable");
}

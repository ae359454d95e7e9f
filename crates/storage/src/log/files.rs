//! Files for the log that are written full of zeros before they are needed: `fdatasync` of a file that grows also writes its
//! size and its new blocks through the file system's journal, of one that is overwritten only the data.
//!
//! raft-engine recycles purged files, to the same end, but a young log has none. (It can prefill all that it may ever recycle,
//! which takes a start too long, and never the first.)

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use raft_engine::env::{DefaultFileSystem, FileSystem, Permission};

/// What the next file is called before it has its number.
const SPARE: &str = "spare";
/// Zeros are written a page at a time. One large write makes one large folio of the page cache, and Linux counts all of it as
/// written by whoever changes a byte of it (`write_bytes` in `/proc/PID/io`).
const ZEROS: [u8; 4096] = [0; 4096];

/// The file system as raft-engine sees it.
pub(super) struct PreparedFiles {
    folder: PathBuf,
    file_bytes: u64,
    /// Prepares the spare file; done, if there is one.
    preparation: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

impl PreparedFiles {
    /// For files of this size in `folder`, which exists.
    pub(super) fn new(folder: &Path, file_bytes: u64) -> PreparedFiles {
        let files = PreparedFiles { folder: folder.to_owned(), file_bytes, preparation: Mutex::default() };
        files.prepare();
        files
    }

    /// Begins to prepare the next file.
    fn prepare(&self) {
        let (path, bytes) = (self.folder.join(SPARE), self.file_bytes);
        let preparation = thread::Builder::new().name("log-spare".into()).spawn(move || {
            // A part of one would only take space that the log may need.
            write_zeros(&path, bytes).inspect_err(|_| drop(fs::remove_file(&path)))
        });
        *self.preparation.lock().expect("no panic holds this lock") = preparation.ok();
    }

    /// Gives the spare file this path, if there is one.
    fn take_spare(&self, path: &Path) -> io::Result<()> {
        let preparation = self.preparation.lock().expect("no panic holds this lock").take();
        let prepared = preparation.ok_or(io::ErrorKind::NotFound)?.join();
        prepared.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
        fs::rename(self.folder.join(SPARE), path)
    }
}

impl Drop for PreparedFiles {
    fn drop(&mut self) {
        let preparation = self.preparation.get_mut().ok().and_then(Option::take);
        drop(preparation.map(JoinHandle::join));
    }
}

/// Writes the file from its beginning, durably. One that a crash left is overwritten.
fn write_zeros(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).open(path)?;
    let mut left = bytes;
    while left > 0 {
        let now = left.min(ZEROS.len() as u64);
        file.write_all(&ZEROS[..now as usize])?;
        left -= now;
    }
    file.sync_data()
}

impl FileSystem for PreparedFiles {
    type Handle = <DefaultFileSystem as FileSystem>::Handle;
    type Reader = <DefaultFileSystem as FileSystem>::Reader;
    type Writer = <DefaultFileSystem as FileSystem>::Writer;

    /// The spare file if it can be had, else an empty one. (Files of the rewrite queue are few and rarely written.)
    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<Self::Handle> {
        let path = path.as_ref();
        if path.extension().is_none_or(|extension| extension != "raftlog") {
            return DefaultFileSystem.create(path);
        }
        let taken = self.take_spare(path);
        self.prepare();
        match taken {
            Ok(()) => DefaultFileSystem.open(path, Permission::ReadWrite),
            Err(error) => {
                tracing::debug!(%error, "no file of the log is prepared");
                DefaultFileSystem.create(path)
            }
        }
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<Self::Handle> {
        DefaultFileSystem.open(path, permission)
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        DefaultFileSystem.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        DefaultFileSystem.rename(from, to)
    }

    fn new_reader(&self, handle: Arc<Self::Handle>) -> io::Result<Self::Reader> {
        DefaultFileSystem.new_reader(handle)
    }

    fn new_writer(&self, handle: Arc<Self::Handle>) -> io::Result<Self::Writer> {
        DefaultFileSystem.new_writer(handle)
    }
}

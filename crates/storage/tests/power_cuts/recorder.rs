//! Records what this process does to the files below a folder, in order.
//!
//! The functions below have the names of the C library's, and a program's own functions win: whatever raft-engine, lsm-tree and
//! the standard library do to files comes through here. Each asks the kernel itself, under one lock, so that the recorded order
//! is the true one. That nothing went past it is checked at the end: the disk, as recorded, must equal the real folder.

#![expect(unsafe_code, reason = "these functions stand before those of the C library")]

use std::{
    cell::Cell,
    collections::HashMap,
    ffi::{CStr, OsStr, OsString, c_char, c_int, c_long, c_void},
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    sync::{Mutex, PoisonError},
};

use crate::disk::{Disk, Luck, NodeId, ROOT, Step, image_of};

static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);

/// Held while there is a recording.
static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether this thread is in one of the functions below already.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

struct Recorder {
    steps: Vec<Step>,
    names: HashMap<(NodeId, OsString), NodeId>,
    /// By device and inode number.
    inodes: HashMap<(u64, u64), NodeId>,
    nodes: usize,
}

/// Records while `work` runs. Returns the disk as it was before, and the steps.
///
/// # Panics
///
/// If something went past the recorder: the disk, as recorded, is not what is in the folder.
pub fn record<R>(folder: &Path, work: impl FnOnce() -> R) -> (Disk, Vec<Step>, R) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut recorder =
        Recorder { steps: Vec::new(), names: HashMap::new(), inodes: HashMap::new(), nodes: 0 };
    assert_eq!(recorder.add_node(folder), ROOT);
    recorder.take_in(ROOT, folder);
    let before = Disk::after(&std::mem::take(&mut recorder.steps));
    *RECORDER.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorder);
    let result = work();
    let recorder = RECORDER.lock().unwrap_or_else(PoisonError::into_inner).take();
    let steps = recorder.expect("one recording at a time").steps;
    let mut after = before.clone();
    steps.iter().for_each(|step| after.step(step));
    let (recorded, real) = (after.image(&mut Luck::Everything), image_of(folder));
    let missed: Vec<&Path> = recorded
        .iter()
        .chain(&real)
        .filter(|(path, _)| recorded.get(*path) != real.get(*path))
        .map(|(path, _)| path.as_path())
        .collect();
    assert!(missed.is_empty(), "something went past the recorder: {missed:?}");
    (before, steps, result)
}

/// Notes something that the disk does not know of.
pub fn note(step: Step) {
    if let Some(recorder) = RECORDER.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        recorder.steps.push(step);
    }
}

impl Recorder {
    /// Notes what is there already as created and synced.
    fn take_in(&mut self, folder: NodeId, path: &Path) {
        for entry in fs::read_dir(path).expect("the folder is readable") {
            let entry = entry.expect("an entry");
            let is_folder = entry.path().is_dir();
            let node = self.create(folder, &entry.file_name(), &entry.path(), is_folder);
            if is_folder {
                self.take_in(node, &entry.path());
            } else {
                let bytes = fs::read(entry.path()).expect("the file is readable");
                self.steps.push(Step::Write { file: node, offset: 0, bytes });
                self.steps.push(Step::Sync { node });
            }
        }
        self.steps.push(Step::Sync { node: folder });
    }

    fn create(&mut self, folder: NodeId, name: &OsStr, path: &Path, is_folder: bool) -> NodeId {
        let node = self.add_node(path);
        self.names.insert((folder, name.to_owned()), node);
        self.steps.push(Step::Create { folder, name: name.to_owned(), node, is_folder });
        node
    }

    fn add_node(&mut self, path: &Path) -> NodeId {
        let meta = fs::metadata(path).expect("it is there");
        self.inodes.insert((meta.dev(), meta.ino()), self.nodes);
        self.nodes += 1;
        self.nodes - 1
    }

    fn node_at(&self, path: &Path) -> Option<NodeId> {
        let meta = fs::metadata(path).ok()?;
        self.inodes.get(&(meta.dev(), meta.ino())).copied()
    }

    fn node_of(&self, fd: c_int) -> Option<NodeId> {
        self.node_at(Path::new(&format!("/proc/self/fd/{fd}")))
    }

    /// The folder and the name in it; none if the folder is not recorded.
    fn place(&self, folder: c_int, path: &Path) -> Option<(NodeId, OsString)> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = match parent {
            Some(parent) => self.node_at(parent)?,
            None => self.node_of(folder)?,
        };
        Some((folder, path.file_name()?.to_owned()))
    }

    fn opened(&mut self, fd: c_int, folder: c_int, path: &Path, flags: c_int) {
        if flags & libc::O_CREAT != 0
            && let Some(place) = self.place(folder, path)
            && !self.names.contains_key(&place)
        {
            self.create(place.0, &place.1, Path::new(&format!("/proc/self/fd/{fd}")), false);
        } else if flags & libc::O_TRUNC != 0
            && let Some(file) = self.node_of(fd)
        {
            self.steps.push(Step::Resize { file, length: 0 });
        }
    }

    fn wrote(&mut self, fd: c_int, offset: Option<i64>, bytes: &[u8]) {
        let Some(file) = self.node_of(fd) else { return };
        // SAFETY: asks for the file's position.
        let end = || unsafe { libc::syscall(libc::SYS_lseek, fd, 0, libc::SEEK_CUR) };
        let offset = offset.unwrap_or_else(|| end() - bytes.len() as i64) as u64;
        self.steps.push(Step::Write { file, offset, bytes: bytes.to_owned() });
    }

    fn resized(&mut self, fd: c_int) {
        if let Some(file) = self.node_of(fd) {
            let length = fs::metadata(format!("/proc/self/fd/{fd}")).expect("an open file").len();
            self.steps.push(Step::Resize { file, length });
        }
    }

    fn synced(&mut self, fd: c_int) {
        self.steps.extend(self.node_of(fd).map(|node| Step::Sync { node }));
    }

    fn removed(&mut self, folder: c_int, path: &Path) {
        if let Some(place) = self.place(folder, path) {
            self.forget(&place);
            self.steps.push(Step::Remove { folder: place.0, name: place.1 });
        }
    }

    /// The name goes, and its file with it. Its inode number may be given to another one.
    fn forget(&mut self, place: &(NodeId, OsString)) {
        if let Some(gone) = self.names.remove(place) {
            self.inodes.retain(|_, node| *node != gone);
        }
    }

    fn renamed(&mut self, from: &Path, to: &Path) {
        let (from, to) = (self.place(libc::AT_FDCWD, from), self.place(libc::AT_FDCWD, to));
        let (Some(from), Some(to)) = (from, to) else { return };
        assert_eq!(from.0, to.0, "nothing is moved to another folder");
        let node = self.names.remove(&from).expect("what is renamed was there");
        self.forget(&to);
        self.names.insert(to.clone(), node);
        self.steps.push(Step::Rename { folder: from.0, from: from.1, to: to.1 });
    }
}

/// Does a call and notes it, if it succeeds while there is a recording.
fn recorded(call: impl FnOnce() -> c_long, note: impl FnOnce(&mut Recorder, c_int)) -> c_long {
    if WITHIN.get() {
        return call();
    }
    let mut recorder = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(recorder) = recorder.as_mut() else {
        drop(recorder);
        return call();
    };
    WITHIN.set(true);
    let result = call();
    if result >= 0 {
        note(recorder, result as c_int);
    }
    WITHIN.set(false);
    result
}

/// The path that a C string is.
fn path<'a>(string: *const c_char) -> &'a Path {
    // SAFETY: whoever calls one of the functions below hands in a C string.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(string) }.to_bytes()))
}

/// The bytes that were written.
fn slice<'a>(bytes: *const c_void, written: c_int) -> &'a [u8] {
    // SAFETY: whoever calls one of the functions below hands in the bytes, and the kernel has taken so many of them.
    unsafe { std::slice::from_raw_parts(bytes.cast(), written as usize) }
}

/// Defines functions that do one system call each.
macro_rules! calls {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $kind:ty),*) -> $result:ty = $call:expr; $note:expr)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: $kind),*) -> $result {
            // SAFETY: the same call as the C library's function, with the caller's own arguments.
            let result = recorded(|| unsafe { $call }, $note);
            result as $result
        }
    )*};
}

calls! {
    fn open(name: *const c_char, flags: c_int, mode: c_int) -> c_int =
        libc::syscall(libc::SYS_openat, libc::AT_FDCWD, name, flags, mode);
        |recorder, fd| recorder.opened(fd, libc::AT_FDCWD, path(name), flags)
    fn open64(name: *const c_char, flags: c_int, mode: c_int) -> c_int =
        libc::syscall(libc::SYS_openat, libc::AT_FDCWD, name, flags, mode);
        |recorder, fd| recorder.opened(fd, libc::AT_FDCWD, path(name), flags)
    fn openat(folder: c_int, name: *const c_char, flags: c_int, mode: c_int) -> c_int =
        libc::syscall(libc::SYS_openat, folder, name, flags, mode);
        |recorder, fd| recorder.opened(fd, folder, path(name), flags)
    fn openat64(folder: c_int, name: *const c_char, flags: c_int, mode: c_int) -> c_int =
        libc::syscall(libc::SYS_openat, folder, name, flags, mode);
        |recorder, fd| recorder.opened(fd, folder, path(name), flags)
    fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize =
        libc::syscall(libc::SYS_write, fd, bytes, count);
        |recorder, written| recorder.wrote(fd, None, slice(bytes, written))fn pwrite(fd: c_int, bytes: *const c_void, count: usize, offset: i64) -> isize =
        libc::syscall(libc::SYS_pwrite64, fd, bytes, count, offset);
        |recorder, written| recorder.wrote(fd, Some(offset), slice(bytes, written))fn pwrite64(fd: c_int, bytes: *const c_void, count: usize, offset: i64) -> isize =
        libc::syscall(libc::SYS_pwrite64, fd, bytes, count, offset);
        |recorder, written| recorder.wrote(fd, Some(offset), slice(bytes, written))fn ftruncate(fd: c_int, length: i64) -> c_int =
        libc::syscall(libc::SYS_ftruncate, fd, length);
        |recorder, _| recorder.resized(fd)
    fn ftruncate64(fd: c_int, length: i64) -> c_int =
        libc::syscall(libc::SYS_ftruncate, fd, length);
        |recorder, _| recorder.resized(fd)
    fn fallocate(fd: c_int, mode: c_int, offset: i64, length: i64) -> c_int =
        libc::syscall(libc::SYS_fallocate, fd, mode, offset, length);
        |recorder, _| recorder.resized(fd)
    fn fallocate64(fd: c_int, mode: c_int, offset: i64, length: i64) -> c_int =
        libc::syscall(libc::SYS_fallocate, fd, mode, offset, length);
        |recorder, _| recorder.resized(fd)
    fn fsync(fd: c_int) -> c_int =
        libc::syscall(libc::SYS_fsync, fd);
        |recorder, _| recorder.synced(fd)
    fn fdatasync(fd: c_int) -> c_int =
        libc::syscall(libc::SYS_fdatasync, fd);
        |recorder, _| recorder.synced(fd)
    fn rename(from: *const c_char, to: *const c_char) -> c_int =
        libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0);
        |recorder, _| recorder.renamed(path(from), path(to))
    fn mkdir(name: *const c_char, mode: c_int) -> c_int =
        libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, name, mode);
        |recorder, _| {
            if let Some((folder, last)) = recorder.place(libc::AT_FDCWD, path(name)) {
                recorder.create(folder, &last, path(name), true);
            }
        }
    fn unlink(name: *const c_char) -> c_int =
        libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, name, 0);
        |recorder, _| recorder.removed(libc::AT_FDCWD, path(name))
    fn unlinkat(folder: c_int, name: *const c_char, flags: c_int) -> c_int =
        libc::syscall(libc::SYS_unlinkat, folder, name, flags);
        |recorder, _| recorder.removed(folder, path(name))
    fn rmdir(name: *const c_char) -> c_int =
        libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, name, libc::AT_REMOVEDIR);
        |recorder, _| recorder.removed(libc::AT_FDCWD, path(name))
}

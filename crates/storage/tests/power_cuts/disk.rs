//! What a power cut can leave of a folder.
//!
//! Durable is what was synced: an `fsync` or `fdatasync` of a file makes its bytes and its size durable, not its name; an `fsync`
//! of a folder makes its names durable, not what the files behind them hold. Of the rest anything may be left:
//!
//! - Each sector of 512 bytes is as it was after any of the writes since the last sync, and so is the size; where the size is
//!   newer than the bytes, there are zeros. (A sector is written as a whole, so a later write to it brings earlier ones along.)
//! - Each change of a folder's names is there or not, in any combination, except that those of one name keep their order. A
//!   rename is atomic. A name that is there has its file, with as much contents as the file has.
//!
//! No order between files, between folders, or between names and contents is assumed, as POSIX promises none.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::{common::Random, history::Said};

/// A file or folder, by the order of creation.
pub type NodeId = usize;

/// The folder that holds all others.
pub const ROOT: NodeId = 0;

/// A change of the disk, or what was said in between.
#[derive(Debug, Clone)]
pub enum Step {
    Create { folder: NodeId, name: OsString, node: NodeId, is_folder: bool },
    Remove { folder: NodeId, name: OsString },
    Rename { folder: NodeId, from: OsString, to: OsString },
    Write { file: NodeId, offset: u64, bytes: Vec<u8> },
    Resize { file: NodeId, length: u64 },
    Sync { node: NodeId },
    Say(Said),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Write { file, offset, bytes } => {
                write!(f, "write of {} bytes at {offset} of file {file}", bytes.len())
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// A disk with a volatile cache.
#[derive(Clone)]
pub struct Disk {
    nodes: Vec<Node>,
}

#[derive(Clone)]
enum Node {
    File { durable: Vec<u8>, changes: Vec<Change> },
    Folder { durable: Names, changes: Vec<Renaming> },
}

/// A change of a file that was not synced.
#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize { length: usize },
}

type Names = BTreeMap<OsString, NodeId>;

/// What becomes of one name, or of two at once.
type Renaming = Vec<(OsString, Option<NodeId>)>;

/// What a power cut leaves: folders and the contents of files.
pub type Image = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// What is left of all that was not synced.
#[derive(Debug, Clone)]
pub enum Luck {
    Nothing,
    Everything,
    /// All names, and no contents.
    Names,
    /// All contents, and no names.
    Contents,
    Random(Random),
}

const SECTOR_BYTES: usize = 512;
const PAGE_BYTES: usize = 4096;

impl Disk {
    /// The disk after these steps.
    pub fn after(steps: &[Step]) -> Disk {
        let root = Node::Folder { durable: Names::new(), changes: Vec::new() };
        let mut disk = Disk { nodes: vec![root] };
        steps.iter().for_each(|step| disk.step(step));
        disk
    }

    /// Does a step.
    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Create { folder, name, node, is_folder } => {
                assert_eq!(*node, self.nodes.len(), "nodes are numbered");
                self.nodes.push(match is_folder {
                    true => Node::Folder { durable: Names::new(), changes: Vec::new() },
                    false => Node::File { durable: Vec::new(), changes: Vec::new() },
                });
                self.name(*folder, vec![(name.clone(), Some(*node))]);
            }
            Step::Remove { folder, name } => self.name(*folder, vec![(name.clone(), None)]),
            Step::Rename { folder, from, to } => {
                let node = self.names(*folder, &mut Luck::Everything)[from];
                self.name(*folder, vec![(from.clone(), None), (to.clone(), Some(node))]);
            }
            Step::Write { file, offset, bytes } => {
                self.change(*file, Change::Write { offset: *offset as usize, bytes: bytes.clone() });
            }
            Step::Resize { file, length } => {
                self.change(*file, Change::Resize { length: *length as usize });
            }
            Step::Sync { node } => self.sync(*node),
            Step::Say(_) => {}
        }
    }

    fn name(&mut self, folder: NodeId, renaming: Renaming) {
        let Node::Folder { changes, .. } = &mut self.nodes[folder] else { panic!("a file has no names") };
        changes.push(renaming);
    }

    fn change(&mut self, file: NodeId, change: Change) {
        let Node::File { changes, .. } = &mut self.nodes[file] else { panic!("a folder has no bytes") };
        changes.push(change);
    }

    fn sync(&mut self, node: NodeId) {
        match &mut self.nodes[node] {
            Node::File { durable, changes } => {
                *durable = left(durable, changes, &mut Luck::Everything);
                changes.clear();
            }
            Node::Folder { .. } => {
                let names = self.names(node, &mut Luck::Everything);
                self.nodes[node] = Node::Folder { durable: names, changes: Vec::new() };
            }
        }
    }

    /// What a power cut leaves now.
    pub fn image(&self, luck: &mut Luck) -> Image {
        let mut image = Image::new();
        self.add_folder(ROOT, Path::new(""), luck, &mut image);
        image
    }

    fn add_folder(&self, folder: NodeId, path: &Path, luck: &mut Luck, image: &mut Image) {
        for (name, node) in self.names(folder, luck) {
            let path = path.join(name);
            match &self.nodes[node] {
                Node::File { durable, changes } => {
                    image.insert(path, Some(left(durable, changes, luck)));
                }
                Node::Folder { .. } => {
                    image.insert(path.clone(), None);
                    self.add_folder(node, &path, luck, image);
                }
            }
        }
    }

    /// The names that are left in a folder.
    fn names(&self, folder: NodeId, luck: &mut Luck) -> Names {
        let Node::Folder { durable, changes } = &self.nodes[folder] else { panic!("a file has no names") };
        let mut names = durable.clone();
        let kept_in_eight = match luck {
            Luck::Nothing | Luck::Contents => 0,
            Luck::Everything | Luck::Names => 8,
            Luck::Random(random) => [0, 2, 4, 6, 8][random.below(5) as usize],
        };
        let mut lost: Vec<&OsString> = Vec::new();
        for renaming in changes {
            let kept = match luck {
                Luck::Random(random) => random.below(8) < kept_in_eight,
                _ => kept_in_eight == 8,
            };
            if !kept || renaming.iter().any(|(name, _)| lost.contains(&name)) {
                lost.extend(renaming.iter().map(|(name, _)| name));
                continue;
            }
            for (name, node) in renaming {
                match node {
                    Some(node) => names.insert(name.clone(), *node),
                    None => names.remove(name),
                };
            }
        }
        names
    }
}

/// What is left of a file.
fn left(durable: &[u8], changes: &[Change], luck: &mut Luck) -> Vec<u8> {
    let all = changes.len();
    let random = match luck {
        Luck::Nothing | Luck::Names => return compose(durable, changes, 0, |_| 0),
        Luck::Everything | Luck::Contents => return compose(durable, changes, all, |_| all),
        Luck::Random(random) => random,
    };
    let any = |random: &mut Random| random.below(all as u64 + 1) as usize;
    let size = any(random);
    match random.below(6) {
        0 => compose(durable, changes, 0, |_| 0),
        1 => compose(durable, changes, all, |_| all),
        2 => compose(durable, changes, size, |_| size),
        3 => compose(durable, changes, size, |_| any(random)),
        4 => {
            let pages: BTreeMap<usize, usize> =
                (0..longest(durable, changes).div_ceil(PAGE_BYTES)).map(|page| (page, any(random))).collect();
            compose(durable, changes, size, |sector| pages[&(sector * SECTOR_BYTES / PAGE_BYTES)])
        }
        _ => {
            // Torn somewhere within the last write.
            let cut = match changes.last() {
                Some(Change::Write { offset, bytes }) => {
                    offset + random.below(bytes.len() as u64 + 1) as usize
                }
                _ => 0,
            };
            let size = if random.below(2) == 0 { all } else { all.saturating_sub(1) };
            compose(durable, changes, size, |sector| {
                if (sector + 1) * SECTOR_BYTES <= cut { all } else { all.saturating_sub(1) }
            })
        }
    }
}

/// The file whose size is that after so many changes, and each of its sectors as it was after so many.
fn compose(
    durable: &[u8],
    changes: &[Change],
    size_changes: usize,
    sector_changes: impl FnMut(usize) -> usize,
) -> Vec<u8> {
    let mut bytes = durable.to_vec();
    bytes.resize(longest(durable, changes), 0);
    let versions: Vec<usize> = (0..bytes.len().div_ceil(SECTOR_BYTES)).map(sector_changes).collect();
    let (mut size, mut length) = (durable.len(), durable.len());
    // Bytes that were cut off, and the cut is lost: what was written there afterwards has no place.
    let mut placed = usize::MAX;
    for (number, change) in changes.iter().enumerate() {
        match change {
            Change::Write { offset, bytes: written } => {
                let end = (offset + written.len()).min(placed);
                let mut from = *offset;
                while from < end {
                    let sector = from / SECTOR_BYTES;
                    let to = end.min((sector + 1) * SECTOR_BYTES);
                    if versions[sector] > number {
                        bytes[from..to].copy_from_slice(&written[from - offset..to - offset]);
                    }
                    from = to;
                }
                length = length.max(offset + written.len());
            }
            Change::Resize { length: new } => {
                if *new < length && number < size_changes {
                    bytes[*new..].fill(0);
                } else if *new < length {
                    placed = placed.min(*new);
                }
                length = *new;
            }
        }
        if number < size_changes {
            size = length;
        }
    }
    bytes.truncate(size);
    bytes
}

/// The most that the file has ever had.
fn longest(durable: &[u8], changes: &[Change]) -> usize {
    let end = |change: &Change| match change {
        Change::Write { offset, bytes } => offset + bytes.len(),
        Change::Resize { length } => *length,
    };
    changes.iter().map(end).fold(durable.len(), usize::max)
}

/// Makes the image a folder.
pub fn restore(image: &Image, folder: &Path) {
    for (path, contents) in image {
        let path = folder.join(path);
        match contents {
            None => fs::create_dir(path).expect("a folder is made"),
            Some(bytes) => fs::write(path, bytes).expect("a file is written"),
        }
    }
}

/// A folder as it is.
pub fn image_of(folder: &Path) -> Image {
    let mut image = Image::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(path) = folders.pop() {
        for entry in fs::read_dir(&path).expect("the folder is readable") {
            let path = entry.expect("an entry").path();
            let contents = path.is_file().then(|| fs::read(&path).expect("the file is readable"));
            image.insert(path.strip_prefix(folder).expect("below the folder").to_owned(), contents);
            folders.extend(path.is_dir().then_some(path));
        }
    }
    image
}

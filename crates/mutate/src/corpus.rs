//! The inputs that are checked in, `fuzz/corpus/<target>`: examples made by the tests, and what fuzzers found.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// All inputs of a target, in the order of their names. The examples are held against the files that they once became, so that
/// the corpus follows the formats; `PONTOON_WRITE_CORPUS=1` writes them anew.
pub(crate) fn load(target: &str, examples: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let write = std::env::var_os("PONTOON_WRITE_CORPUS").is_some();
    for (number, example) in examples.iter().enumerate() {
        let path = folder.join(format!("example-{number}"));
        if write {
            fs::create_dir_all(&folder).expect("the corpus can be written");
            fs::write(&path, example).expect("the corpus can be written");
        }
        let matches = fs::read(&path).is_ok_and(|stored| stored == *example);
        assert!(
            matches,
            "{} is not the example of today: run this test once with PONTOON_WRITE_CORPUS=1",
            path.display()
        );
    }
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a readable file")).collect()
}

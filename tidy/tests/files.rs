//! The shape of files and the truth of documents.

use pontoon_tidy::{read, root, sources};

#[test]
fn no_file_is_longer_than_500_lines() {
    let long: Vec<_> =
        sources().into_iter().filter(|(_, text)| text.lines().count() > 500).map(|(path, _)| path).collect();
    assert!(long.is_empty(), "one idea a file: {long:?}");
}

#[test]
fn nothing_is_left_unfinished() {
    let marks =
        [concat!("FIX", "ME"), concat!("XX", "X:"), concat!("todo", "!("), concat!("unimplemented", "!(")];
    for (path, text) in sources() {
        for mark in marks {
            assert!(!text.contains(mark), "{} still has {mark}", path.display());
        }
    }
}

#[test]
fn every_function_that_the_architecture_names_exists() {
    let architecture = read("ARCHITECTURE.md");
    let mut named = 0;
    for reference in architecture.split('`').skip(1).step_by(2) {
        // `crates/server/src/driver/core.rs: Core::turn`
        let Some((file, function)) = reference.split_once(": ") else { continue };
        if !file.ends_with(".rs") {
            continue;
        }
        let name = function.rsplit("::").next().unwrap().trim_end_matches("()");
        let text = read(file);
        assert!(
            text.contains(&format!("fn {name}")),
            "ARCHITECTURE.md names {function} in {file}, which has none"
        );
        named += 1;
    }
    assert!(named >= 12, "the ways of a Put and of a Get are named step by step, found {named}");
}

#[test]
fn documents_point_at_files_that_exist() {
    for document in
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/testing.md", "docs/operations.md"]
    {
        for target in read(document).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let folder = root().join(document);
            let path = folder.parent().unwrap().join(target);
            assert!(path.exists(), "{document} points at {target}, which does not exist");
        }
    }
}

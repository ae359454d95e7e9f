//! A crate depends only on lower floors: ARCHITECTURE.md's table against the manifests.

use std::collections::BTreeMap;

use pontoon_tidy::{read, root};

/// crate -> floor, from lines such as ``| 2 | `storage`, `wire` | ... |``.
fn floors() -> BTreeMap<String, u32> {
    let mut floors = BTreeMap::new();
    for line in read("ARCHITECTURE.md").lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, floor, crates, ..] = cells[..] else { continue };
        let Ok(floor) = floor.parse() else { continue };
        for name in crates.split('`').skip(1).step_by(2) {
            floors.insert(name.to_string(), floor);
        }
    }
    floors
}

#[test]
fn crates_depend_only_on_lower_floors() {
    let floors = floors();
    assert!(floors.len() >= 8, "the floor table is found: {floors:?}");
    for folder in std::fs::read_dir(root().join("crates")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        let manifest: toml::Table = read(format!("crates/{name}/Cargo.toml")).parse().unwrap();
        let floor =
            *floors.get(&name).unwrap_or_else(|| panic!("crate {name} has no floor in ARCHITECTURE.md"));
        let dependencies =
            manifest.get("dependencies").and_then(|table| table.as_table()).cloned().unwrap_or_default();
        for below in dependencies.keys().filter_map(|key| key.strip_prefix("pontoon-")) {
            assert!(
                floors[below] < floor,
                "{name} (floor {floor}) depends on {below} (floor {})",
                floors[below]
            );
        }
    }
}

#[test]
fn only_replica_and_storage_know_raft_rs_and_its_protobuf() {
    for folder in std::fs::read_dir(root().join("crates")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        let manifest: toml::Table = read(format!("crates/{name}/Cargo.toml")).parse().unwrap();
        let dependencies =
            manifest.get("dependencies").and_then(|table| table.as_table()).cloned().unwrap_or_default();
        let knows = |what: &str| dependencies.contains_key(what);
        // The log stores raft-rs's own entry record; nothing else of it is used there.
        assert!(
            !knows("raft") || ["replica", "storage"].contains(&name.as_str()),
            "{name} must not know raft-rs"
        );
        assert!(!knows("protobuf") || name == "storage", "{name} must not know protobuf");
    }
}

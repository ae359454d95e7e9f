//! The `pontoon` binary that is put to the test: the one of this build, brought up to date by cargo.

use std::{env, path::PathBuf, process::Command};

/// Finds `pontoon` in the target folder that this program is in. Under cargo (`cargo run`, `cargo test`) cargo builds it first, which
/// is quick if it is up to date; otherwise it must be there.
///
/// # Errors
///
/// What to do.
pub fn find() -> Result<PathBuf, String> {
    let program =
        env::current_exe().map_err(|error| format!("this program does not know where it is: {error}"))?;
    // target/debug/pontoon-sim, or target/debug/deps/some_test-0123.
    let folder = program
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .ok_or("this program is in no target folder: name the binary with --pontoon PATH")?;
    if let Some(cargo) = env::var_os("CARGO") {
        let profile = if folder.ends_with("release") { "release" } else { "dev" };
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--profile", profile, "--package", "pontoon-cli"])
            .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/Cargo.toml")])
            .arg("--target-dir")
            .arg(folder.parent().expect("a profile's folder is in the target folder"))
            .status()
            .map_err(|error| format!("cargo cannot be started: {error}"))?;
        if !built.success() {
            return Err("pontoon cannot be built: cargo says why above".to_string());
        }
    }
    let binary = folder.join("pontoon");
    match binary.exists() {
        true => Ok(binary),
        false => Err(format!(
            "there is no {}: run `cargo build --package pontoon-cli`, or name it with --pontoon PATH",
            binary.display()
        )),
    }
}

//! libFuzzer's side: one binary for all targets; `WHARF_FUZZ_TARGET` names the one to feed.
//!
//! With `WHARF_FUZZ_SEEDS` set to a directory, the target's seeds are written there before libFuzzer
//! reads its corpus. Nothing is decided here: what a target does is in the library beside it.

#![no_main]

use std::env;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use wharf_fuzz::{FOUND, TARGETS, Target};

static TARGET: OnceLock<&Target> = OnceLock::new();

fn choose() {
    let name = env::var("WHARF_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|target| target.name == name);
    let target = found.expect("WHARF_FUZZ_TARGET names a target");
    if let Ok(folder) = env::var("WHARF_FUZZ_SEEDS") {
        write_seeds(target, Path::new(&folder)).expect("the folder for the seeds can be written");
    }
    TARGET.get_or_init(|| target);
}

fn write_seeds(target: &Target, folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let found = FOUND.iter().filter(|(name, _)| *name == target.name);
    let found = found.map(|(_, input)| input.to_vec());
    for (index, seed) in (target.seeds)().into_iter().chain(found).enumerate() {
        fs::write(folder.join(format!("seed-{index:04}")), seed)?;
    }
    Ok(())
}

libfuzzer_sys::fuzz_target!(init: choose(), |data: &[u8]| {
    let target = TARGET.get().expect("libFuzzer initialises before it feeds");
    (target.run)(data);
});

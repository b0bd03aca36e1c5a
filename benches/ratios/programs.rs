//! The programs that the bench measures.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Both are measured, because glibc asks the processor what it is (CPUID), dozens of times at each start. In a virtual
/// machine each CPUID leaves the guest. musl does not ask.
pub(crate) const STATICS: [&str; 2] = ["static (glibc)", "static (musl)"];

pub(crate) struct Programs {
    pub(crate) dynamic: PathBuf,
    pub(crate) static_glibc: Option<PathBuf>,
    pub(crate) static_musl: Option<PathBuf>,
    pub(crate) floor: Option<PathBuf>,
    pub(crate) floor_set: Option<PathBuf>,
    pub(crate) sponge: Option<PathBuf>,
    pub(crate) flock: Option<PathBuf>,
}

impl Programs {
    pub(crate) fn find(work: &Path) -> Programs {
        let given = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Programs {
            dynamic: env!("CARGO_BIN_EXE_awrite").into(),
            static_glibc: given("AWRITE_BENCH_STATIC").or_else(|| build_static(work)),
            static_musl: given("AWRITE_BENCH_MUSL"),
            floor: build_floor(work, "floor"),
            floor_set: build_floor(work, "floor_set"),
            sponge: find("sponge"),
            flock: find("flock"),
        }
    }

    /// The static programs that exist, by name.
    pub(crate) fn statics(&self) -> Vec<(&'static str, &Path)> {
        let all = [self.static_glibc.as_deref(), self.static_musl.as_deref()];
        STATICS.into_iter().zip(all).filter_map(|(name, program)| Some((name, program?))).collect()
    }

    /// The program to measure where one is enough: the static one with glibc, if there is one.
    pub(crate) fn awrite(&self) -> &Path {
        self.static_glibc.as_ref().unwrap_or(&self.dynamic)
    }
}

/// A program in PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("{name} is not installed: left out");
    }
    found
}

fn build_floor(work: &Path, name: &str) -> Option<PathBuf> {
    let output = work.join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(name).with_extension("c");
    let done = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&output).arg(source).status();
    if done.is_ok_and(|status| status.success()) {
        return Some(output);
    }
    println!("no C compiler with a static libc: the {name} is left out");
    None
}

fn build_static(work: &Path) -> Option<PathBuf> {
    let rustc = Command::new("rustc").arg("-vV").output().ok()?;
    let text = String::from_utf8(rustc.stdout).ok()?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "))?;
    let target_dir = work.join("static");
    // `--target` keeps the flag from build scripts and proc macros, which cannot be static.
    let done = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--release", "--bin", "awrite", "--target", host, "--target-dir"])
        .arg(&target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static")
        .status();
    if done.is_ok_and(|status| status.success()) {
        return Some(target_dir.join(host).join("release/awrite"));
    }
    println!("no static build: left out");
    None
}

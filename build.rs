//! Compiles the seccomp policy, so that starting a sandbox compiles nothing, and has the static program's relocations
//! packed.

#[path = "src/sandbox/seccomp/compile.rs"]
mod compile;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/sandbox/seccomp");
    let variable = |name: &str| std::env::var_os(name).expect("cargo sets it for build scripts");
    let arch = variable("CARGO_CFG_TARGET_ARCH");
    let compiled = arch.to_string_lossy().parse().and_then(|arch| {
        let policy = "src/sandbox/seccomp/policy.toml";
        compile::filters_for_build(policy.as_ref(), variable("OUT_DIR").as_ref(), arch)
    });
    if let Err(error) = compiled {
        let source =
            std::error::Error::source(&error).map(|e| format!(": {e}")).unwrap_or_default();
        panic!("{error}{source}");
    }
    let is = |name: &str, wanted: &str| std::env::var(name).is_ok_and(|value| value == wanted);
    if is("CARGO_CFG_TARGET_ENV", "musl") && unpacks_relocations() {
        // Twenty thousand places of half a megabyte are read, at each start, from 25 KiB.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether the C library that this compiler brings for musl, 1.2.5 since Rust 1.93, reads packed relocations. An older
/// one would start the program without any.
fn unpacks_relocations() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = std::process::Command::new(rustc).arg("--version").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    said.ok()
        .and_then(|said| said.split([' ', '.']).nth(2)?.parse::<u32>().ok())
        .is_some_and(|minor| minor >= 93)
}

//! Compiles the seccomp policy, so that starting a sandbox compiles nothing.

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
}

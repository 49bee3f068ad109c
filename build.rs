//! Compiles the seccomp policy, so that starting a sandbox compiles nothing.

#[path = "src/sandbox/seccomp/compile.rs"]
mod compile;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/sandbox/seccomp");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    if let Err(error) = compile::filters_for_build(
        "src/sandbox/seccomp/policy.toml".as_ref(),
        out.as_ref(),
        compile::Arch::X86_64,
    ) {
        panic!("cannot compile src/sandbox/seccomp/policy.toml: {error}");
    }
}

//! Hands over to the command line.

/// See `Cargo.toml`.
#[global_allocator]
static MEMORY: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    kennel::cli::main()
}

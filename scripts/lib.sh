# Sourced by run, test and bench: what they need of the machine, installed by Debian package name where it is missing.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
export DEBIAN_FRONTEND=noninteractive

say() { printf '\n== %s\n' "$*"; }

# want COMMAND PACKAGE…: notes the packages when the command is not there.
missing=()
want() {
  local command=$1
  shift
  command -v "$command" >/dev/null || missing+=("$@")
}

# Installs what was noted, asking nothing. A package that cannot be had is named; what needs it says so later.
install_missing() {
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]} (Debian packages; install them and run this again)" >&2
    return 0
  fi
  say "installing ${missing[*]}"
  apt-get update -qq || true
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || {
    local package
    for package in "${missing[@]}"; do
      apt-get install -y -qq --no-install-recommends "$package" >/dev/null || echo "cannot install $package" >&2
    done
  }
}

want_rust() {
  command -v cargo >/dev/null && return
  echo "a Rust toolchain (cargo 1.89 or newer) is needed: https://rustup.rs" >&2
  exit 1
}

# Builds kennel for release and sets `kennel`. A static binary where Rust's musl target is there or can be had: it starts
# in a third of the time, which counts for a program that is started for each run.
build_kennel() {
  local target
  target=$(uname -m)-unknown-linux-musl
  if rustc --print target-libdir --target "$target" 2>/dev/null | xargs -r test -d ||
    { command -v rustup >/dev/null && rustup -q target add "$target" >/dev/null 2>&1; }; then
    cargo build --release --locked --target "$target" || return
    kennel=$root/target/$target/release/kennel
  else
    cargo build --release --locked || return
    kennel=$root/target/release/kennel
  fi
  mkdir -p out
  ln -sfn "$kennel" out/kennel
}

# Builds the bootstraps that are compiled. One that cannot be built is named, and the others go on.
build_runtimes() {
  local build
  for build in runtimes/*/build; do
    "$build" || echo "$build: not built; its language is missing" >&2
  done
}

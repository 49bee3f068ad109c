//! The root filesystem of a sandbox: read-only pieces of the host on a small tmpfs, and the pivot into it.

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags};
use nix::sys::stat::{Mode, SFlag};

use super::spec::{Mount, Source};
use super::{ATTACHABLE, INSIDE_GID, INSIDE_UID, LAYERS, RUN_FOLDER};
use crate::sys::mount::{self, MountAttr};

/// Top folders that are the system's programs and libraries.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// What programs need of the host's configuration; nothing in it is secret or names the host.
const ETC: [&str; 5] = ["ld.so.cache", "ld.so.conf.d", "alternatives", "ssl", "localtime"];
/// Device nodes: name, major, minor. Source: the kernel's `admin-guide/devices.txt`.
const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
/// Files and folders of `/proc` that tell of the whole machine: what runc masks, and what says more of the host than
/// of the sandbox. What only root may read is root's here too, and root does not exist inside.
const PROC_MASKED_FILES: [&str; 10] = [
    "kcore",
    "keys",
    "key-users",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "latency_stats",
    "kallsyms",
    "config.gz",
    "cmdline",
];
const PROC_MASKED_FOLDERS: [&str; 4] = ["acpi", "asound", "scsi", "bus"];
/// What they are covered with.
const EMPTY_FILE: &str = "run/kennel/.empty-file";
const EMPTY_FOLDER: &str = "run/kennel/.empty";

/// A step of construction that failed, on what.
#[derive(Debug)]
pub struct Failed {
    pub what: String,
    pub source: io::Error,
}

fn on<T>(what: impl FnOnce() -> String, result: io::Result<T>) -> Result<T, Failed> {
    result.map_err(|source| Failed { what: what(), source })
}

fn c(path: &Path) -> CString {
    // Paths come from C APIs or were checked for NUL by the spec; an empty path then fails by name.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

const READ_ONLY: MountAttr = MountAttr::RDONLY.and(MountAttr::NOSUID).and(MountAttr::NODEV);

/// How `/dev` gets its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceNodes {
    /// By mknod(2), as real root.
    Make,
    /// By binding the host's: inside a user namespace nobody may make them.
    Bind,
}

/// What goes on `/tmp`.
#[derive(Debug)]
pub enum Tmp<'a> {
    /// A filesystem that is made meanwhile, and sent.
    Sent(&'a OwnedFd),
    /// A tmpfs of so many MiB, charged to the sandbox's memory.
    Tmpfs(u32),
}

/// What the caller wants to see beneath `/tmp`: it can only be attached once `/tmp` is there.
pub struct InTmp(Vec<Piece>);

/// A tree that was copied from the host, not yet attached.
struct Piece {
    tree: OwnedFd,
    target: PathBuf,
    is_folder: bool,
}

/// Builds the root beneath the current one and moves into it. Afterwards nothing of the host's tree can be reached.
///
/// Runs in the sandbox's own mount namespace. The order: copy every wanted tree of the host (so that the new root can
/// be laid over any folder), make the new root, attach, seal, pivot.
pub fn build(
    mounts: &[Mount],
    ahead: bool,
    nodes: DeviceNodes,
    host_network: bool,
) -> Result<InTmp, Failed> {
    // Nothing that is mounted here goes back to the host; nothing of the host's later mounts comes in.
    on(
        || "/ as private".into(),
        nix::mount::mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .map_err(io::Error::from),
    )?;
    let mut links = Vec::new();
    let mut pieces = Vec::new();
    for path in SYSTEM.map(Path::new) {
        match fs::symlink_metadata(path) {
            Ok(m) if m.is_symlink() => {
                links.push((on(|| path.display().to_string(), fs::read_link(path))?, path))
            }
            Ok(m) if m.is_dir() => pieces.push(piece(path, path)?),
            _ => {}
        }
    }
    for path in ETC.map(|name| Path::new("/etc").join(name)) {
        match piece(&path, &path) {
            Err(Failed { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => pieces.push(other?),
        }
    }
    if host_network {
        pieces.push(piece(Path::new("/etc/resolv.conf"), Path::new("/etc/resolv.conf"))?);
        pieces.push(piece(Path::new("/etc/hosts"), Path::new("/etc/hosts"))?);
    }
    for wanted in mounts {
        pieces.push(copied(wanted)?);
    }
    let device_nodes = match nodes {
        DeviceNodes::Make => Vec::new(),
        DeviceNodes::Bind => DEVICES
            .iter()
            .map(|(name, ..)| {
                let path = Path::new("/dev").join(name);
                let tree = mount::open_tree(&c(&path), false);
                Ok((*name, on(|| path.display().to_string(), tree)?))
            })
            .collect::<Result<_, Failed>>()?,
    };

    // The new root lies over the host's /tmp until the pivot: a folder that every host has.
    let root = Path::new("/tmp");
    let options = [(c"size", Some(c"1m")), (c"mode", Some(c"0755"))];
    let tree = mount::new_filesystem(c"tmpfs", &options, MountAttr::NOSUID.and(MountAttr::NODEV));
    let tree = on(|| "tmpfs for the root".into(), tree)?;
    on(|| "the root".into(), mount::attach(tree.as_fd(), c"/tmp"))?;
    on(|| "/tmp".into(), std::env::set_current_dir(root))?;
    for (target, link) in links {
        on(|| link.display().to_string(), symlink(target, relative(link)))?;
    }
    for folder in ["proc", "dev", "tmp", "etc", "run", "var"] {
        on(|| folder.into(), fs::create_dir(folder))?;
    }
    let run = relative(Path::new(RUN_FOLDER));
    on(|| RUN_FOLDER.into(), fs::create_dir(run))?;
    on(|| EMPTY_FOLDER.into(), fs::create_dir(EMPTY_FOLDER))?;
    on(|| EMPTY_FILE.into(), fs::File::create(EMPTY_FILE))?;
    write_etc(host_network)?;
    if ahead {
        for folder in ATTACHABLE {
            // With the folder of libraries: ld.so(8) looks for those of LD_LIBRARY_PATH as a process starts, and never
            // again for one that was not there.
            let libraries = relative(Path::new(folder)).join("lib");
            on(|| libraries.display().to_string(), fs::create_dir_all(&libraries))?;
        }
    }
    // Layers are beneath /var, as code is: Landlock can only allow what is attached later by a folder above it.
    if ahead || mounts.iter().any(|m| m.target == Path::new(LAYERS)) {
        on(|| "/opt".into(), symlink(relative(Path::new(LAYERS)), "opt"))?;
    }
    let (in_tmp, pieces): (Vec<Piece>, Vec<Piece>) =
        pieces.into_iter().partition(|p| p.target.starts_with("/tmp"));
    for piece in &pieces {
        attach(piece)?;
    }
    devices(nodes, &device_nodes)?;
    mount_proc()?;
    on(|| "pivot_root".into(), nix::unistd::pivot_root(".", ".").map_err(io::Error::from))?;
    // The old root now lies over the new one at "/": away with it.
    on(
        || "the old root".into(),
        nix::mount::umount2(".", MntFlags::MNT_DETACH).map_err(io::Error::from),
    )?;
    on(|| "/".into(), std::env::set_current_dir("/"))?;
    Ok(InTmp(in_tmp))
}

/// Makes the root itself read-only: the last step, after sockets were bound in it.
pub fn seal() -> Result<(), Failed> {
    on(
        || "/ as read-only".into(),
        nix::mount::mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REMOUNT
                | MsFlags::MS_BIND
                | MsFlags::MS_RDONLY
                | MsFlags::MS_NOSUID
                | MsFlags::MS_NODEV,
            None::<&str>,
        )
        .map_err(io::Error::from),
    )
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn piece(source: &Path, target: &Path) -> Result<Piece, Failed> {
    let on_source = || source.display().to_string();
    let is_folder = on(on_source, fs::metadata(source))?.is_dir();
    // Not recursive: what else is mounted below a folder of the host is not asked for.
    let tree = on(on_source, mount::open_tree(&c(source), false))?;
    on(on_source, mount::set_attributes(tree.as_fd(), READ_ONLY, false))?;
    Ok(Piece { tree, target: target.into(), is_folder })
}

/// Attaches trees to a live sandbox that was made ahead. The calling process must be single-threaded.
///
/// The trees are copied in the caller's mount namespace, and attached from within the sandbox's, which the process enters
/// for that moment alone. What is there is a read-only root that nobody inside can change, so the targets are what they
/// seem.
pub fn attach_later(pidfd: BorrowedFd<'_>, mounts: &[Mount]) -> Result<(), Failed> {
    let pieces: Vec<Piece> = mounts.iter().map(copied).collect::<Result<_, _>>()?;
    let own = on(|| "/proc/self/ns/mnt".into(), fs::File::open("/proc/self/ns/mnt"))?;
    // setns(2) moves the working directory to the namespace's root, and paths of runtimes may be relative.
    let folder = on(|| "the working directory".into(), fs::File::open("."))?;
    let enter = |fd: BorrowedFd<'_>| {
        nix::sched::setns(fd, nix::sched::CloneFlags::CLONE_NEWNS).map_err(io::Error::from)
    };
    on(|| "the sandbox's mount namespace".into(), enter(pidfd))?;
    let attached = pieces.iter().try_for_each(|piece| {
        let target = || piece.target.display().to_string();
        on(target, mount::attach(piece.tree.as_fd(), &c(&piece.target)))
    });
    if enter(own.as_fd()).is_err() || nix::unistd::fchdir(&folder).is_err() {
        // A launcher that cannot come home must not go on as if it had.
        crate::sys::process::exit_now(1);
    }
    attached
}

/// Copies a wanted tree of the host.
fn copied(wanted: &Mount) -> Result<Piece, Failed> {
    match &wanted.source {
        Source::Bind(source) => piece(source, &wanted.target),
        Source::Tree(source) => {
            let folder = open_folder(source)?;
            piece(Path::new(&fd_path(&folder)), &wanted.target)
        }
        Source::Overlay(layers) => overlay(layers, &wanted.target),
    }
}

/// Opens a folder without following a symbolic link anywhere in its path.
fn open_folder(path: &Path) -> Result<OwnedFd, Failed> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    let opened = openat2(nix::fcntl::AT_FDCWD, path, how).map_err(io::Error::from);
    on(|| path.display().to_string(), opened)
}

/// A path for an open descriptor, where a call takes paths alone.
fn fd_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn overlay(layers: &[PathBuf], target: &Path) -> Result<Piece, Failed> {
    let on_target = || target.display().to_string();
    let layers = layers.iter().map(|l| open_folder(l)).collect::<Result<Vec<_>, _>>()?;
    // By descriptor: fsconfig(2) takes at most 255 bytes, and `:` in a path would need escaping. The first is on top.
    let lower: Vec<String> = layers.iter().rev().map(fd_path).collect();
    let lower = CString::new(lower.join(":")).unwrap_or_default();
    let options: [(&CStr, Option<&CStr>); 1] = [(c"lowerdir", Some(&lower))];
    let tree = on(on_target, mount::new_filesystem(c"overlay", &options, READ_ONLY))?;
    Ok(Piece { tree, target: target.into(), is_folder: true })
}

fn attach(piece: &Piece) -> Result<(), Failed> {
    let target = relative(&piece.target);
    let on_target = || piece.target.display().to_string();
    if piece.is_folder {
        on(on_target, fs::create_dir_all(target))?;
    } else {
        let created = fs::File::create(target).or_else(|error| match target.parent() {
            Some(parent) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(parent)?;
                fs::File::create(target)
            }
            _ => Err(error),
        });
        on(on_target, created)?;
    }
    on(on_target, mount::attach(piece.tree.as_fd(), &c(target)))
}

fn write_etc(host_network: bool) -> Result<(), Failed> {
    let files = [
        (
            "etc/passwd",
            format!(
                "root:x:0:0:root:/root:/sbin/nologin\nsbx_user1051:x:{INSIDE_UID}:{INSIDE_GID}::/tmp:/sbin/nologin\n"
            ),
        ),
        ("etc/group", format!("root:x:0:\nsbx_user1051:x:{INSIDE_GID}:\n")),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".into()),
        ("etc/hostname", format!("{}\n", super::HOSTNAME)),
        ("etc/hosts", format!("127.0.0.1 localhost {}\n::1 localhost\n", super::HOSTNAME)),
        ("etc/resolv.conf", String::new()),
    ];
    for (path, text) in files {
        if host_network && (path.ends_with("hosts") || path.ends_with("resolv.conf")) {
            continue;
        }
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
        on(|| path.into(), file.and_then(|mut f| f.write_all(text.as_bytes())))?;
    }
    Ok(())
}

fn devices(nodes: DeviceNodes, bound: &[(&str, OwnedFd)]) -> Result<(), Failed> {
    let options = [(c"size", Some(c"64k")), (c"mode", Some(c"0755"))];
    let attributes = MountAttr::NOSUID.and(MountAttr::NOEXEC);
    let tree = on(|| "/dev".into(), mount::new_filesystem(c"tmpfs", &options, attributes))?;
    on(|| "/dev".into(), mount::attach(tree.as_fd(), c"dev"))?;
    match nodes {
        DeviceNodes::Make => {
            // mknod's mode is cut by the umask.
            let umask = nix::sys::stat::umask(Mode::empty());
            for (name, major, minor) in DEVICES {
                let path = Path::new("dev").join(name);
                let made = nix::sys::stat::mknod(
                    &path,
                    SFlag::S_IFCHR,
                    Mode::from_bits_truncate(0o666),
                    nix::sys::stat::makedev(major, minor),
                );
                on(|| path.display().to_string(), made.map_err(io::Error::from))?;
            }
            nix::sys::stat::umask(umask);
        }
        DeviceNodes::Bind => {
            for (name, tree) in bound {
                let path = Path::new("dev").join(name);
                on(|| path.display().to_string(), fs::File::create(&path))?;
                on(|| path.display().to_string(), mount::attach(tree.as_fd(), &c(&path)))?;
            }
        }
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        on(|| format!("/dev/{name}"), symlink(target, Path::new("dev").join(name)))?;
    }
    on(|| "/dev as read-only".into(), mount::set_attributes(tree.as_fd(), MountAttr::RDONLY, false))
}

/// `/proc` of the new pid namespace: read-only, other users' processes invisible, machine-wide files covered.
fn mount_proc() -> Result<(), Failed> {
    let options = [(c"hidepid", Some(c"invisible"))];
    let attributes = READ_ONLY.and(MountAttr::NOEXEC);
    let tree = on(|| "/proc".into(), mount::new_filesystem(c"proc", &options, attributes))?;
    on(|| "/proc".into(), mount::attach(tree.as_fd(), c"proc"))?;
    cover(&PROC_MASKED_FILES, EMPTY_FILE)?;
    cover(&PROC_MASKED_FOLDERS, EMPTY_FOLDER)
}

/// Covers those of `names` that `/proc` has, with what is at `with`.
fn cover(names: &[&str], with: &str) -> Result<(), Failed> {
    let empty = mount::open_tree(&c(Path::new(with)), false)
        .and_then(|tree| mount::set_attributes(tree.as_fd(), READ_ONLY, false).map(|()| tree));
    let empty = on(|| with.into(), empty)?;
    let mut first: Option<CString> = None;
    for name in names {
        let target = c(&Path::new("proc").join(name));
        let covered = match &first {
            None => mount::attach(empty.as_fd(), &target),
            // With the attributes of the first, in one call.
            Some(first) => mount::bind(first, &target),
        };
        match covered {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => {
                on(|| format!("/proc/{name}"), other)?;
                first.get_or_insert(target);
            }
        }
    }
    Ok(())
}

/// Attaches `/tmp` in the new root. The last step that needs privilege, since the filesystem is made meanwhile.
pub fn mount_tmp(tmp: &Tmp<'_>, inside: &InTmp) -> Result<(), Failed> {
    let tree = match tmp {
        Tmp::Sent(launcher) => super::makers::receive(launcher.as_fd()),
        Tmp::Tmpfs(mib) => {
            let size = CString::new(format!("{mib}m")).unwrap_or_default();
            let options = [(c"size", Some(size.as_c_str())), (c"mode", Some(c"0700"))];
            mount::new_filesystem(c"tmpfs", &options, MountAttr::NOSUID.and(MountAttr::NODEV))
        }
    };
    on(|| "/tmp".into(), tree.and_then(|tree| mount::attach(tree.as_fd(), c"/tmp")))?;
    inside.0.iter().try_for_each(attach)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_behind_a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("real/tree")).unwrap();
        symlink("real", base.join("link")).unwrap();
        symlink("tree", base.join("real/last")).unwrap();
        assert!(open_folder(&base.join("real/tree")).is_ok());
        for path in ["link/tree", "real/last"] {
            let Failed { source, .. } = open_folder(&base.join(path)).unwrap_err();
            assert_eq!(source.raw_os_error(), Some(libc::ELOOP), "{path}");
        }
    }
}

//! A sandbox's control groups: where they are, their limits, what they used.
//!
//! Written on plain files rather than on cgroups-rs: that crate writes `subtree_control` from the very root, so it
//! is of no use inside a delegated tree, takes a hybrid host for a v1 one, and sets neither `memory.swap.max` nor
//! reads oom counters of both versions. What is needed is a dozen files; they are named in `v1.rs` and `v2.rs`.
//!
//! Three kinds of host. *v2*: one tree with every controller. *v1*: one tree a controller. *Hybrid*: controllers in
//! v1 trees, and an empty v2 tree beside them, whose `cgroup.kill`, `cgroup.freeze`, `cpu.stat` and
//! `CLONE_INTO_CGROUP` work all the same: limits go by v1 and the rest by v2.
//!
//! In v1 trees every group lies beneath the group that Kennel itself runs in, so a limit on Kennel is one on all its
//! sandboxes. In v2 a group with processes cannot hand controllers down: there it is the nearest group above that can
//! (`v2::find_base`), or Kennel's own, after Kennel moved to a leaf of it.

mod v1;
mod v2;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::spec::{Degradable, Limits, MemoryMib, MilliCpu};

/// Period of the CPU quota. Short, so that a throttled function waits at most this long for its next share.
const CPU_PERIOD_US: u64 = 20_000;
/// The kernel's smallest quota.
const MIN_QUOTA_US: u64 = 1000;

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Reading `/proc/self/cgroup` or `/proc/self/mountinfo`.
    #[error("cannot read `{file}`")]
    Read { file: PathBuf, source: io::Error },
    /// The `mkdir(2)` of the instance's own group.
    #[error("cannot create cgroup `{group}`")]
    Create { group: PathBuf, source: io::Error },
    /// A `write(2)` to one interface file; the kernel's errno is in `source`.
    #[error("cannot set `{file}` to `{value}` in cgroup `{group}`")]
    Write { file: &'static str, value: String, group: PathBuf, source: io::Error },
    /// An `open(2)` of one interface file.
    #[error("cannot open `{file}` in cgroup `{group}`")]
    Open { file: &'static str, group: PathBuf, source: io::Error },
    #[error("controller `{controller}` is not mounted, or not delegated to this user")]
    NotDelegated { controller: &'static str },
}

/// The three controllers that a sandbox needs.
const CONTROLLERS: [(&str, Degradable); 3] =
    [("memory", Degradable::Memory), ("cpu", Degradable::Cpu), ("pids", Degradable::Pids)];

/// Where this host has its controllers. Read once.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Base group of each v1 controller; `None` where the v2 tree has it, or nobody.
    v1: [Option<PathBuf>; 3],
    /// `cpuacct` and `freezer` of v1, for hosts with no v2 tree at all.
    v1_cpuacct: Option<PathBuf>,
    v1_freezer: Option<PathBuf>,
    /// Base group in the v2 tree.
    v2: Option<PathBuf>,
    v2_mount: Option<PathBuf>,
    /// Which of [`CONTROLLERS`] the v2 base hands down.
    v2_has: [bool; 3],
}

/// One sandbox's groups, from creation to removal.
#[derive(Debug)]
pub struct Group {
    name: String,
    folders: Vec<PathBuf>,
    v1: [Option<PathBuf>; 3],
    v2: Option<PathBuf>,
    v2_folder: Option<OwnedFd>,
    /// `tasks` files of v1, opened by us: the kernel checks a write against the opener's credentials.
    enter: Vec<File>,
    /// Protections that the host lacks, allowed by the caller.
    pub degraded: Vec<Degradable>,
}

/// Open control files of a group: what a process without privilege needs to steer and to measure a sandbox.
#[derive(Debug, Default)]
pub struct ControlFiles {
    pub kill: Option<File>,
    pub freeze: Option<File>,
    pub cpu_limit: Option<File>,
    /// Whether `cpu_limit` is v1's `cpu.cfs_quota_us` rather than v2's `cpu.max`.
    pub cpu_is_v1: bool,
    pub memory_peak: Option<File>,
    pub oom_events: Option<File>,
    pub cpu_usage: Option<File>,
    pub pids_peak: Option<File>,
}

/// Which of [`ControlFiles`] exist, when they travel over a socket.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct Present {
    files: [bool; 7],
    cpu_is_v1: bool,
}

/// What a sandbox used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub memory_peak_bytes: u64,
    pub cpu_time: Duration,
    pub oom_kills: u64,
    /// Most processes and threads at one time, Kennel's init not counted; 0 where the kernel does not count.
    pub pids_peak: u64,
}

fn read_file(path: &str) -> Result<String, CgroupError> {
    let failed = |source| CgroupError::Read { file: path.into(), source };
    let mut file = File::open(path).map_err(failed)?;
    // These files have no size, and each read of one begins anew in the kernel: one large read instead of ten.
    let mut text = Vec::with_capacity(32 << 10);
    file.read_to_end(&mut text).map_err(failed)?;
    // Paths may be of any bytes; those that matter here are Kennel's own.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

impl Layout {
    /// Finds the group that this process is in, in every tree that is mounted.
    ///
    /// # Errors
    /// [`CgroupError::Read`] when `/proc` cannot be read.
    pub fn detect() -> Result<Self, CgroupError> {
        let mut layout =
            Self::parse(&read_file("/proc/self/mountinfo")?, &read_file("/proc/self/cgroup")?);
        if let (Some(own), Some(mount)) = (&layout.v2, &layout.v2_mount) {
            // With controllers in v1 trees this one is for kill and freeze, which every group has.
            let base = match layout.v1.iter().any(Option::is_some) {
                true => own.clone(),
                false => v2::find_base(own, mount),
            };
            layout.v2_has = v2::controllers(&base);
            layout.v2 = Some(base);
        }
        Ok(layout)
    }

    fn parse(mountinfo: &str, own: &str) -> Self {
        let mut layout = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let (Some(root), Some(mount_point), Some(kind)) =
                (left.get(3), left.get(4), right.first())
            else {
                continue;
            };
            let options: Vec<&str> = right.get(2).map_or(Vec::new(), |o| o.split(',').collect());
            let base = |controller: &str| -> Option<PathBuf> {
                let path = own.lines().find_map(|l| {
                    let mut parts = l.splitn(3, ':').skip(1);
                    let names = parts.next()?;
                    let path = parts.next()?;
                    let ours = if controller.is_empty() {
                        names.is_empty()
                    } else {
                        names.split(',').any(|n| n == controller)
                    };
                    ours.then_some(path)
                })?;
                // The mount may show only a part of the tree, as in a container.
                let inside = path.strip_prefix(root.trim_end_matches('/')).unwrap_or("");
                Some(Path::new(mount_point).join(inside.trim_start_matches('/')))
            };
            match *kind {
                "cgroup2" if layout.v2.is_none() => {
                    layout.v2 = base("");
                    layout.v2_mount = Some(PathBuf::from(mount_point));
                }
                "cgroup" => {
                    for (slot, (name, _)) in layout.v1.iter_mut().zip(CONTROLLERS) {
                        if slot.is_none() && options.contains(&name) {
                            *slot = base(name);
                        }
                    }
                    if options.contains(&"cpuacct") {
                        layout.v1_cpuacct = base("cpuacct");
                    }
                    if options.contains(&"freezer") {
                        layout.v1_freezer = base("freezer");
                    }
                }
                _ => {}
            }
        }
        layout
    }

    /// In a word, for `kennel doctor`.
    pub fn kind(&self) -> &'static str {
        match (self.v1.iter().any(Option::is_some), self.v2.is_some()) {
            (true, true) => "hybrid (v1 controllers, v2 tree for kill and freeze)",
            (true, false) => "v1",
            (false, true) => "v2",
            (false, false) => "none",
        }
    }

    /// Whether `weaker`'s controller can be used, and in which tree.
    pub fn controller(&self, weaker: Degradable) -> Option<&Path> {
        let index = CONTROLLERS.iter().position(|(_, d)| *d == weaker)?;
        match &self.v1[index] {
            Some(base) => Some(base),
            None if self.v2_has[index] => self.v2.as_deref(),
            None => None,
        }
    }

    /// Finds the groups and makes the v2 tree ready for children with controllers. This process may move to a leaf of
    /// its own for that, since a group with processes cannot hand controllers down.
    ///
    /// # Errors
    /// Where the tree is not delegated to us, and `allowed` does not name every limit.
    pub fn detect_ready(allowed: &[Degradable]) -> Result<Self, CgroupError> {
        let mut layout = Self::detect()?;
        let v2_alone = layout.v1.iter().all(Option::is_none) && layout.v2_has.contains(&true);
        if let (Some(base), true) = (&layout.v2, v2_alone)
            && let Err(error) = v2::prepare(base)
        {
            if !CONTROLLERS.iter().all(|(_, degradable)| allowed.contains(degradable)) {
                return Err(error);
            }
            layout.v2_has = [false; 3];
        }
        Ok(layout)
    }

    /// Removes groups that a killed Kennel left behind: those named after a process that is gone.
    ///
    /// Their processes died with their launcher; anything left is killed. Of a sandbox's groups the first that is made
    /// is the last that is removed, so only the trees where that one can be are read; and a process that has a thousand
    /// sandboxes is looked at once.
    pub fn sweep(&self) {
        let v1 = self.v1.iter().flatten().chain(&self.v1_cpuacct).chain(&self.v1_freezer);
        let bases: Vec<&PathBuf> = self.v2.iter().chain(v1.clone()).collect();
        let mut alive: HashMap<String, bool> = HashMap::new();
        for first in self.v2.iter().chain(v1.take(1)) {
            let Ok(entries) = fs::read_dir(first) else { continue };
            for name in entries.flatten().map(|entry| entry.file_name()) {
                let Some(pid) = name.to_str().and_then(owner) else { continue };
                let is_alive = alive.entry(pid.to_owned()).or_insert_with(|| is_kennel(pid));
                if *is_alive {
                    continue;
                }
                for base in bases.iter().rev() {
                    let _ = fs::write(base.join(&name).join("cgroup.kill"), "1");
                    let _ = fs::remove_dir(base.join(&name));
                }
            }
        }
    }
}

/// The pid in the name of a sandbox's group.
fn owner(name: &str) -> Option<&str> {
    let pid = name.strip_prefix(GROUP_PREFIX)?.split('-').next()?;
    pid.bytes().all(|b| b.is_ascii_digit()).then_some(pid)
}

/// Whether a live process of Kennel's has this pid; one that ended and was not reaped is none.
fn is_kennel(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |key: &str| status.lines().find_map(|l| l.strip_prefix(key)).map(str::trim);
    field("Name:").is_some_and(|name| name.starts_with("kennel"))
        && !field("State:").is_some_and(|state| state.starts_with(['Z', 'X']))
}

const GROUP_PREFIX: &str = "kennel-";

impl Group {
    /// Makes the one group that a sandbox's first process must be made in: that of the v2 tree.
    ///
    /// # Errors
    /// What could not be made, where it is needed and `allowed` does not name what goes with it.
    pub fn begin(layout: &Layout, id: u32, allowed: &[Degradable]) -> Result<Self, CgroupError> {
        let mut group = Self {
            name: format!("{GROUP_PREFIX}{}-{id}", std::process::id()),
            folders: Vec::new(),
            v1: [None, None, None],
            v2: None,
            v2_folder: None,
            enter: Vec::new(),
            degraded: Vec::new(),
        };
        let Some(base) = &layout.v2 else { return Ok(group) };
        let folder = base.join(&group.name);
        match create_folder(&folder) {
            Ok(()) => {
                group.folders.push(folder.clone());
                group.v2_folder = Some(open_folder(&folder)?);
                group.v2 = Some(folder);
            }
            // Controllers that only this tree has go with it. Without any it was there for kill and freeze, and
            // the death of pid 1 kills as well.
            Err(error) => {
                let mut error = Some(error);
                for (index, (controller, degradable)) in CONTROLLERS.into_iter().enumerate() {
                    if layout.v1[index].is_none() && layout.v2_has[index] {
                        let error =
                            error.take().unwrap_or(CgroupError::NotDelegated { controller });
                        group.give_up(degradable, error, allowed)?;
                    }
                }
            }
        }
        Ok(group)
    }

    /// Makes the other groups, and sets every limit. CPU is unlimited until [`ControlFiles::set_cpu`]: the sandbox's
    /// own construction must not be throttled by the function's share.
    ///
    /// The first process is on its way meanwhile; it enters these groups by [`Self::ways_in`].
    ///
    /// # Errors
    /// What could not be made or written; [`CgroupError::NotDelegated`] for a controller that the host lacks and
    /// `allowed` does not name.
    pub fn complete(
        &mut self,
        layout: &Layout,
        limits: &Limits,
        allowed: &[Degradable],
    ) -> Result<(), CgroupError> {
        for (index, (controller, degradable)) in CONTROLLERS.into_iter().enumerate() {
            match &layout.v1[index] {
                // A host may mount cpu and pids together; the same folder is then made once.
                Some(base) => match self.add_v1(base.join(&self.name)) {
                    Ok(folder) => self.v1[index] = Some(folder),
                    Err(error) => self.give_up(degradable, error, allowed)?,
                },
                None if layout.v2_has[index] => {}
                None => {
                    self.give_up(degradable, CgroupError::NotDelegated { controller }, allowed)?
                }
            }
        }
        if layout.v2.is_none() {
            for base in [&layout.v1_cpuacct, &layout.v1_freezer].into_iter().flatten() {
                // For measuring and freezing alone.
                let _ = self.add_v1(base.join(&self.name));
            }
        }
        self.write_limits(layout, limits)
    }

    /// What cannot be had is an error, or degraded where the caller allowed that.
    fn give_up(
        &mut self,
        degradable: Degradable,
        error: CgroupError,
        allowed: &[Degradable],
    ) -> Result<(), CgroupError> {
        if !allowed.contains(&degradable) {
            return Err(error);
        }
        self.degraded.push(degradable);
        Ok(())
    }

    fn add_v1(&mut self, folder: PathBuf) -> Result<PathBuf, CgroupError> {
        if !self.folders.contains(&folder) {
            create_folder(&folder)?;
            self.folders.push(folder.clone());
            let tasks =
                File::options().write(true).open(folder.join("tasks")).map_err(|source| {
                    CgroupError::Open { file: "tasks", group: folder.clone(), source }
                })?;
            self.enter.push(tasks);
        }
        Ok(folder)
    }

    fn write_limits(&self, layout: &Layout, limits: &Limits) -> Result<(), CgroupError> {
        let [memory, cpu, pids] = &self.v1;
        if let Some(folder) = cpu {
            write(folder, "cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
        }
        let pids_max = limits.pids + 1; // init
        match (memory, &self.v2) {
            (Some(folder), _) => v1::limit_memory(folder, limits.memory)?,
            (None, Some(folder)) if layout.v2_has[0] => v2::limit_memory(folder, limits.memory)?,
            _ => {}
        }
        match (pids, &self.v2) {
            (Some(folder), _) => write(folder, "pids.max", &pids_max.to_string())?,
            (None, Some(folder)) if layout.v2_has[2] => {
                write(folder, "pids.max", &pids_max.to_string())?
            }
            _ => {}
        }
        Ok(())
    }

    /// Sets a memory limit that is no lower than the one so far.
    ///
    /// # Errors
    /// That of the write. Nothing happens where the host has no memory controller (then the sandbox was allowed without).
    pub fn raise_memory(&self, memory: MemoryMib) -> Result<(), CgroupError> {
        match (&self.v1[0], &self.v2) {
            (Some(folder), _) => v1::raise_memory(folder, memory),
            (None, Some(folder)) if folder.join("memory.max").exists() => {
                v2::limit_memory(folder, memory)
            }
            _ => Ok(()),
        }
    }

    /// The v2 folder, for `CLONE_INTO_CGROUP`.
    pub fn v2_folder(&self) -> Option<BorrowedFd<'_>> {
        self.v2_folder.as_ref().map(AsFd::as_fd)
    }

    /// For [`enter`]: files of the v1 groups.
    pub fn ways_in(&self) -> Vec<BorrowedFd<'_>> {
        self.enter.iter().map(AsFd::as_fd).collect()
    }

    /// Opens what steers the sandbox. A file that the kernel lacks is `None`.
    pub fn open_files(&self) -> ControlFiles {
        let cpu = &self.v1[1];
        ControlFiles {
            kill: open_to_write(self.v2.as_ref(), "cgroup.kill"),
            cpu_limit: match cpu {
                Some(folder) => open_to_write(Some(folder), "cpu.cfs_quota_us"),
                None => open_to_write(self.v2.as_ref(), "cpu.max"),
            },
            cpu_is_v1: cpu.is_some(),
            ..ControlFiles::default()
        }
    }

    /// Opens the rest as well: what freezes and measures, which not everybody wants.
    pub fn open_all_files(&self, files: &mut ControlFiles) {
        let [memory, _, pids] = &self.v1;
        let read = |folder: &Option<PathBuf>, v1: &str, v2: &str| match (folder, &self.v2) {
            (Some(folder), _) => File::open(folder.join(v1)).ok(),
            (None, Some(folder)) => File::open(folder.join(v2)).ok(),
            _ => None,
        };
        let v1_extra = |file: &str| self.folders.iter().map(|f| f.join(file)).find(|f| f.exists());
        files.freeze = open_to_write(self.v2.as_ref(), "cgroup.freeze");
        files.memory_peak = read(memory, "memory.max_usage_in_bytes", "memory.peak");
        files.oom_events = read(memory, "memory.oom_control", "memory.events");
        files.cpu_usage = match &self.v2 {
            Some(folder) => File::open(folder.join("cpu.stat")).ok(),
            None => v1_extra("cpuacct.usage").and_then(|f| File::open(f).ok()),
        };
        files.pids_peak = read(pids, "pids.peak", "pids.peak");
    }

    /// Leaves the folders to somebody else, for [`remove_folders`], and closes what is open of them.
    pub fn leave(mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.folders)
    }

    /// Removes the groups; see [`remove_folders`].
    ///
    /// # Errors
    /// As there.
    pub fn remove(&mut self) -> io::Result<()> {
        remove_folders(&std::mem::take(&mut self.folders))
    }
}

/// Removes a sandbox's groups; their processes are gone already.
///
/// The first that was made comes last, and stays where another did: [`Layout::sweep`] finds the rest by it.
///
/// # Errors
/// The first folder that stayed (`EBUSY` where something still lives).
pub fn remove_folders(folders: &[PathBuf]) -> io::Result<()> {
    folders.iter().rev().try_for_each(|folder| remove_folder(folder))
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    let mut tries = 0;
    while let Err(error) = fs::remove_dir(folder) {
        tries += 1;
        if error.kind() == io::ErrorKind::NotFound {
            break;
        }
        if error.raw_os_error() != Some(libc::EBUSY) || tries > 200 {
            return Err(error);
        }
        // A process counts until its last reference is dropped, moments after it was reaped.
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Moves the calling (single-threaded) process into the v1 groups behind [`Group::ways_in`].
///
/// By the task itself: a write of another's pid to `cgroup.procs` waits for a grace period of the kernel,
/// 7 to 20 ms at times.
pub fn enter(ways_in: Vec<OwnedFd>) -> io::Result<()> {
    ways_in.into_iter().try_for_each(|tasks| File::from(tasks).write_all(b"0"))
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

impl ControlFiles {
    /// Sets the CPU quota.
    ///
    /// # Errors
    /// That of the write; nothing happens where the host has no cpu controller (then the sandbox was allowed
    /// without).
    pub fn set_cpu(&self, cpu: MilliCpu) -> io::Result<()> {
        let Some(mut file) = self.cpu_limit.as_ref() else { return Ok(()) };
        let quota = (u64::from(cpu.0) * CPU_PERIOD_US / 1000).max(MIN_QUOTA_US);
        // v1 has quota and period apart (the period was set at creation), v2 in one file.
        let value =
            if self.cpu_is_v1 { quota.to_string() } else { format!("{quota} {CPU_PERIOD_US}") };
        file.write_all(value.as_bytes())
    }

    /// Kills everything in the group at once. `Ok(false)` where the kernel has no `cgroup.kill`.
    ///
    /// # Errors
    /// That of the write.
    pub fn kill(&self) -> io::Result<bool> {
        match self.kill.as_ref() {
            Some(mut file) => file.write_all(b"1").map(|()| true),
            None => Ok(false),
        }
    }

    /// Stops, or lets go on, everything in the group.
    ///
    /// # Errors
    /// That of the write.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        match self.freeze.as_ref() {
            Some(mut file) => file.write_all(if frozen { b"1" } else { b"0" }),
            None => Ok(()),
        }
    }

    /// Most memory at one time so far, in bytes; 0 where the kernel does not tell.
    pub fn memory_peak(&self) -> u64 {
        self.memory_peak.as_ref().and_then(|file| read_number(file, "")).unwrap_or(0)
    }

    /// Reads what was used so far.
    pub fn usage(&self) -> Usage {
        let number = |file: &Option<File>, key: &str| {
            file.as_ref().and_then(|f| read_number(f, key)).unwrap_or(0)
        };
        let cpu_us = match number(&self.cpu_usage, "usage_usec") {
            0 => number(&self.cpu_usage, "") / 1000, // cpuacct.usage: one number, nanoseconds
            us => us,
        };
        Usage {
            memory_peak_bytes: number(&self.memory_peak, ""),
            cpu_time: Duration::from_micros(cpu_us),
            oom_kills: number(&self.oom_events, "oom_kill"),
            pids_peak: number(&self.pids_peak, "").saturating_sub(1),
        }
    }

    /// Every file in a fixed order, for sending over a socket, and which of them are there.
    pub fn as_fds(&self) -> (Present, Vec<BorrowedFd<'_>>) {
        let all = [
            &self.kill,
            &self.freeze,
            &self.cpu_limit,
            &self.memory_peak,
            &self.oom_events,
            &self.cpu_usage,
            &self.pids_peak,
        ];
        let present = Present { files: all.map(Option::is_some), cpu_is_v1: self.cpu_is_v1 };
        (present, all.into_iter().flatten().map(AsFd::as_fd).collect())
    }

    /// The reverse of [`Self::as_fds`]; takes from `fds` as many as `present` says.
    pub fn from_fds(present: Present, fds: &mut impl Iterator<Item = OwnedFd>) -> Self {
        let [kill, freeze, cpu_limit, memory_peak, oom_events, cpu_usage, pids_peak] =
            present.files.map(|there| if there { fds.next().map(File::from) } else { None });
        let cpu_is_v1 = present.cpu_is_v1;
        Self { kill, freeze, cpu_limit, cpu_is_v1, memory_peak, oom_events, cpu_usage, pids_peak }
    }
}

/// The number after `key` in a file of `key value` lines, or the whole file's where `key` is empty.
fn read_number(file: &File, key: &str) -> Option<u64> {
    // One call: these files are small, and read after every invocation.
    let mut buffer = [0; 1024];
    let length = file.read_at(&mut buffer, 0).ok()?;
    let text = std::str::from_utf8(&buffer[..length]).ok()?;
    if key.is_empty() {
        return text.trim().parse().ok();
    }
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn open_to_write(folder: Option<&PathBuf>, file: &str) -> Option<File> {
    File::options().write(true).open(folder?.join(file)).ok()
}

fn create_folder(folder: &Path) -> Result<(), CgroupError> {
    fs::create_dir(folder).map_err(|source| CgroupError::Create { group: folder.into(), source })
}

fn open_folder(folder: &Path) -> Result<OwnedFd, CgroupError> {
    File::open(folder).map(OwnedFd::from).map_err(|source| CgroupError::Open {
        file: ".",
        group: folder.into(),
        source,
    })
}

fn write(folder: &Path, file: &'static str, value: &str) -> Result<(), CgroupError> {
    let opened = File::options().write(true).open(folder.join(file));
    opened.and_then(|mut file| file.write_all(value.as_bytes())).map_err(|source| {
        CgroupError::Write { file, value: value.into(), group: folder.into(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_name_tells_its_owner() {
        for (name, pid) in [
            ("kennel-12-3", Some("12")),
            ("kennel-12", Some("12")),
            ("kennel-x-3", None),
            ("kennel.service", None),
            ("other-12-3", None),
        ] {
            assert_eq!(owner(name), pid, "{name}");
        }
    }

    #[test]
    fn finds_the_own_group_in_every_kind_of_tree() {
        let v2 = Layout::parse(
            "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
            "0::/system.slice/kennel.service\n",
        );
        assert_eq!(v2.v2.as_deref(), Some(Path::new("/sys/fs/cgroup/system.slice/kennel.service")));
        assert_eq!(v2.kind(), "v2");
        let hybrid = Layout::parse(
            "31 25 0:27 / /cg/memory rw - cgroup cgroup rw,memory\n\
             32 25 0:28 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             33 25 0:29 / /cg/unified rw - cgroup2 cgroup2 rw",
            "5:cpu,cpuacct:/a\n4:memory:/b\n0::/c\n",
        );
        assert_eq!(hybrid.v1[0].as_deref(), Some(Path::new("/cg/memory/b")));
        assert_eq!(hybrid.v1[1].as_deref(), Some(Path::new("/cg/cpu,cpuacct/a")));
        assert_eq!(hybrid.v1[2], None);
        assert_eq!(hybrid.v2.as_deref(), Some(Path::new("/cg/unified/c")));
        let container = Layout::parse(
            "31 25 0:27 /b /cg/memory rw - cgroup cgroup rw,memory",
            "4:memory:/b/c\n",
        );
        assert_eq!(container.v1[0].as_deref(), Some(Path::new("/cg/memory/c")));
    }
}

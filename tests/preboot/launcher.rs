//! The launcher, which enters a sandbox for a moment, and whoever would have it do more.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use kennel::launcher::protocol::{Claim, Launch, MAX_MESSAGE, Reply, Request, Tree};
use kennel::sandbox;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::common::server::{Boot, SOON, Server, Start, mounts_of};
use crate::common::{self, wait_for};
use crate::{
    ask, evaluating, memory_limit, mount_point, name_in, new_program, python, server_with_waiting,
    wait_for_language,
};

#[test]
fn the_launcher_comes_home_from_a_claim() {
    let Some(runtime) = python() else { return };
    let folder = common::folder();
    std::os::unix::fs::symlink(
        concat!(env!("CARGO_MANIFEST_DIR"), "/runtimes"),
        folder.path().join("runtimes"),
    )
    .unwrap();
    // A path from the working directory: good only as long as that is the same.
    let server = Start::through(&[], &["--preboot", "1"])
        .cwd(folder.path())
        .env("KENNEL_RUNTIMES", "runtimes")
        .start();
    wait_for_language(&server, runtime, 1);
    let launcher = server.launcher();
    let home = || {
        ["cwd", "root", "ns/mnt"]
            .map(|name| fs::read_link(format!("/proc/{launcher}/{name}")).unwrap())
    };
    let before = home();
    assert_eq!(before[0], folder.path());
    server.create("claimed", runtime, &evaluating(), json!({}));
    ask(&server, "claimed", &["1"]);
    server.was_claimed("claimed");
    assert_eq!(home(), before);
    // Others can still be made, of both kinds.
    server.create("booted", runtime, &evaluating(), json!({ "EphemeralStorage": { "Size": 513 } }));
    ask(&server, "booted", &["1"]);
    server.wait_for_waiting("python", 1);
}

/// The launcher's socket, taken from the server: what it would be in the hands of one who took the server over.
pub struct Door {
    socket: OwnedFd,
    server: Pid,
}

impl Door {
    #[allow(unsafe_code, reason = "no wrapper has pidfd_getfd(2)")]
    pub fn of(server: &Server) -> Self {
        const SEQPACKET: &str = "0005";
        let sockets = fs::read_to_string(format!("/proc/{}/net/unix", server.pid())).unwrap();
        let inodes: BTreeSet<&str> = sockets
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>())
            .filter(|fields| fields.get(4) == Some(&SEQPACKET))
            .map(|fields| fields[6])
            .collect();
        let folder = format!("/proc/{}/fd", server.pid());
        let is_it = |fd: &String| {
            let target = fs::read_link(format!("{folder}/{fd}")).unwrap_or_default();
            let target = target.to_string_lossy();
            target
                .strip_prefix("socket:[")
                .and_then(|t| t.strip_suffix(']'))
                .is_some_and(|i| inodes.contains(i))
        };
        let found: Vec<String> =
            common::names(Path::new(&folder)).into_iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "the server has one door");
        let fd: i32 = found[0].parse().unwrap();
        let descriptor = |returned: i64| {
            let error = std::io::Error::last_os_error();
            assert!(returned >= 0, "{error}");
            // SAFETY: a system call has just returned this new descriptor; nobody else owns it.
            unsafe { OwnedFd::from_raw_fd(i32::try_from(returned).unwrap()) }
        };
        // SAFETY: no pointers.
        let pidfd = descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, server.pid(), 0) });
        // SAFETY: no pointers.
        let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
        let server = Pid::from_raw(i32::try_from(server.pid()).unwrap());
        Self { socket: descriptor(got), server }
    }

    /// Asks while the server asks nothing, and stands still: it reads all replies.
    fn ask(&self, request: &Request) -> Reply {
        use kennel::sys::socket::{recv_with_fds, send_with_fds};
        let socket = self.socket.as_fd();
        kill(self.server, Signal::SIGSTOP).unwrap();
        send_with_fds(socket, &postcard::to_stdvec(request).unwrap(), &[]).unwrap();
        let mut buffer = vec![0; MAX_MESSAGE];
        let length = wait_for("a reply", SOON, || match recv_with_fds(socket, &mut buffer) {
            Ok((length, _)) => Some(length),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        });
        kill(self.server, Signal::SIGCONT).unwrap();
        postcard::from_bytes(&buffer[..length]).unwrap()
    }

    /// Has an image dropped.
    pub fn forget(&self, image: u32) {
        let reply = self.ask(&Request::Forget { image });
        assert!(matches!(reply, Reply::Forgotten { .. }), "{reply:?}");
    }

    /// The reasons against an image of a sandbox.
    #[track_caller]
    pub fn refuses_image(&self, id: u32, image: u32) -> String {
        match self.ask(&Request::Image { id, image }) {
            Reply::Refused { chain, .. } => chain.join(": "),
            other => panic!("{other:?}"),
        }
    }

    /// The reasons against a claim.
    #[track_caller]
    pub fn refuses(&self, id: u32, code: Tree, memory_mib: u32) -> String {
        self.refuses_start(id, code, memory_mib, None)
    }

    /// As [`Self::refuses`], of a claim that says what to run.
    #[track_caller]
    pub fn refuses_start(
        &self,
        id: u32,
        code: Tree,
        memory_mib: u32,
        start: Option<sandbox::Start>,
    ) -> String {
        match self.ask(&Request::Claim(Claim {
            id,
            code,
            layers: Vec::new(),
            memory_mib,
            start,
            image: None,
        })) {
            Reply::Refused { id: refused, chain, .. } => {
                assert_eq!(refused, id);
                chain.join(": ")
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The number that the server has for the sandbox of `pid`, from its group's name.
pub fn number_of(pid: u32) -> u32 {
    let groups = Server::groups(pid);
    let mut names = groups.iter().filter_map(|(_, path)| path.file_name()?.to_str());
    let name = names.find(|n| n.starts_with("kennel-")).unwrap();
    name.rsplit('-').next().unwrap().parse().unwrap()
}

/// The tree that a line of `mountinfo` shows.
pub fn stored(line: &str) -> Tree {
    Tree::Stored(name_in(line.split(' ').nth(3).unwrap()).to_owned())
}

#[test]
fn a_server_that_was_taken_over_claims_nothing_twice_and_nothing_by_path() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "1"], 1);
    server.create("claimed", runtime, &evaluating(), json!({ "MemorySize": 256 }));
    ask(&server, "claimed", &["1"]);
    server.was_claimed("claimed");
    let claimed = new_program(&server, &[]);
    let full = json!({ "EphemeralStorage": { "Size": 513 }, "MemorySize": 256 });
    server.create("booted", runtime, &evaluating(), full);
    ask(&server, "booted", &["1"]);
    let booted = new_program(&server, &[claimed]);
    // One for each function that is new, one more for the claim.
    server.create("later", runtime, &evaluating(), json!({}));
    let mut waiting = server.wait_for_waiting("python", 3);
    loop {
        let now = server.wait_for_waiting("python", waiting.len());
        if now == waiting {
            break;
        }
        waiting = now;
    }

    let line = mounts_of(claimed).into_iter().find(|l| mount_point(l) == "/var/task").unwrap();
    let code = || stored(&line);
    let before = [mounts_of(claimed), mounts_of(booted)];
    let door = Door::of(&server);
    let has_it = "the sandbox has its code already, or was not made to wait for it";
    assert_eq!(door.refuses(number_of(claimed), code(), 512), has_it);
    assert_eq!(door.refuses(number_of(booted), code(), 512), has_it);
    assert_eq!(door.refuses(77_777, code(), 512), "no sandbox `77777`");
    let number = number_of(waiting[0]);
    for path in ["", "..", "/etc", "../../../../etc"] {
        assert!(
            door.refuses(number, Tree::Stored(path.into()), 128).starts_with("no code tree"),
            "{path}"
        );
    }
    assert!(door.refuses(number, Tree::Operator(0), 128).starts_with("no code tree"));
    assert!(
        door.refuses(number, code(), 1).contains("memory"),
        "{}",
        door.refuses(number, code(), 1)
    );
    assert_eq!([mounts_of(claimed), mounts_of(booted)], before, "nothing was attached");
    assert_eq!(memory_limit(claimed), Some(256 << 20));
    assert_eq!(memory_limit(booted), Some(256 << 20));

    // What was malformed has used nothing up; what failed half-way has.
    let missing = Tree::Stored("0".repeat(64));
    for pid in waiting {
        let number = number_of(pid);
        assert!(door.refuses(number, missing.clone(), 128).contains("stage `claim`"));
        assert_eq!(door.refuses(number, code(), 128), has_it);
        assert!(!mounts_of(pid).iter().any(|l| mount_point(l) == "/var/task"));
    }
    // The server, which does not know, gets a refusal and makes its function a sandbox.
    assert_eq!(ask(&server, "later", &["6 * 7"]), [42]);
    assert_eq!(server.boots("later"), [Boot::Full(has_it.into())]);
}

#[test]
fn a_claim_never_lowers_memory() {
    let Some(_) = python() else { return };
    let server = Server::start(&["--preboot", "0"]);
    let door = Door::of(&server);
    let id = 88_888;
    let launch = Launch {
        id,
        runtime: 0,
        code: None,
        layers: Vec::new(),
        held: false,
        argv_any: vec![vec!["sleep".into(), common::mark()]],
        env: Vec::new(),
        memory_mib: 512,
        milli_cpu: 1000,
        pids: 16,
        tmp_mib: 16,
        rpc: false,
        host_network: false,
    };
    let reply = door.ask(&Request::Launch(launch));
    assert!(matches!(reply, Reply::Launched { exec_failed: None, .. }), "{reply:?}");
    let pid = server.programs()[0];
    let tree = Tree::Stored("0".repeat(64));
    let why = door.refuses(id, tree, 128);
    assert!(why.contains("memory"), "{why}");
    assert_eq!(memory_limit(pid), Some(512 << 20));
    assert!(matches!(door.ask(&Request::Release { id }), Reply::Released { .. }));
}

//! What the server's process may do, seen from outside.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::harness::Server;

fn status(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).expect("a status")
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name}")).trim()
}

#[test]
fn the_server_is_nobody_and_has_no_capability() {
    let Some(server) = Server::shared() else { return };
    // Every thread: what one has the others could use.
    for task in crate::common::names(format!("/proc/{}/task", server.pid()).as_ref()) {
        let status = status(task.parse().expect("a thread"));
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(&status, set), "0000000000000000", "{set} of thread {task}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        for ids in ["Uid", "Gid"] {
            let ids: Vec<&str> = field(&status, ids).split_whitespace().collect();
            assert!(ids.iter().all(|id| *id == ids[0] && *id != "0"), "{ids:?}");
        }
        assert_eq!(field(&status, "Groups"), "");
    }
}

#[test]
fn the_data_directory_is_the_servers_alone() {
    let Some(server) = Server::shared() else { return };
    let uid = field(&status(server.pid()), "Uid").split_whitespace().next().map(str::to_owned);
    // Not even the server reads the credentials again.
    for (path, mode, owner) in [
        ("", 0o700, uid.as_deref()),
        ("kennel.db", 0o600, uid.as_deref()),
        ("credentials", 0o600, Some("0")),
    ] {
        let meta = fs::metadata(server.data.join(path)).expect("it exists");
        assert_eq!(meta.mode() & 0o777, mode, "{path}");
        assert_eq!(Some(meta.uid().to_string().as_str()), owner, "{path}");
    }
}

#[test]
fn the_launcher_has_no_socket_but_the_servers() {
    let Some(server) = Server::shared() else { return };
    let launcher = server.launcher();
    let status = status(launcher);
    assert_eq!(field(&status, "Threads"), "1");
    assert!(field(&status, "Uid").starts_with("0\t"), "{status}");
    let listening = fs::read_to_string("/proc/net/tcp").expect("a table");
    let port = format!("0100007F:{:04X}", server.address.port());
    let inode = listening.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&port.as_str()) && fields.get(3) == Some(&"0A"))
            .then(|| format!("socket:[{}]", fields[9]))
    });
    let inode = inode.expect("the server's listener");
    let holds = |pid: u32| {
        let folder = format!("/proc/{pid}/fd");
        crate::common::names(folder.as_ref()).iter().any(|fd| {
            fs::read_link(format!("{folder}/{fd}")).is_ok_and(|l| l.as_os_str() == inode.as_str())
        })
    };
    assert!(holds(server.pid()), "the look itself works");
    assert!(!holds(launcher), "the launcher holds the front door");
}

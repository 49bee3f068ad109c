//! What the server's process may do, seen from outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::common::{names, sandboxes};
use crate::harness::{Server, data_folder, python_zip};

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
    let network = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).expect("a namespace");
    assert_eq!(network(server.pid()), network(std::process::id()), "the look itself works");
    assert_ne!(network(launcher), network(server.pid()), "the launcher is on the host's network");
}

/// Landlock, which no file of the kernel's tells: the server's own folders are made links to others, which its uid may
/// well use. Where such a folder is in the data directory nothing changes; outside, it is out of reach.
#[test]
fn nothing_outside_the_data_directory_can_be_written_or_read() {
    if !sandboxes() {
        return;
    }
    let (folder, data) = data_folder();
    let server = Server::own(&data, &[]);
    let create = |name: &str, code: &str| {
        let zip = STANDARD.encode(python_zip(code));
        let request = json!({
            "FunctionName": name, "Runtime": "provided.al2023", "Handler": "unused",
            "Role": "arn:aws:iam::000000000000:role/any", "Code": { "ZipFile": zip },
        });
        server.call("POST", "/2015-03-31/functions", &request)
    };
    let download = |name: &str| {
        let target = format!("/2015-03-31/functions/{name}");
        let shown = server.call("GET", &target, &Value::Null).is(200).json();
        let location = shown["Code"]["Location"].as_str().expect("a location").to_owned();
        let target = location.strip_prefix(&server.url).expect("this server's");
        server.send(&server.plain("GET", target))
    };
    create("before", "before").is(201);
    download("before").is(200);

    let owner = fs::metadata(&data).expect("it exists");
    let (uid, gid) = (owner.uid(), owner.gid());
    let zips = data.join("code/zip");
    // The same bytes of the same owner, in another place; the server's folder leads there.
    let lead_to = |place: &Path| {
        fs::create_dir(place).expect("a folder");
        chown(place, Some(uid), Some(gid)).expect("an owner");
        for name in names(&zips) {
            fs::copy(zips.join(&name), place.join(&name)).expect("a copy");
            chown(place.join(&name), Some(uid), Some(gid)).expect("an owner");
        }
        match fs::symlink_metadata(&zips).expect("it exists").is_symlink() {
            true => fs::remove_file(&zips).expect("the link before"),
            false => fs::rename(&zips, data.join("code/zip-before")).expect("the folder"),
        }
        symlink(place, &zips).expect("a link");
    };
    lead_to(&data.join("elsewhere"));
    create("inside", "inside").is(201);
    download("inside").is(200);
    assert_eq!(names(&data.join("elsewhere")).len(), 2, "the look itself works");

    let outside = folder.path().join("outside");
    lead_to(&outside);
    let mut touch = Command::new("sh");
    touch.args(["-c", "cat * > /dev/null && echo > new && rm new"]).current_dir(&outside);
    let touched = touch.uid(uid).gid(gid).stdin(Stdio::null()).status();
    assert!(touched.expect("a shell").success(), "the uid itself may do so");
    create("outside", "outside").fails(500, "ServiceException", "");
    assert_eq!(names(&outside).len(), 2, "nothing was written");
    assert_ne!(download("inside").status, 200);
    server.call("GET", "/2015-03-31/functions/outside", &Value::Null).is(404);
    server.stop();
}

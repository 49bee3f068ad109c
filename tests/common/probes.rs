//! The probe program and its table, for the tests that run it in sandboxes of different kinds.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde::Deserialize;

use super::{sandboxes, skip};

#[derive(Deserialize)]
struct Table {
    row: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub what: String,
    pub probe: String,
    #[serde(default)]
    pub args: Vec<String>,
    pub outside_args: Option<Vec<String>>,
    pub outside: String,
    pub inside: String,
}

/// The rows of `tests/probes/table.toml`.
pub fn table() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probes/table.toml");
    let table: Table = toml::from_str(&fs::read_to_string(path).expect("the table")).expect("TOML");
    assert!(table.row.len() > 100, "the table has {} rows", table.row.len());
    table.row
}

/// Compiles the probe into `folder`; `None` where that cannot be, and the reason is printed.
pub fn build(folder: &Path) -> Option<PathBuf> {
    if !sandboxes() {
        return None;
    }
    let out = folder.join("probe");
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probes/build");
    let status = Command::new(build).arg(&out).status();
    if !status.is_ok_and(|s| s.success()) {
        skip("the probe program cannot be compiled (Debian: gcc, libc6-dev)");
        return None;
    }
    Some(out)
}

/// What the probe said behind its name.
pub fn said(probe: &str, output: &str) -> String {
    let prefix = format!("{probe}: ");
    match output.lines().find_map(|l| l.strip_prefix(&prefix)) {
        Some(text) => text.to_owned(),
        None => format!("(nothing; it printed {output:?})"),
    }
}

/// Whether what a probe said is what the table wants.
pub fn matches(got: &str, wanted: &str) -> bool {
    wanted.split('|').any(|w| match w.strip_suffix('*') {
        Some(prefix) => got.starts_with(prefix),
        None => got == w,
    })
}

/// What the table's arguments stand for: things of the host that no sandbox may reach.
#[derive(Debug)]
pub struct Targets {
    sleeper: Child,
    values: Vec<(&'static str, String)>,
    _listening: (UnixListener, UnixListener, std::net::TcpListener),
}

impl Targets {
    pub fn new(folder: &Path) -> Self {
        let sleeper = Command::new("sleep").arg("600").spawn().expect("sleep");
        let secret = folder.join("secret");
        fs::write(&secret, "x").expect("a file");
        let name = format!("kennel-probes-{}", uuid::Uuid::new_v4());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = folder.join("socket");
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let values = vec![
            ("{pid}", sleeper.id().to_string()),
            ("{secret}", secret.display().to_string()),
            ("{abstract}", name),
            ("{socket}", socket.display().to_string()),
            ("{port}", tcp.local_addr().expect("an address").port().to_string()),
        ];
        let listening = (
            UnixListener::bind_addr(&address).expect("an abstract socket"),
            UnixListener::bind(&socket).expect("a socket"),
            tcp,
        );
        Self { sleeper, values, _listening: listening }
    }

    /// `args` with their values.
    pub fn fill(&self, args: &[String]) -> Vec<String> {
        let one = |arg: &String| {
            self.values.iter().fold(arg.clone(), |text, (key, value)| text.replace(key, value))
        };
        args.iter().map(one).collect()
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        let _ = self.sleeper.kill();
        let _ = self.sleeper.wait();
    }
}

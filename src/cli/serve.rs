//! `kennel serve`: reads the configuration, makes ready what needs privilege (data directory, credentials, listeners,
//! the launcher), gives the privilege up, and hands over to [`crate::server`].

use std::fs::{self, DirBuilder};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use super::invoke::parse_degraded;
use super::{EXIT_FUNCTION_ERROR, Failure};
use crate::config::{self, Config, File, Listen};
use crate::launcher::{self, RuntimeFiles, Table, confine};
use crate::pool::ahead::Off;
use crate::runtimes::Catalogue;
use crate::sandbox::{Degradable, Layout};
use crate::server::{self, Bound, Keys, Prepared, ServerError};
use crate::sys;

/// Serve the AWS Lambda API on this machine
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on, HOST:PORT or unix:PATH; may be given again [default: 127.0.0.1:9330]
    #[arg(long, env = "KENNEL_LISTEN", value_delimiter = ',')]
    listen: Vec<String>,
    /// Data directory [default: /var/lib/kennel for root, else ~/.local/share/kennel]
    #[arg(long, env = "KENNEL_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Configuration file (TOML); every flag has a key there
    #[arg(long, env = "KENNEL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Certificate chain for TLS, PEM
    #[arg(long, env = "KENNEL_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Private key for TLS, PEM
    #[arg(long, env = "KENNEL_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Let other machines connect without TLS
    #[arg(long, env = "KENNEL_ALLOW_PLAINTEXT")]
    allow_plaintext: bool,
    /// AWS region to answer as [default: us-east-1]
    #[arg(long, env = "KENNEL_REGION")]
    region: Option<String>,
    /// AWS account to answer as [default: 000000000000]
    #[arg(long, env = "KENNEL_ACCOUNT")]
    account: Option<String>,
    /// Concurrent executions of all functions [default: 1000]
    #[arg(long, env = "KENNEL_CONCURRENCY")]
    concurrency: Option<u32>,
    /// MB of code that is kept [default: 76800]
    #[arg(long, env = "KENNEL_CODE_STORAGE_MB", value_name = "MB")]
    code_storage_mb: Option<u64>,
    /// MB of memory that all sandboxes may take [default: 80 % of the host's]
    #[arg(long, env = "KENNEL_MEMORY_MB", value_name = "MB")]
    memory_mb: Option<u64>,
    /// Seconds that an unused sandbox is kept [default: 600]
    #[arg(long, env = "KENNEL_IDLE_SECONDS", value_name = "S")]
    idle_seconds: Option<u64>,
    /// Milliseconds before a sandbox is frozen after an invocation [default: 10]
    #[arg(long, env = "KENNEL_FREEZE_MS", value_name = "MS")]
    freeze_ms: Option<u64>,
    /// Threads of the server itself [default: half as many as cores]
    #[arg(long, env = "KENNEL_THREADS", value_name = "N")]
    threads: Option<usize>,
    /// Sandboxes of each kind in use that wait for a function; 0 for none [default: 3]
    #[arg(long, env = "KENNEL_PREBOOT_COUNT", value_name = "N")]
    preboot: Option<usize>,
    /// MB of memory that waiting sandboxes may take [default: 512]
    #[arg(long, env = "KENNEL_PREBOOT_MB", value_name = "MB")]
    preboot_mb: Option<u64>,
    /// MB of memory that images of booted interpreters may take; 0 for none [default: 256]
    #[arg(long, env = "KENNEL_IMAGES_MB", value_name = "MB")]
    images_mb: Option<u64>,
    /// MB of logs that are kept [default: 2048]
    #[arg(long, env = "KENNEL_LOG_MB", value_name = "MB")]
    log_mb: Option<u64>,
    /// MB of log that are kept of one sandbox [default: 64]
    #[arg(long, env = "KENNEL_LOG_STREAM_MB", value_name = "MB")]
    log_stream_mb: Option<u64>,
    /// Log streams that are kept, one a sandbox; the oldest of ended sandboxes go [default: 20000]
    #[arg(long, env = "KENNEL_LOG_STREAMS", value_name = "N")]
    log_streams: Option<usize>,
    /// Seconds before the first and the second retry of an asynchronous event [default: 60,120]
    #[arg(long, env = "KENNEL_RETRY_DELAYS", value_name = "S,S", value_delimiter = ',', num_args = 1..=2)]
    retry_delays: Vec<u64>,
    /// Refuse a newer interpreter in place of the one that a runtime names
    #[arg(long, env = "KENNEL_STRICT_RUNTIMES")]
    strict_runtimes: bool,
    /// Protections that may be weaker than designed, separated by commas
    #[arg(long, env = "KENNEL_ALLOW_DEGRADED", value_name = "LIST", value_delimiter = ',')]
    allow_degraded: Vec<String>,
}

impl Args {
    fn as_file(&self) -> Result<File, Failure> {
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        let retry_delays = match self.retry_delays.as_slice() {
            [] => None,
            [first, second] => Some([*first, *second]),
            _ => {
                return Err(Failure::usage(anyhow!(
                    "--retry-delays wants two numbers, such as 60,120"
                )));
            }
        };
        Ok(File {
            listen: some(&self.listen),
            data: self.data.clone(),
            tls_cert: self.tls_cert.clone(),
            tls_key: self.tls_key.clone(),
            allow_plaintext: self.allow_plaintext.then_some(true),
            region: self.region.clone(),
            account: self.account.clone(),
            concurrency: self.concurrency,
            code_storage_mb: self.code_storage_mb,
            memory_mb: self.memory_mb,
            idle_seconds: self.idle_seconds,
            freeze_ms: self.freeze_ms,
            threads: self.threads,
            preboot: self.preboot,
            preboot_mb: self.preboot_mb,
            images_mb: self.images_mb,
            log_mb: self.log_mb,
            log_stream_mb: self.log_stream_mb,
            log_streams: self.log_streams,
            retry_delays,
            strict_runtimes: self.strict_runtimes.then_some(true),
            allow_degraded: some(&self.allow_degraded),
            ..File::default()
        })
    }
}

pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let file = match &args.config {
        Some(path) => File::read(path).map_err(Failure::usage)?,
        None => File::default(),
    };
    let config = file
        .overlaid(args.as_file()?)
        .check(default_data(), config::host_memory())
        .map_err(Failure::usage)?;
    let allow_degraded = parse_degraded(&config.allow_degraded)?;
    raise_descriptors();
    let root = sys::process::is_root();

    can_make_sandboxes(root, &allow_degraded)?;
    let data = DataFolder::make(&config.data).map_err(Failure::host)?;
    let keys = data.keys().map_err(Failure::host)?;
    let catalogue = Catalogue::load().map_err(Failure::host)?;
    let runtimes = server::runtimes(&catalogue, config.strict_runtimes);
    let layout = Layout::detect_ready(&allow_degraded).map_err(Failure::host)?;
    let tls = match &config.tls {
        Some((cert, key)) => Some(server::tls(cert, key).map_err(Failure::usage)?),
        None => None,
    };
    let table = Table {
        runtimes: runtimes
            .here
            .iter()
            .map(|r| RuntimeFiles { runtime_dir: r.runtime_dir.clone(), binds: r.binds.clone() })
            .collect(),
        operator_trees: Vec::new(),
        tree_store: data.path.join("code"),
        allow_degraded,
        host_network: false,
        many: true,
        layout,
        image_bytes: config.images_bytes,
    };
    // What a server that was killed left behind.
    table.layout.sweep();
    let sockets: Vec<PathBuf> = config
        .listen
        .iter()
        .filter_map(|listen| match listen {
            Listen::Unix(path) => Some(path.clone()),
            Listen::Tcp(_) => None,
        })
        .collect();
    let ids = data.ids;
    // Before any other thread or socket exists. It removes the sockets at the end, which the server may not.
    let at_end = move || sockets.iter().for_each(|path| remove_abandoned(path));
    let forked = launcher::fork(&table, at_end).map_err(Failure::host)?;
    let bind = |listen| bind(listen, ids);
    let listeners = config.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    confine::become_server(data.ids).map_err(Failure::host)?;
    match crate::sandbox::landlock_abi() {
        // Its first version cannot allow the rename of a finished tree into its place.
        1 => tracing::warn!(
            "landlock's first version cannot hold a server; it is not restricted to its files"
        ),
        _ => confine::seal_server(&data.path).map_err(Failure::host)?,
    }
    let data = data.path;
    let announce = print_start;
    let no_preboot = (!root).then_some(Off::NotRoot);
    let prepared =
        Prepared { config, data, keys, runtimes, forked, listeners, tls, no_preboot, announce };
    server::run(prepared).map_err(|error| match error {
        ServerError::KeyTwice { .. } => Failure::usage(error),
        // Not the host's fault: a supervisor may start it again.
        ServerError::LauncherGone => {
            Failure { code: EXIT_FUNCTION_ERROR, error: error.into(), hint: None }
        }
        error => Failure::host(error),
    })
}

/// A server that could only answer every invocation with an error does not start.
fn can_make_sandboxes(root: bool, allowed: &[Degradable]) -> Result<(), Failure> {
    let allows = |protection: Degradable| allowed.contains(&protection);
    if !root && !allows(Degradable::OwnUid) {
        let text = "not root: no sandbox could have a uid of its own";
        return Err(Failure::host(anyhow!(text)).hint(
            "run it as root (it gives that up for all but its launcher), or see `kennel doctor` for what --allow-degraded would have to name",
        ));
    }
    if crate::sandbox::landlock_abi() == 0 && !allows(Degradable::Landlock) {
        return Err(Failure::host(anyhow!("landlock is not available in this kernel")));
    }
    Ok(())
}

fn default_data() -> PathBuf {
    if sys::process::is_root() {
        return "/var/lib/kennel".into();
    }
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from);
    home.join(".local/share/kennel")
}

/// Removes a socket that nobody listens on any more: what a killed server left, or our own at the end.
fn remove_abandoned(path: &Path) {
    let is_socket = |m: fs::Metadata| std::os::unix::fs::FileTypeExt::is_socket(&m.file_type());
    if fs::symlink_metadata(path).is_ok_and(is_socket)
        && std::os::unix::net::UnixStream::connect(path).is_err()
    {
        let _ = fs::remove_file(path);
    }
}

/// As many descriptors as the host allows: each sandbox has a dozen.
fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn bind(address: &Listen, ids: (u32, u32)) -> Result<Bound, Failure> {
    let cannot = || format!("cannot listen on `{address}`");
    match address {
        Listen::Tcp(tcp) => {
            let listener = TcpListener::bind(tcp).with_context(cannot).map_err(|e| {
                Failure::host(e).hint(
                    "another program has this address; stop it, or choose another with --listen",
                )
            })?;
            listener.set_nonblocking(true).with_context(cannot).map_err(Failure::host)?;
            Ok(Bound::Tcp(listener))
        }
        Listen::Unix(path) => {
            remove_abandoned(path);
            let listener = UnixListener::bind(path).with_context(cannot).map_err(Failure::host)?;
            // As open as a port of this machine: every request is signed. The folder may be closed.
            fs::set_permissions(path, fs::Permissions::from_mode(0o666))
                .with_context(cannot)
                .map_err(Failure::host)?;
            if sys::process::is_root() {
                nix::unistd::chown(path, Some(ids.0.into()), Some(ids.1.into()))
                    .with_context(cannot)
                    .map_err(Failure::host)?;
            }
            listener.set_nonblocking(true).with_context(cannot).map_err(Failure::host)?;
            Ok(Bound::Unix(listener, path.clone()))
        }
    }
}

/// The server is not root when it opens its files: it must be able to come by every folder on the way.
fn reachable(path: &Path, ids: (u32, u32)) -> anyhow::Result<()> {
    for folder in path.ancestors().skip(1) {
        let found = fs::metadata(folder)
            .with_context(|| format!("cannot look at `{}`", folder.display()))?;
        let bit = match () {
            () if found.uid() == ids.0 => 0o100,
            () if found.gid() == ids.1 => 0o010,
            () => 0o001,
        };
        if found.mode() & bit == 0 {
            return Err(anyhow!(
                "the server runs as uid {}, which may not pass through `{}` to its data directory `{}`; choose another with --data, or open that folder with chmod o+x",
                ids.0,
                folder.display(),
                path.display()
            ));
        }
    }
    Ok(())
}

/// The data directory, owned by whom the server becomes.
struct DataFolder {
    /// Canonical.
    path: PathBuf,
    ids: (u32, u32),
}

impl DataFolder {
    fn make(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot make the data directory `{}`", path.display());
        let new = !path.exists();
        DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(cannot)?;
        let path = fs::canonicalize(path).with_context(cannot)?;
        if let (true, Some(above)) = (new, path.parent()) {
            fs::File::open(above).and_then(|above| above.sync_all()).with_context(cannot)?;
        }
        let owner = fs::metadata(&path).with_context(cannot)?;
        if !owner.is_dir() {
            return Err(anyhow!("`{}` is not a directory", path.display()));
        }
        let root = sys::process::is_root();
        let ids = match (root, new, owner.uid()) {
            (false, ..) => (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()),
            // One that has an owner keeps it.
            (true, false, uid) if uid != 0 => (uid, owner.gid()),
            (true, ..) => confine::lasting_server_ids(&path),
        };
        if root && owner.uid() != ids.0 {
            let stranger = fs::read_dir(&path).with_context(cannot)?.next();
            if let Some(entry) = stranger {
                let entry = entry.with_context(cannot)?;
                return Err(anyhow!(
                    "the directory `{}` holds files of root, such as `{}`, and is not a data directory of Kennel's; choose an empty or a new one",
                    path.display(),
                    entry.file_name().display()
                ));
            }
            nix::unistd::chown(&path, Some(ids.0.into()), Some(ids.1.into()))
                .with_context(cannot)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).with_context(cannot)?;
        }
        if root {
            reachable(&path, ids)?;
        }
        Ok(Self { path, ids })
    }

    /// The root key: the environment's, or the one of the data directory, made at the first start.
    fn keys(&self) -> anyhow::Result<Keys> {
        let variable = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let given =
            (variable("KENNEL_ROOT_ACCESS_KEY_ID"), variable("KENNEL_ROOT_SECRET_ACCESS_KEY"));
        match given {
            (Some(id), Some(secret)) => return Ok(Keys { id, secret, file: None }),
            (None, None) => {}
            _ => {
                return Err(anyhow!(
                    "KENNEL_ROOT_ACCESS_KEY_ID and KENNEL_ROOT_SECRET_ACCESS_KEY go together, and only one is set"
                ));
            }
        }
        let path = self.path.join("credentials");
        let cannot = |what: &str| format!("cannot {what} the credentials `{}`", path.display());
        match read_own(&path) {
            Ok(text) => {
                let value = |key: &str| {
                    text.lines().find_map(|line| {
                        let (name, value) = line.split_once('=')?;
                        (name.trim() == key).then(|| value.trim().to_owned())
                    })
                };
                match (value("aws_access_key_id"), value("aws_secret_access_key")) {
                    (Some(id), Some(secret)) => Ok(Keys { id, secret, file: Some(path) }),
                    _ => Err(anyhow!(
                        "`{}` has no aws_access_key_id and aws_secret_access_key; mend it, or remove it and new ones are made",
                        path.display()
                    )),
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let id = format!("AKIA{}", random_text(16, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"));
                let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                let secret = random_text(40, letters);
                let text = format!(
                    "[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"
                );
                // Whole or not at all: a key that is cut off would lock its user out.
                let new = self.path.join("credentials.new");
                let _ = fs::remove_file(&new);
                let mut file = fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&new)
                    .with_context(|| cannot("write"))?;
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
                    .and_then(|()| fs::rename(&new, &path))
                    .with_context(|| cannot("write"))?;
                Ok(Keys { id, secret, file: Some(path) })
            }
            Err(error) => Err(error).with_context(|| cannot("read")),
        }
    }
}

/// Reads a file of this user's own, as root in a folder that is the server's: not what a link leads to, nor what the
/// server may have put there.
fn read_own(path: &Path) -> std::io::Result<String> {
    let mut file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != nix::unistd::geteuid().as_raw() {
        let text = "it is not a file of the user who starts the server";
        return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, text));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Letters of the kernel's randomness, five to six bits each.
fn random_text(length: usize, letters: &[u8]) -> String {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        // A UUID of version 4 has 122 random bits; the six that are fixed are in bytes 6 and 8.
        let uuid = uuid::Uuid::new_v4();
        let random = uuid.as_bytes().iter().enumerate().filter(|(i, _)| !matches!(i, 6 | 8));
        for (_, byte) in random {
            // 256 is a multiple of 32 and of 64: every letter is as likely.
            text.push(char::from(letters[usize::from(*byte) % letters.len()]));
        }
    }
    text.truncate(length);
    text
}

/// What a user needs next, once the server answers.
fn print_start(config: &Config, url: &str, keys: &Keys, runtimes: &[String]) {
    let mut out = std::io::stdout().lock();
    let credentials = match &keys.file {
        Some(path) => format!("AWS_SHARED_CREDENTIALS_FILE={}", path.display()),
        None => "AWS_ACCESS_KEY_ID=$KENNEL_ROOT_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY=$KENNEL_ROOT_SECRET_ACCESS_KEY".into(),
    };
    let (region, account) = (&config.region, &config.account);
    let _ = writeln!(out, "kennel {} answers the AWS Lambda API", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(out, "endpoint     {url}   (region {region}, account {account})");
    let _ = writeln!(out, "data         {}", config.data.display());
    if let Some(path) = &keys.file {
        let _ = writeln!(out, "credentials  {}", path.display());
    }
    let _ = writeln!(out, "runtimes     {}", runtimes.join(" "));
    let _ = writeln!(
        out,
        "try          {credentials} AWS_REGION={region} aws --endpoint-url {url} lambda list-functions"
    );
    let _ = out.flush();
}

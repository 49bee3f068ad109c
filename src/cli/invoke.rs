//! `kennel invoke`: one zip, one event, no server, nothing left behind.

use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use serde_json::value::RawValue;

use super::guess::{self, GuessError};
use super::output::{Chain, LogSink, Stderr};
use super::{EXIT_FUNCTION_ERROR, Failure, parse_env};
use crate::invoke::{
    self, Completed, DEFAULT_MEMORY_MB, DEFAULT_PIDS, DEFAULT_TIMEOUT, Function, Request,
};
use crate::launcher::protocol::Tree;
use crate::launcher::{self, Launcher, LauncherError, RuntimeFiles, Table, confine};
use crate::package::{self, PackageError, TreeStore};
use crate::pool::PoolError;
use crate::runtimes::{Catalogue, Resolved};
use crate::sandbox::{Degradable, Layout, MemoryMib};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Zip or directory with the function's code
    path: PathBuf,
    /// Lambda runtime, such as python3.11; guessed from the package where it leaves no doubt
    #[arg(long)]
    runtime: Option<String>,
    /// Handler as the runtime names it, such as app.handler; guessed where the package leaves no doubt
    #[arg(long)]
    handler: Option<String>,
    /// Event: JSON, @FILE, or - for stdin
    #[arg(long, default_value = "{}", allow_hyphen_values = true)]
    event: String,
    /// Memory in MB, 128 to 10240; CPU comes in proportion, one core at 1769
    #[arg(long, default_value_t = DEFAULT_MEMORY_MB)]
    memory: u32,
    /// Seconds for the invocation, 1 to 900
    #[arg(long, default_value_t = DEFAULT_TIMEOUT.as_secs(), value_parser = clap::value_parser!(u64).range(1..=900))]
    timeout: u64,
    /// Variable for the function; may be given again
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = parse_env)]
    env: Vec<(String, String)>,
    /// Layer, zip or directory, for /opt; may be given five times, the later one on top
    #[arg(long = "layer", value_name = "ZIP")]
    layers: Vec<PathBuf>,
    /// Size of /tmp in MB, 512 to 10240
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(512..=10_240))]
    tmp: u32,
    /// Network: none (loopback alone), or host
    #[arg(long, default_value = "none", value_parser = ["none", "host"])]
    network: String,
    /// Client context as JSON, as AWS's X-Amz-Client-Context decodes to
    #[arg(long, value_name = "JSON")]
    client_context: Option<String>,
    /// Function name that the handler sees
    #[arg(long, default_value = "function")]
    name: String,
    /// Refuse a newer interpreter in place of the one that the runtime names
    #[arg(long)]
    strict_runtimes: bool,
    /// Protections that may be weaker than designed, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    allow_degraded: Vec<String>,
    /// Print one JSON object with result or error, log and receipt
    #[arg(long)]
    json: bool,
}

/// AWS's number of layers.
const MAX_LAYERS: usize = 5;
/// AWS's limit on a handler's name.
const MAX_HANDLER_BYTES: usize = 128;
/// AWS's limit on a synchronous payload.
const MAX_EVENT_BYTES: u64 = 6 << 20;

/// A package that is still to be unpacked: opened with the caller's rights.
enum Opened {
    Zip(File),
    Folder(PathBuf),
}

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let memory = MemoryMib::new(args.memory).map_err(Failure::usage)?;
    let allow_degraded = parse_degraded(&args.allow_degraded)?;
    let event = read_event(&args.event)?;
    if let Some(handler) = &args.handler
        && (handler.is_empty()
            || handler.len() > MAX_HANDLER_BYTES
            || handler.contains(char::is_whitespace))
    {
        let error = anyhow!(
            "the handler `{handler}` is not 1 to {MAX_HANDLER_BYTES} characters without spaces"
        );
        return Err(Failure::usage(error));
    }
    if let Some(context) = &args.client_context {
        serde_json::from_str::<&RawValue>(context)
            .context("--client-context is not JSON")
            .map_err(Failure::usage)?;
    }
    if args.layers.len() > MAX_LAYERS {
        return Err(Failure::usage(anyhow!(
            "{} layers were given, and {MAX_LAYERS} are allowed",
            args.layers.len()
        )));
    }
    let code = open(&args.path)?;
    let layers = args.layers.iter().map(|p| open(p)).collect::<Result<Vec<_>, _>>()?;
    let catalogue = Catalogue::load().map_err(Failure::host)?;
    let resolved = candidates(&catalogue, args.runtime.as_deref(), args.strict_runtimes)?;

    let layout = Layout::detect_ready(&allow_degraded).map_err(Failure::host)?;
    let work = WorkFolder::create().map_err(Failure::host)?;
    let table = Table {
        runtimes: resolved
            .iter()
            .map(|r| RuntimeFiles { runtime_dir: r.runtime_dir.clone(), binds: r.binds.clone() })
            .collect(),
        operator_trees: Vec::new(),
        tree_store: work.canonical_store().map_err(Failure::host)?,
        allow_degraded,
        host_network: args.network == "host",
        many: false,
        layout,
        image_bytes: 0,
    };
    let cleanup = work.path.clone();
    // From here on the folder is the launcher's to remove, however this process ends.
    let forked = launcher::fork(&table, move || drop(fs::remove_dir_all(cleanup)));
    let forked = match forked {
        Ok(forked) => forked,
        Err(error) => {
            let _ = fs::remove_dir_all(&work.path);
            return Err(Failure::host(error));
        }
    };
    // The launcher removes what is left of the sandbox and the folder when this process is gone: it needs no waiting for.
    confined(&args, forked, &work, (code, layers), &catalogue, &resolved, memory, event)
}

/// Everything after the privileges are gone.
#[expect(clippy::too_many_arguments, reason = "what was opened before, each used once")]
fn confined(
    args: &Args,
    forked: launcher::Forked,
    work: &WorkFolder,
    (code, layers): (Opened, Vec<Opened>),
    catalogue: &Catalogue,
    resolved: &[Resolved],
    memory: MemoryMib,
    event: Vec<u8>,
) -> Result<ExitCode, Failure> {
    // From here on the folder is reached from within: what lies above it may be closed to the server.
    std::env::set_current_dir(&work.path)
        .context("cannot enter the folder of this run")
        .map_err(Failure::host)?;
    confine::become_server(work.ids).map_err(Failure::host)?;
    let store = TreeStore::open_single_use(STORE).map_err(package_failure)?;
    let packages = std::iter::once((code, args.path.as_path()));
    let packages: Vec<_> =
        packages.chain(layers.into_iter().zip(args.layers.iter().map(PathBuf::as_path))).collect();
    // Folders first, while what the caller may read can be read; zips, which an enemy wrote, behind every wall.
    let mut trees: Vec<Option<(Tree, PathBuf, u64)>> = Vec::new();
    for (opened, path) in &packages {
        trees.push(match opened {
            Opened::Folder(_) => Some(unpack(opened, path, &store)?),
            Opened::Zip(_) => None,
        });
    }
    // Landlock's first version cannot allow the rename of a finished tree into its place.
    let seal_late = crate::sandbox::landlock_abi() == 1;
    if !seal_late {
        confine::seal(Path::new(".")).map_err(Failure::host)?;
    }
    let mut unpacked = Vec::new();
    for ((opened, path), tree) in packages.iter().zip(trees) {
        unpacked.push(match tree {
            Some(tree) => tree,
            None => unpack(opened, path, &store)?,
        });
    }
    if seal_late {
        confine::seal(Path::new(".")).map_err(Failure::host)?;
    }
    let total: u64 = unpacked.iter().map(|u| u.2).sum();
    if total > package::AWS_UNZIPPED_BYTES {
        let error = anyhow!(
            "code and layers unpack to {total} bytes together, and {} are allowed",
            package::AWS_UNZIPPED_BYTES
        );
        return Err(Failure::usage(error));
    }
    let mut unpacked = unpacked.into_iter();
    let (code_tree, code_path, _) =
        unpacked.next().ok_or_else(|| Failure::usage(anyhow!("no package")))?;
    let layer_trees = unpacked.map(|(tree, ..)| tree).collect();
    let (index, handler) = choose(args, &code_path, catalogue, resolved)?;
    let runtime = resolved[index].clone();
    let region = "us-east-1".to_owned();
    let function = Function {
        arn: format!("arn:aws:lambda:{region}:000000000000:function:{}", args.name),
        name: args.name.clone(),
        version: "$LATEST".into(),
        region,
        handler,
        memory,
        timeout: Duration::from_secs(args.timeout),
        tmp_mib: args.tmp,
        pids: DEFAULT_PIDS,
        environment: args.env.clone(),
        code: code_tree,
        layers: layer_trees,
        runtime_index: u32::try_from(index).unwrap_or(u32::MAX),
        runtime,
        host_network: args.network == "host",
        log_format: "Text".into(),
        system_log_level: None,
    };
    let request = Request {
        request_id: uuid::Uuid::new_v4().to_string(),
        payload: event.into(),
        client_context: args.client_context.clone(),
        invoked_arn: None,
        trace_id: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")
        .map_err(Failure::host)?;
    let sink =
        if args.json { LogSink::Keep(Vec::new(), false) } else { LogSink::Stderr(Stderr::new()) };
    runtime.block_on(async {
        let launcher = Arc::new(Launcher::new(forked).map_err(Failure::host)?);
        tokio::select! {
            done = invoke::run_once(&launcher, &function, request, sink) => {
                let (completed, sink) = done.map_err(pool_failure)?;
                print(args.json, completed, sink)
            }
            signal = interrupted() => Ok(ExitCode::from(128 + signal)),
        }
    })
}

/// Waits for a signal that ends this run; its number.
async fn interrupted() -> u8 {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term), Ok(mut hup)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => 2,
        _ = term.recv() => 15,
        _ = hup.recv() => 1,
    }
}

fn print(json: bool, completed: Completed, sink: LogSink) -> Result<ExitCode, Failure> {
    let code = if completed.result.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FUNCTION_ERROR)
    };
    let body = match &completed.result {
        Ok(body) => body,
        Err(error) => &error.body,
    };
    let mut stdout = std::io::stdout().lock();
    let written = match sink {
        LogSink::Stderr(stderr) => {
            stderr.finish();
            let newline: &[u8] =
                if stdout.is_terminal() && !body.ends_with(b"\n") { b"\n" } else { b"" };
            stdout
                .write_all(body)
                .and_then(|()| stdout.write_all(newline))
                .and_then(|()| stdout.flush())
        }
        LogSink::Keep(log, truncated) => {
            debug_assert!(json);
            let object = json_object(&completed, &log, truncated);
            stdout.write_all(object.as_bytes()).and_then(|()| stdout.flush())
        }
    };
    written.context("cannot write the result to stdout").map_err(|error| Failure {
        code: EXIT_FUNCTION_ERROR,
        error,
        hint: None,
    })?;
    Ok(code)
}

/// The one object of `--json`. A result that is JSON goes in as it is; other bytes as text, lossy where not UTF-8.
fn json_object(completed: &Completed, log: &[u8], truncated: bool) -> String {
    let raw = |body: &[u8]| -> Box<RawValue> {
        let text = String::from_utf8_lossy(body);
        serde_json::from_str::<Box<RawValue>>(&text)
            .or_else(|_| serde_json::value::to_raw_value(&text))
            .unwrap_or_else(|_| RawValue::NULL.to_owned())
    };
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Object<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        function_error: Option<&'static str>,
        log: String,
        log_truncated: bool,
        receipt: &'a invoke::Receipt,
    }
    let (result, error) = match &completed.result {
        Ok(body) => (Some(raw(body)), None),
        Err(error) => (None, Some(raw(&error.body))),
    };
    let object = Object {
        function_error: error.as_ref().map(|_| "Unhandled"),
        result,
        error,
        log: String::from_utf8_lossy(log).into_owned(),
        log_truncated: truncated,
        receipt: &completed.receipt,
    };
    format!("{}\n", serde_json::to_string(&object).unwrap_or_default())
}

pub fn parse_degraded(names: &[String]) -> Result<Vec<Degradable>, Failure> {
    names.iter().map(|name| Degradable::parse(name).map_err(Failure::usage)).collect()
}

fn read_event(event: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let from = match event.strip_prefix('@') {
        Some(path) => {
            let file =
                File::open(path).with_context(|| format!("cannot read the event from `{path}`"));
            let read =
                file.map_err(Failure::usage)?.take(MAX_EVENT_BYTES + 1).read_to_end(&mut bytes);
            read.with_context(|| format!("cannot read the event from `{path}`"))
                .map_err(Failure::usage)?;
            format!("`{path}`")
        }
        None if event == "-" => {
            let read = std::io::stdin().lock().take(MAX_EVENT_BYTES + 1).read_to_end(&mut bytes);
            read.context("cannot read the event from stdin").map_err(Failure::usage)?;
            "stdin".into()
        }
        None => {
            bytes = event.as_bytes().to_vec();
            "--event".into()
        }
    };
    if bytes.len() as u64 > MAX_EVENT_BYTES {
        return Err(Failure::usage(anyhow!(
            "the event from {from} is over {MAX_EVENT_BYTES} bytes"
        )));
    }
    serde_json::from_slice::<&RawValue>(&bytes)
        .with_context(|| format!("the event from {from} is not JSON"))
        .map_err(|e| Failure::usage(e).hint("a string needs its own quotes: --event '\"text\"'"))?;
    Ok(bytes)
}

fn open(path: &Path) -> Result<Opened, Failure> {
    let cannot = || format!("cannot open the package `{}`", path.display());
    let metadata = fs::metadata(path).with_context(cannot).map_err(Failure::usage)?;
    if metadata.is_dir() {
        return Ok(Opened::Folder(
            fs::canonicalize(path).with_context(cannot).map_err(Failure::usage)?,
        ));
    }
    if !metadata.is_file() {
        let error = anyhow!("`{}` is neither a file nor a directory", path.display());
        return Err(Failure::usage(error));
    }
    Ok(Opened::Zip(File::open(path).with_context(cannot).map_err(Failure::usage)?))
}

/// The runtimes that this run may come to: the one named, or the newest of each language.
fn candidates(
    catalogue: &Catalogue,
    name: Option<&str>,
    strict: bool,
) -> Result<Vec<Resolved>, Failure> {
    if let Some(name) = name {
        return match catalogue.resolve(name, strict) {
            Ok(resolved) => Ok(vec![resolved]),
            Err(error @ crate::runtimes::RuntimesError::Unknown { .. }) => {
                Err(Failure::usage(error))
            }
            Err(error) => {
                Err(Failure::host(error).hint("`kennel runtimes` lists what this host can run"))
            }
        };
    }
    Ok(catalogue
        .languages
        .iter()
        .filter_map(|language| {
            let mut exact = None;
            for name in language.served() {
                if let Ok(resolved) = catalogue.resolve(name, true) {
                    exact = Some(resolved); // names go from old to new
                }
            }
            exact.or_else(|| catalogue.resolve(language.served().last()?, false).ok())
        })
        .collect())
}

fn choose(
    args: &Args,
    code: &Path,
    catalogue: &Catalogue,
    resolved: &[Resolved],
) -> Result<(usize, String), Failure> {
    let only = args.runtime.as_ref().and_then(|_| resolved.first()).map(|r| r.language.as_str());
    let fits_handler = |r: &Resolved| args.handler.is_some() || !r.handler_required;
    if let (Some(_), Some(first)) = (only, resolved.first())
        && fits_handler(first)
    {
        return Ok((0, args.handler.clone().unwrap_or_else(|| "bootstrap".into())));
    }
    let flags = "name them: --runtime NAME --handler HANDLER; `kennel runtimes` lists the runtimes";
    let guessed = match guess::guess(code, catalogue, only, args.handler.is_none()) {
        Ok(guessed) => guessed,
        Err(GuessError::NoRuntime) if only.is_some() => {
            return Err(Failure::usage(GuessError::NoHandler).hint(flags));
        }
        Err(error) => return Err(Failure::usage(error).hint(flags)),
    };
    let index = resolved.iter().position(|r| r.language == guessed.language);
    let Some(index) = index else {
        let error = anyhow!(
            "the package is for {}, and this host has no interpreter for it",
            guessed.language
        );
        return Err(Failure::host(error).hint("`kennel runtimes` tells what is missing"));
    };
    match args.handler.clone().or(guessed.handler) {
        Some(handler) => Ok((index, handler)),
        None => Err(Failure::usage(GuessError::NoHandler).hint(flags)),
    }
}

fn unpack(
    opened: &Opened,
    path: &Path,
    store: &TreeStore,
) -> Result<(Tree, PathBuf, u64), Failure> {
    let limits = package::Limits {
        // A reviewer on a case-insensitive disk must see the tree that runs here.
        case_collisions: package::CaseCollisions::Refuse,
        ..package::Limits::default()
    };
    let mut progress = progress_line(path);
    let tree = match opened {
        Opened::Zip(file) => {
            let about_bytes = file.metadata().map_or(0, |metadata| metadata.len());
            package::unpack(file, about_bytes, &limits, store, &mut progress)
        }
        Opened::Folder(folder) => package::copy_directory(folder, &limits, store, &mut progress),
    };
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    let tree = tree.map_err(|error| {
        let Failure { code, error, hint } = package_failure(error);
        Failure {
            code,
            error: error.context(format!("cannot use the package `{}`", path.display())),
            hint,
        }
    })?;
    Ok((Tree::Stored(tree.digest.hex()), tree.path, tree.unzipped_bytes))
}

/// Shows how far a long unpacking is, on a terminal.
fn progress_line(path: &Path) -> impl FnMut(package::Progress) {
    let began = Instant::now();
    let mut shown = began;
    let terminal = std::io::stderr().is_terminal();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    move |progress: package::Progress| {
        if terminal
            && began.elapsed() > Duration::from_millis(300)
            && shown.elapsed() > Duration::from_millis(100)
        {
            shown = Instant::now();
            eprint!(
                "\runpacking {name}: {} of {} entries, {} MB\x1b[K",
                progress.entries,
                progress.total_entries,
                progress.bytes >> 20
            );
        }
    }
}

fn package_failure(error: PackageError) -> Failure {
    if error.is_refusal() {
        let hint = error
            .rule_id()
            .map(|rule| format!("the rule is `{rule}`; docs/package.md explains each"));
        Failure { hint, ..Failure::usage(error) }
    } else {
        Failure::host(error)
            .hint("see that the folder for temporary files has room and can be written")
    }
}

fn pool_failure(error: PoolError) -> Failure {
    match error {
        PoolError::Launcher(LauncherError::Refused { chain, hint }) => {
            let error = Chain::new(&chain)
                .map_or_else(|| anyhow!("the launcher refused"), anyhow::Error::new);
            Failure { hint, ..Failure::host(error) }
        }
        error => Failure::host(error),
    }
}

/// The tree store in a run's folder.
const STORE: &str = "trees";

/// A folder of this run alone: the trees, and nothing else.
struct WorkFolder {
    path: PathBuf,
    ids: (u32, u32),
}

impl WorkFolder {
    fn create() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("kennel-{}", uuid::Uuid::new_v4().simple()));
        let ids = confine::server_ids();
        let cannot = || format!("cannot make the folder `{}`", path.display());
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(cannot)?;
        let folder = Self { path: path.clone(), ids };
        fs::create_dir(folder.store()).with_context(cannot)?;
        if crate::sys::process::is_root() {
            for path in [&folder.path, &folder.store()] {
                nix::unistd::chown(path, Some(ids.0.into()), Some(ids.1.into()))
                    .with_context(cannot)?;
            }
        }
        fs::set_permissions(&folder.path, fs::Permissions::from_mode(0o700))
            .with_context(cannot)?;
        Ok(folder)
    }

    /// For the launcher: with no symbolic link in its path.
    fn canonical_store(&self) -> anyhow::Result<PathBuf> {
        let store = self.store();
        fs::canonicalize(&store).with_context(|| format!("cannot resolve `{}`", store.display()))
    }

    fn store(&self) -> PathBuf {
        self.path.join(STORE)
    }
}

//! Runtime id (`python3.11`) → interpreter, bootstrap, files, argv and environment, from the manifests of
//! `runtimes/<language>/runtime.toml`. A new language is a folder there, and no change here.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::sandbox::MemoryMib;

#[derive(Debug, thiserror::Error)]
pub enum RuntimesError {
    #[error("no folder of runtimes found; looked in {}", list(looked_in))]
    NoFolder { looked_in: Vec<PathBuf> },
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: io::Error },
    #[error("`{path}` is not a runtime manifest")]
    Manifest { path: PathBuf, source: Box<toml::de::Error> },
    #[error("unknown runtime `{name}`; known: {}", known.join(", "))]
    Unknown { name: String, known: Vec<String> },
    #[error("runtime `{name}` cannot run here: {why}")]
    NotHere { name: String, why: String },
    #[error(
        "runtime `{name}` wants version {wanted} of its interpreter, and this host has {found}; strict runtimes were asked for"
    )]
    Strict { name: String, wanted: String, found: String },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| format!("`{}`", p.display())).collect::<Vec<_>>().join(", ")
}

/// `runtime.toml`; unknown keys are refused.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    language: String,
    runtime_dir: PathBuf,
    #[serde(default)]
    full_boot_variables: Vec<String>,
    #[serde(default = "yes")]
    handler_required: bool,
    #[serde(default)]
    rpc_door: bool,
    runtime: Vec<Served>,
    #[serde(default)]
    interpreter: Vec<Family>,
    #[serde(default)]
    guess: Vec<Guess>,
}

fn yes() -> bool {
    true
}

/// A Lambda runtime name, and the interpreter version that it means.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Served {
    name: String,
    version: String,
}

/// One kind of interpreter of a language.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Family {
    /// For people who read the manifest; two families of a language are told apart by it.
    #[expect(dead_code, reason = "names the family in the manifest")]
    id: String,
    candidates: Vec<String>,
    #[serde(default)]
    version_args: Vec<String>,
    /// Where one program serves several versions: each printed line that begins so gives one.
    version_lines: Option<String>,
    version: Option<String>,
    #[serde(default)]
    bind: Vec<String>,
    #[serde(default)]
    argv: Vec<String>,
    #[serde(default)]
    argv_any: Vec<Vec<String>>,
    #[serde(default)]
    serves: Vec<String>,
    #[serde(default)]
    requires: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Whether the bootstrap can start without its function, and ask for it (`KENNEL_PREBOOT`).
    #[serde(default)]
    preboot: bool,
    /// Whether an image can be taken of a bootstrap that was started so, and restored (`KENNEL_IMAGE`).
    #[serde(default)]
    image: bool,
}

/// How a package shows its runtime and handler.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guess {
    /// Glob over paths in the package; of its top folder unless it has a `/`.
    pub pattern: String,
    /// Text that the file must hold.
    pub contains: Option<String>,
    /// With `{stem}` and `{name}` of the file.
    pub handler: Option<String>,
}

/// One language: its manifest and where it lies.
#[derive(Debug, Clone)]
pub struct Language {
    folder: PathBuf,
    manifest: Manifest,
}

/// All languages found.
#[derive(Debug, Clone)]
pub struct Catalogue {
    pub languages: Vec<Language>,
}

/// A runtime name made concrete on this host.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// As asked for: `python3.11`.
    pub name: String,
    pub language: String,
    /// On the host; bound at `/var/runtime`.
    pub runtime_dir: PathBuf,
    /// Host files bound read-only at the same place.
    pub binds: Vec<PathBuf>,
    pub interpreter: Option<PathBuf>,
    /// The interpreter's version.
    pub version: String,
    /// The version asked for, where the host has only a newer one.
    pub instead_of: Option<String>,
    pub handler_required: bool,
    pub rpc_door: bool,
    pub full_boot_variables: Vec<String>,
    /// Whether it can start ahead of its function.
    pub preboot: bool,
    /// Whether it can go on from an image ([`crate::snapshot`]).
    pub image: bool,
    argv_any: Vec<Vec<String>>,
    env: Vec<(String, String)>,
    programs: BTreeMap<String, PathBuf>,
}

/// An interpreter found on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    program: PathBuf,
    version: String,
    family: usize,
}

/// Where manifests are looked for, in order: `KENNEL_RUNTIMES`, beside an installed binary, beside a build.
pub fn folders() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("KENNEL_RUNTIMES") {
        return vec![folder.into()];
    }
    let mut all = Vec::new();
    if let Ok(exe) = std::env::current_exe() {
        let above = |levels: usize| exe.ancestors().nth(levels);
        // PREFIX/bin/kennel.
        all.extend(above(2).map(|prefix| prefix.join("share/kennel/runtimes")));
        // target/PROFILE/kennel, target/PROFILE/deps/TEST, target/TRIPLE/PROFILE/kennel.
        for levels in [2, 3] {
            let target =
                above(levels).filter(|folder| folder.file_name().is_some_and(|n| n == "target"));
            all.extend(target.and_then(Path::parent).map(|project| project.join("runtimes")));
        }
    }
    all.push("/usr/share/kennel/runtimes".into());
    all
}

impl Catalogue {
    /// Reads every manifest of the first folder that exists.
    ///
    /// # Errors
    /// No folder, or one manifest that cannot be read: by name, since a language that vanished in silence is worse.
    pub fn load() -> Result<Self, RuntimesError> {
        let looked_in = folders();
        let has_manifests = |folder: &&PathBuf| {
            fs::read_dir(folder).is_ok_and(|mut d| {
                d.any(|e| e.is_ok_and(|e| e.path().join("runtime.toml").is_file()))
            })
        };
        match looked_in.iter().find(has_manifests) {
            Some(folder) => Self::load_from(folder),
            None => Err(RuntimesError::NoFolder { looked_in }),
        }
    }

    /// # Errors
    /// As [`Self::load`].
    pub fn load_from(folder: &Path) -> Result<Self, RuntimesError> {
        let read = |path: &Path, source| RuntimesError::Read { path: path.into(), source };
        let mut languages = Vec::new();
        for entry in fs::read_dir(folder).map_err(|e| read(folder, e))? {
            let folder = entry.map_err(|e| read(folder, e))?.path();
            let path = folder.join("runtime.toml");
            if !path.is_file() {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(|e| read(&path, e))?;
            let manifest = toml::from_str(&text)
                .map_err(|source| RuntimesError::Manifest { path, source: Box::new(source) })?;
            languages.push(Language { folder, manifest });
        }
        languages.sort_by(|a, b| a.manifest.language.cmp(&b.manifest.language));
        Ok(Self { languages })
    }

    /// Every runtime name, sorted by language and age.
    pub fn names(&self) -> Vec<String> {
        self.languages
            .iter()
            .flat_map(|l| l.manifest.runtime.iter().map(|r| r.name.clone()))
            .collect()
    }

    /// Finds the interpreter for `name`: the exact version, else the nearest newer one that the host has.
    ///
    /// # Errors
    /// An unknown name; a host without any version that could serve.
    pub fn resolve(&self, name: &str, strict: bool) -> Result<Resolved, RuntimesError> {
        let language =
            self.languages.iter().find(|l| l.manifest.runtime.iter().any(|r| r.name == name));
        let Some(language) = language else {
            return Err(RuntimesError::Unknown { name: name.into(), known: self.names() });
        };
        language.resolve(name, strict)
    }
}

impl Language {
    pub fn name(&self) -> &str {
        &self.manifest.language
    }

    pub fn guesses(&self) -> &[Guess] {
        &self.manifest.guess
    }

    /// Lambda names, oldest first.
    pub fn served(&self) -> impl Iterator<Item = &str> {
        self.manifest.runtime.iter().map(|r| r.name.as_str())
    }

    fn resolve(&self, name: &str, strict: bool) -> Result<Resolved, RuntimesError> {
        let manifest = &self.manifest;
        let runtime_dir = self.folder.join(&manifest.runtime_dir);
        if !runtime_dir.is_dir() {
            let why = format!(
                "its bootstrap `{}` is not built; run `{}`",
                runtime_dir.display(),
                self.folder.join("build").display()
            );
            return Err(RuntimesError::NotHere { name: name.into(), why });
        }
        let at = manifest.runtime.iter().position(|r| r.name == name).unwrap_or(0);
        let wanted = &manifest.runtime[at].version;
        let mut found = self.interpreters();
        found
            .sort_by(|a, b| compare_versions(&a.version, &b.version).then(b.family.cmp(&a.family)));
        let serves = |f: &&Found, version: &str| {
            let family = &manifest.interpreter[f.family];
            is_version(&f.version, version)
                && (family.serves.is_empty()
                    || family.serves.iter().any(|s| is_version(version, s)))
        };
        // Exactly: of several, the newest patch. Then by the order in which the language's names grew.
        let exact = found.iter().rev().find(|f| serves(f, wanted));
        let choice = match exact {
            Some(found) => Some((found, None)),
            None => {
                let newer =
                    manifest.runtime[at + 1..].iter().map(|r| &r.version).filter(|v| *v != wanted);
                let newer = newer.flat_map(|v| found.iter().rev().find(|f| serves(f, v))).next();
                // A host may be newer than every name: the oldest interpreter above what was asked.
                let beyond = || {
                    found.iter().find(|f| {
                        manifest.interpreter[f.family].serves.is_empty()
                            && compare_versions(&f.version, wanted).is_gt()
                    })
                };
                newer.or_else(beyond).map(|f| (f, Some(wanted.clone())))
            }
        };
        let Some((found, instead_of)) = choice else {
            let have: Vec<&str> = found.iter().map(|f| f.version.as_str()).collect();
            let why = match have.as_slice() {
                [] => format!("no {} interpreter was found", manifest.language),
                have => format!(
                    "it wants {} {wanted} or newer, and this host has {}",
                    manifest.language,
                    have.join(", ")
                ),
            };
            return Err(RuntimesError::NotHere { name: name.into(), why });
        };
        if strict && instead_of.is_some() {
            return Err(RuntimesError::Strict {
                name: name.into(),
                wanted: wanted.clone(),
                found: found.version.clone(),
            });
        }
        Ok(self.resolved(name, runtime_dir, found, instead_of))
    }

    fn resolved(
        &self,
        name: &str,
        runtime_dir: PathBuf,
        found: &Found,
        instead_of: Option<String>,
    ) -> Resolved {
        let family = &self.manifest.interpreter[found.family];
        let interpreter = (!found.program.as_os_str().is_empty()).then(|| found.program.clone());
        let programs: BTreeMap<String, PathBuf> = family
            .requires
            .iter()
            .filter_map(|(key, candidates)| {
                Some((key.clone(), find_programs(candidates).into_iter().next()?))
            })
            .collect();
        let mut binds = Vec::new();
        let places = interpreter.iter().chain(programs.values());
        for place in places.clone() {
            // The program itself, where it lies outside what every sandbox has.
            binds.push(place.clone());
        }
        for pattern in &family.bind {
            let pattern = fill_places(pattern, interpreter.as_deref());
            binds.extend(expand(&pattern));
        }
        binds.retain(|path| !in_system(path));
        binds.sort();
        binds.dedup();
        // A folder brings what is beneath it.
        let all = binds.clone();
        binds.retain(|path| !all.iter().any(|other| other != path && path.starts_with(other)));
        let argv_any = if family.argv_any.is_empty() {
            vec![family.argv.clone()]
        } else {
            family.argv_any.clone()
        };
        Resolved {
            name: name.into(),
            language: self.manifest.language.clone(),
            runtime_dir,
            binds,
            interpreter,
            version: found.version.clone(),
            instead_of,
            handler_required: self.manifest.handler_required,
            rpc_door: self.manifest.rpc_door,
            full_boot_variables: self.manifest.full_boot_variables.clone(),
            preboot: family.preboot,
            image: family.preboot && family.image,
            argv_any,
            env: family.env.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            programs,
        }
    }

    /// Every interpreter of this language on the host, with its version.
    fn interpreters(&self) -> Vec<Found> {
        let mut all = Vec::new();
        for (index, family) in self.manifest.interpreter.iter().enumerate() {
            if family.requires.values().any(|candidates| find_programs(candidates).is_empty()) {
                continue;
            }
            if family.candidates.is_empty() {
                let version = family.version.clone().unwrap_or_else(|| "any".into());
                all.push(Found { program: PathBuf::new(), version, family: index });
                continue;
            }
            for program in find_programs(&family.candidates) {
                let versions = match &family.version {
                    Some(version) => vec![version.clone()],
                    None => cached_versions(
                        &program,
                        &family.version_args,
                        family.version_lines.as_deref(),
                    ),
                };
                all.extend(versions.into_iter().map(|version| Found {
                    program: program.clone(),
                    version,
                    family: index,
                }));
            }
        }
        all
    }

    /// A line for each name: the interpreter that serves it, or why none does.
    pub fn table(&self) -> Vec<(String, Result<Resolved, RuntimesError>)> {
        self.manifest
            .runtime
            .iter()
            .map(|r| (r.name.clone(), self.resolve(&r.name, false)))
            .collect()
    }
}

impl Resolved {
    /// Whether its command or its environment depends on the function's memory.
    pub fn depends_on_memory(&self) -> bool {
        let words = self.argv_any.iter().flatten().chain(self.env.iter().map(|(_, v)| v));
        words.into_iter().any(|word| word.contains("{memory"))
    }

    /// The function's variable that must be there when the process starts, if any is, and the manifest's pattern for it.
    pub fn full_boot_variable<'a>(
        &'a self,
        environment: &'a [(String, String)],
    ) -> Option<(&'a str, &'a str)> {
        let keys = environment.iter().map(|(key, _)| key.as_str());
        keys.filter_map(|key| Some((key, self.full_boot_pattern(key)?))).next()
    }

    /// Whether a sandbox made for one could hold the other's program: it shows the same files, through the same doors.
    pub fn shows_the_same(&self, other: &Self) -> bool {
        self.runtime_dir == other.runtime_dir
            && self.binds == other.binds
            && self.rpc_door == other.rpc_door
    }

    /// The command to run inside, alternatives in order.
    pub fn argv_any(&self, handler: &str, memory: MemoryMib) -> Vec<Vec<String>> {
        self.argv_any
            .iter()
            .map(|argv| argv.iter().map(|word| self.fill(word, handler, memory)).collect())
            .collect()
    }

    /// Defaults beneath the function's own environment.
    pub fn env(&self, handler: &str, memory: MemoryMib) -> Vec<(String, String)> {
        self.env.iter().map(|(k, v)| (k.clone(), self.fill(v, handler, memory))).collect()
    }

    /// Fills placeholders in one pass, so that a handler named `{interpreter}` stays that.
    fn fill(&self, template: &str, handler: &str, memory: MemoryMib) -> String {
        let mut out = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            match after
                .split_once('}')
                .and_then(|(key, tail)| Some((self.value(key, handler, memory)?, tail)))
            {
                Some((value, tail)) => {
                    out.push_str(&value);
                    rest = tail;
                }
                None => {
                    out.push('{');
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        out
    }

    fn value(&self, key: &str, handler: &str, memory: MemoryMib) -> Option<String> {
        let path = |p: Option<&Path>| Some(p?.to_string_lossy().into_owned());
        let interpreter = self.interpreter.as_deref();
        let (name, share) = match key.split_once(':') {
            Some((name, share)) => (name, share.strip_suffix('%')?.parse::<u64>().ok()?),
            None => (key, 100),
        };
        match name {
            "handler" => Some(handler.to_owned()),
            "memory_mb" => Some((u64::from(memory.mib()) * share / 100).to_string()),
            "memory_bytes_hex" => Some(format!("{:x}", memory.bytes() * share / 100)),
            "interpreter" => path(interpreter),
            "version" => Some(self.version.clone()),
            "dir" => path(interpreter.and_then(Path::parent)),
            "prefix" => path(interpreter.and_then(Path::parent).and_then(Path::parent)),
            other => path(self.programs.get(other).map(PathBuf::as_path)),
        }
    }

    /// The pattern by which a function's variable must be there when the interpreter starts.
    pub fn full_boot_pattern(&self, variable: &str) -> Option<&str> {
        let matches = |pattern: &&String| match pattern.strip_suffix('*') {
            Some(prefix) => variable.starts_with(prefix),
            None => variable == *pattern,
        };
        self.full_boot_variables.iter().find(matches).map(String::as_str)
    }
}

fn fill_places(pattern: &str, interpreter: Option<&Path>) -> String {
    let text = |p: Option<&Path>| p.map_or(String::new(), |p| p.to_string_lossy().into_owned());
    let dir = interpreter.and_then(Path::parent);
    pattern.replace("{prefix}", &text(dir.and_then(Path::parent))).replace("{dir}", &text(dir))
}

/// Whether every sandbox has `path` anyway.
fn in_system(path: &Path) -> bool {
    path.as_os_str().is_empty()
        || path == Path::new("/")
        || ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ssl", "/etc/alternatives"]
            .iter()
            .any(|s| path.starts_with(s))
}

/// Paths that a pattern means, sorted; `~` is the operator's home.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let pattern = match (pattern.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => format!("{}/{rest}", home.to_string_lossy()),
        _ => pattern.to_owned(),
    };
    // Not by glob::glob, which asks for the status of every entry that it passes: a thousand calls in /usr/bin alone.
    let mut paths = vec![PathBuf::from("/")];
    for component in pattern.split('/').filter(|c| !c.is_empty()) {
        if !component.contains(['*', '?', '[']) {
            paths.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        let Ok(component) = glob::Pattern::new(component) else { return Vec::new() };
        paths = paths.iter().flat_map(|folder| matching(folder, &component)).collect();
    }
    paths.retain(|path| path.exists());
    paths
}

/// Entries of a folder by name, sorted.
fn matching(folder: &Path, name: &glob::Pattern) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|n| name.matches(n)))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

/// Where commands are looked up, each folder once: /bin is often another name of /usr/bin.
fn command_folders() -> Vec<PathBuf> {
    let search = std::env::var("PATH").unwrap_or_default();
    let all = search.split(':').filter(|f| f.starts_with('/'));
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in all.chain(["/usr/local/bin", "/usr/bin", "/bin"]) {
        if let Ok(folder) = fs::canonicalize(folder)
            && !folders.contains(&folder)
        {
            folders.push(folder);
        }
    }
    folders
}

/// Programs for a list of candidates, each once, links resolved, scripts left out.
fn find_programs(candidates: &[String]) -> Vec<PathBuf> {
    let folders = command_folders();
    let mut found: Vec<PathBuf> = Vec::new();
    for candidate in candidates {
        let patterns = if candidate.contains('/') {
            vec![candidate.clone()]
        } else {
            folders.iter().map(|f| format!("{}/{candidate}", f.display())).collect()
        };
        for path in patterns.iter().flat_map(|p| expand(p)) {
            let Ok(path) = fs::canonicalize(path) else { continue };
            if path.is_file() && !found.contains(&path) && !is_script(&path) {
                found.push(path);
            }
        }
    }
    found
}

/// Whether a file begins with `#!`: a shim of a version manager, of no use inside a sandbox.
fn is_script(path: &Path) -> bool {
    let mut start = [0; 2];
    fs::File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok() && &start == b"#!"
}

/// Versions of programs that were run once, kept so that a start of a function does not run `--version`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct VersionCache {
    entries: BTreeMap<String, Vec<String>>,
}

fn cache_file() -> Option<PathBuf> {
    let folder = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
    };
    Some(folder.join("kennel/interpreters.json"))
}

/// The program's versions, by what its file is: path, size, time of change.
fn cached_versions(program: &Path, args: &[String], lines: Option<&str>) -> Vec<String> {
    let Ok(metadata) = fs::metadata(program) else { return Vec::new() };
    let key = format!(
        "{}\t{}\t{}\t{}",
        program.display(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    // Read once: a host may have dozens of candidates.
    static CACHE: Mutex<Option<VersionCache>> = Mutex::new(None);
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let file = cache_file();
    let cache = cache.get_or_insert_with(|| {
        let stored = file.as_ref().and_then(|f| serde_json::from_slice(&fs::read(f).ok()?).ok());
        stored.unwrap_or_default()
    });
    if let Some(versions) = cache.entries.get(&key) {
        return versions.clone();
    }
    let versions = run_for_versions(program, args, lines);
    cache.entries.retain(|k, _| !k.starts_with(&format!("{}\t", program.display())));
    // A program that gives no version is remembered as such.
    cache.entries.insert(key, versions.clone());
    if let Some(file) = file {
        let _ = store_cache(&file, cache);
    }
    versions
}

/// Atomically, since several starts may come to the same conclusion at once.
fn store_cache(file: &Path, cache: &VersionCache) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!(".interpreters.{}", std::process::id()));
    fs::write(&temporary, serde_json::to_vec(cache)?)?;
    fs::rename(temporary, file)
}

fn run_for_versions(program: &Path, args: &[String], lines: Option<&str>) -> Vec<String> {
    let Ok(output) = Command::new(program).args(args).stdin(Stdio::null()).output() else {
        return Vec::new();
    };
    let text = [output.stdout, output.stderr].concat();
    versions_in(&String::from_utf8_lossy(&text), lines)
}

fn versions_in(text: &str, lines: Option<&str>) -> Vec<String> {
    match lines {
        Some(start) => text.lines().filter_map(|l| first_version(l.strip_prefix(start)?)).collect(),
        None => first_version(text).into_iter().collect(),
    }
}

/// The first `N.N(.N)*` of a text, or its first number where there is none (a JVM's first release is `21`); Java's
/// `1.8.0` counts as 8.
fn first_version(text: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let mut number = None;
    for (at, _) in text.char_indices().filter(|(_, c)| c.is_ascii_digit()) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| is_part(c) || c.is_ascii_alphabetic() && c != 'v') {
            continue;
        }
        let version: String = text[at..].chars().take_while(|c| is_part(*c)).collect();
        let version = version.trim_end_matches('.');
        if version.contains('.') {
            return Some(
                version
                    .strip_prefix("1.")
                    .filter(|v| v.starts_with('8'))
                    .unwrap_or(version)
                    .to_owned(),
            );
        }
        number.get_or_insert_with(|| version.to_owned());
    }
    number
}

/// Whether `found` is `wanted` or a patch of it: 3.11.7 is 3.11 and 3, not 3.1.
fn is_version(found: &str, wanted: &str) -> bool {
    found == wanted || found.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
}

fn compare_versions(a: &str, b: &str) -> std::cmp::Ordering {
    let parts = |v: &str| -> Vec<u64> { v.split('.').map(|p| p.parse().unwrap_or(0)).collect() };
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_programs_print() {
        for (text, version) in [
            ("Python 3.11.7", Some("3.11.7")),
            ("v20.20.2", Some("20.20.2")),
            ("openjdk version \"17.0.15\" 2025-04-15", Some("17.0.15")),
            ("openjdk version \"1.8.0_402\"", Some("8.0")),
            ("Microsoft.NETCore.App 8.0.4 [/x]", Some("8.0.4")),
            (
                "openjdk version \"21\" 2023-09-19\nOpenJDK Runtime Environment (build 21+35)",
                Some("21"),
            ),
            ("no version", None),
        ] {
            assert_eq!(first_version(text).as_deref(), version, "{text}");
        }
    }

    #[test]
    fn one_program_may_serve_several_versions() {
        let text = "Microsoft.AspNetCore.App 8.0.1 [/a]\nMicrosoft.NETCore.App 6.0.2 [/a]\nMicrosoft.NETCore.App 8.0.4 [/a]\n";
        assert_eq!(versions_in(text, Some("Microsoft.NETCore.App ")), ["6.0.2", "8.0.4"]);
        assert_eq!(versions_in(text, None), ["8.0.1"]);
    }

    #[test]
    fn a_version_is_a_dotted_prefix() {
        assert!(is_version("3.11.7", "3.11"));
        assert!(!is_version("3.11.7", "3.1"));
        assert!(is_version("8.0", "8"));
        assert!(compare_versions("3.9.18", "3.10.1").is_lt());
    }

    #[test]
    fn placeholders_are_filled_once() {
        let resolved = Resolved {
            name: "x".into(),
            language: "x".into(),
            runtime_dir: "/r".into(),
            binds: vec![],
            interpreter: Some("/opt/x/bin/x".into()),
            version: "1".into(),
            instead_of: None,
            handler_required: true,
            rpc_door: false,
            full_boot_variables: vec!["X*".into(), "Y".into()],
            preboot: false,
            image: false,
            argv_any: vec![vec![
                "{interpreter}".into(),
                "{handler}".into(),
                "-m{memory_mb:85%}".into(),
                "{version}".into(),
                "{no}".into(),
            ]],
            env: vec![("H".into(), "{memory_bytes_hex:75%} {prefix}".into())],
            programs: BTreeMap::new(),
        };
        let memory = MemoryMib::new(1000).unwrap();
        assert_eq!(
            resolved.argv_any("{interpreter}", memory),
            [["/opt/x/bin/x", "{interpreter}", "-m850", "1", "{no}"]]
        );
        assert_eq!(resolved.env("h", memory), [("H".to_owned(), "2ee00000 /opt/x".to_owned())]);
        for (variable, pattern) in [("XA", Some("X*")), ("Y", Some("Y")), ("YA", None)] {
            assert_eq!(resolved.full_boot_pattern(variable), pattern, "{variable}");
        }
    }

    #[test]
    fn a_language_is_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("shell");
        fs::create_dir_all(new.join("boot")).unwrap();
        fs::write(
            new.join("runtime.toml"),
            r#"
            language = "shell"
            runtime_dir = "boot"
            [[runtime]]
            name = "shell1"
            version = "any"
            [[interpreter]]
            id = "sh"
            candidates = []
            version = "any"
            argv = ["/bin/sh", "/var/runtime/boot.sh", "{handler}"]
            "#,
        )
        .unwrap();
        let catalogue = Catalogue::load_from(folder.path()).unwrap();
        let resolved = catalogue.resolve("shell1", true).unwrap();
        assert_eq!(resolved.argv_any("h", MemoryMib::new(128).unwrap())[0][2], "h");
        let error = catalogue.resolve("shell2", false).unwrap_err().to_string();
        assert_eq!(error, "unknown runtime `shell2`; known: shell1");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("x")).unwrap();
        fs::write(
            folder.path().join("x/runtime.toml"),
            "language = \"x\"\nruntime_dir = \".\"\nruntime = []\ncolour = 1\n",
        )
        .unwrap();
        assert!(matches!(Catalogue::load_from(folder.path()), Err(RuntimesError::Manifest { .. })));
    }
}

//! Runtime and handler, guessed where the package leaves no doubt.

use std::fs;
use std::io::Read;
use std::path::Path;

use crate::runtimes::{Catalogue, Guess, Language};

/// Bytes of a file that are searched for a guess's text.
const LOOK_AT: u64 = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum GuessError {
    #[error("cannot tell the runtime from the package")]
    NoRuntime,
    #[error("the package could run as {}", .found.join(" or as "))]
    Doubt { found: Vec<String> },
    #[error("cannot tell the handler from the package")]
    NoHandler,
}

/// A language and, where it shows, the handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guessed {
    pub language: String,
    pub handler: Option<String>,
}

/// Looks at the tree at `root` for `only` (or for every language).
///
/// # Errors
/// Nothing fits, or more than one thing does.
pub fn guess(
    root: &Path,
    catalogue: &Catalogue,
    only: Option<&str>,
    handler_wanted: bool,
) -> Result<Guessed, GuessError> {
    let mut found: Vec<Guessed> = Vec::new();
    for language in catalogue.languages.iter().filter(|l| only.is_none_or(|name| l.name() == name))
    {
        if let Some(guessed) = of_language(root, language) {
            found.extend(guessed);
        }
    }
    // A program named `bootstrap` is the package's own runtime, whatever else lies beside it.
    if let Some(own) = found.iter().find(|g| g.language == "provided") {
        return Ok(own.clone());
    }
    if !handler_wanted {
        found.iter_mut().for_each(|guessed| guessed.handler = None);
    }
    found.dedup();
    match found.as_slice() {
        [] => Err(GuessError::NoRuntime),
        [one] => Ok(one.clone()),
        several => Err(GuessError::Doubt {
            found: several
                .iter()
                .map(|g| {
                    format!("{} with handler `{}`", g.language, g.handler.as_deref().unwrap_or("?"))
                })
                .collect(),
        }),
    }
}

/// The first of a language's guesses that fits; several files for one guess are several candidates.
fn of_language(root: &Path, language: &Language) -> Option<Vec<Guessed>> {
    language.guesses().iter().find_map(|guess| {
        let files = files_for(root, guess);
        (!files.is_empty()).then(|| {
            files
                .iter()
                .map(|file| Guessed {
                    language: language.name().into(),
                    handler: handler_for(guess, file),
                })
                .collect()
        })
    })
}

fn files_for(root: &Path, guess: &Guess) -> Vec<String> {
    let pattern = format!("{}/{}", glob::Pattern::escape(&root.to_string_lossy()), guess.pattern);
    let options =
        glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::default() };
    let Ok(paths) = glob::glob_with(&pattern, options) else { return Vec::new() };
    paths
        .flatten()
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|m| m.is_file()))
        .filter(|path| guess.contains.as_deref().is_none_or(|text| holds(path, text)))
        .filter_map(|path| Some(path.strip_prefix(root).ok()?.to_str()?.to_owned()))
        .collect()
}

fn holds(path: &Path, text: &str) -> bool {
    let mut start = Vec::new();
    let read = fs::File::open(path).and_then(|f| f.take(LOOK_AT).read_to_end(&mut start));
    // Bytes, not text: a program's header is found too.
    read.is_ok() && start.windows(text.len().max(1)).any(|w| w == text.as_bytes())
}

fn handler_for(guess: &Guess, file: &str) -> Option<String> {
    let name = Path::new(file).file_name()?.to_str()?;
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    Some(guess.handler.as_ref()?.replace("{stem}", stem).replace("{name}", name))
}

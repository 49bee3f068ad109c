//! The command line: one file per subcommand; flags in, exit code out. The only place that prints.

mod doctor;
mod exec;
mod guess;
mod invoke;
mod output;
mod runtimes;
mod serve;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// The function failed: its error is the result.
pub const EXIT_FUNCTION_ERROR: u8 = 1;
/// Wrong usage, or a package that breaks a rule.
pub const EXIT_USAGE: u8 = 2;
/// This host cannot give the sandbox that was asked for.
pub const EXIT_HOST: u8 = 3;

/// Run AWS-Lambda-style functions that nobody trusts, in native Linux sandboxes
#[derive(Debug, Parser)]
#[command(name = "kennel", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one event through a handler zip, and leave nothing behind
    Invoke(Box<invoke::Args>),
    /// Serve the AWS Lambda API on this machine
    Serve(Box<serve::Args>),
    /// Run a command of this host in the same sandbox
    Exec(exec::Args),
    /// Tell what this host gives and lacks, what follows, and how to mend it
    Doctor,
    /// List the runtimes, and the interpreter that serves each
    Runtimes(runtimes::Args),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

/// What a subcommand could not do, with the exit code that its kind has.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub error: anyhow::Error,
    pub hint: Option<String>,
}

impl Failure {
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { code: EXIT_USAGE, error: error.into(), hint: None }
    }

    pub fn host(error: impl Into<anyhow::Error>) -> Self {
        let hint =
            Some("run `kennel doctor` to see what this host lacks and how to mend it".into());
        Self { code: EXIT_HOST, error: error.into(), hint }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// `kennel exec` alone, of which most starts are.
#[derive(Debug, Parser)]
#[command(name = "kennel exec")]
struct OnlyExec {
    #[command(flatten)]
    args: exec::Args,
}

impl OnlyExec {
    /// Putting together what all the other commands take costs several times what reading this one does. Whatever is
    /// not to be run (an error, a question) is left to [`Cli`], which has the words for it.
    fn parse_quickly() -> Option<exec::Args> {
        let mut arguments = std::env::args_os().skip(1).peekable();
        let is_exec = arguments.peek().is_some_and(|word| word == "exec");
        is_exec.then(|| Self::try_parse_from(arguments).ok()).flatten().map(|only| only.args)
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let only_exec = OnlyExec::parse_quickly();
    // The sweep of another run's groups knows live owners by this name, whatever the program file is called.
    let _ = crate::sys::process::set_name(c"kennel");
    if let Some(args) = only_exec {
        return end(exec::run(args));
    }
    let cli = Cli::parse(); // prints usage and exits with 2 by itself
    let level = std::env::var("KENNEL_LOG").ok().and_then(|l| l.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(tracing::Level::WARN))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let result = match cli.command {
        Command::Invoke(args) => invoke::run(*args),
        Command::Serve(args) => serve::run(&args),
        Command::Exec(args) => exec::run(args),
        Command::Doctor => Ok(doctor::run()),
        Command::Runtimes(args) => runtimes::run(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "kennel", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => man(),
    };
    end(result)
}

fn end(result: Result<ExitCode, Failure>) -> ExitCode {
    result.unwrap_or_else(|failure| {
        output::print_failure(&failure);
        ExitCode::from(failure.code)
    })
}

fn man() -> Result<ExitCode, Failure> {
    clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout()).map_err(|e| Failure {
        code: EXIT_FUNCTION_ERROR,
        error: e.into(),
        hint: None,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Parses `KEY=VALUE` of `--env`.
fn parse_env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !text.contains('\0') => {
            Ok((key.into(), value.into()))
        }
        _ => Err("want KEY=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        OnlyExec::command().debug_assert();
    }

    #[test]
    fn exec_is_read_the_same_either_way() {
        let whole = |words: &[&str]| match Cli::try_parse_from(words).map(|cli| cli.command) {
            Ok(Command::Exec(args)) => Ok(format!("{args:?}")),
            Ok(other) => panic!("{words:?}: {other:?}"),
            Err(error) => Err(error.kind()),
        };
        let alone = |words: &[&str]| {
            let only = OnlyExec::try_parse_from(&words[1..]);
            only.map(|only| format!("{:?}", only.args)).map_err(|error| error.kind())
        };
        for words in [
            &["kennel", "exec", "--", "true"][..],
            &["kennel", "exec", "true", "--memory", "1"],
            &[
                "kennel", "exec", "--memory", "256", "--ro", "/a", "--ro=/b", "--env", "A=b=c",
                "--", "-x", "--json",
            ],
            &[
                "kennel",
                "exec",
                "--network",
                "host",
                "--allow-degraded",
                "landlock,own-uid",
                "--json",
                "a",
                "--",
                "b",
            ],
            &["kennel", "exec", "--timeout", "3", "--tmp", "16", "--pids", "7", "exec"],
            &["kennel", "exec"],
            &["kennel", "exec", "--no-such", "--", "true"],
            &["kennel", "exec", "--pids", "0", "--", "true"],
            &["kennel", "exec", "--env", "=x", "--", "true"],
            &["kennel", "exec", "--network", "all", "--", "true"],
            &["kennel", "exec", "--help"],
        ] {
            assert_eq!(alone(words), whole(words), "{words:?}");
        }
    }
}

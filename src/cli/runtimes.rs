//! `kennel runtimes`: what this host can run, and by which interpreter.

use std::process::ExitCode;

use super::Failure;
use crate::runtimes::{Catalogue, RuntimesError};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let catalogue = Catalogue::load().map_err(Failure::host)?;
    let mut rows = Vec::new();
    for language in &catalogue.languages {
        for (name, resolved) in language.table() {
            let row = match resolved {
                Ok(r) => {
                    let program = r
                        .interpreter
                        .map_or_else(|| "the package's own".into(), |p| p.display().to_string());
                    let status = if r.instead_of.is_some() { "newer" } else { "yes" };
                    (name, status, r.version, program)
                }
                Err(RuntimesError::NotHere { why, .. }) => (name, "no", String::new(), why),
                Err(error) => (name, "no", String::new(), error.to_string()),
            };
            rows.push(row);
        }
    }
    if args.json {
        let all: Vec<_> = rows
            .iter()
            .map(|(name, status, version, by)| {
                serde_json::json!({ "runtime": name, "status": status, "version": version, "by": by })
            })
            .collect();
        println!("{}", serde_json::Value::from(all));
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:<16} {:<6} {:<10} BY", "RUNTIME", "RUNS", "VERSION");
    for (name, status, version, by) in &rows {
        println!("{name:<16} {status:<6} {version:<10} {by}");
    }
    println!(
        "\nyes: the version that the name means; newer: the nearest newer one here (--strict-runtimes refuses it)"
    );
    Ok(ExitCode::SUCCESS)
}

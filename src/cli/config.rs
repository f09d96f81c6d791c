//! `lastgood config …`: look at the configuration without running anything.

use crate::{
    config::{
        Facts, Faults, Loaded, Notation, Settings, Thresholds, explain as explain_key, faults_of_thresholds_beside,
        rules_shown, schema_json,
    },
    domain::WorkloadId,
};
use clap::{Args, Subcommand};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Exit code of a command that did what was asked.
const OK: u8 = 0;
/// Exit code of a command that failed.
const ERROR: u8 = 1;
/// Exit code of a command that was asked wrongly.
const USAGE: u8 = 2;

/// Where the configuration lies. Shared by all commands that read it.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigLocation {
    /// Folder with lastgood.yaml and thresholds.yaml, or the file lastgood.yaml [default: config/]
    #[arg(long = "config", value_name = "DIR|FILE", env = "LASTGOOD_CONFIG", global = true)]
    pub path: Option<PathBuf>,
}

impl ConfigLocation {
    /// Reads the settings with the variables of this process.
    ///
    /// # Errors
    /// Every fault of the settings file and of the environment.
    pub fn load(&self) -> Result<Loaded, Faults> {
        Settings::load(self.path.as_deref(), process_environment())
    }
}

/// The variables of this process that are text.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
}

/// Look at the configuration
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// Where it lies.
    #[command(flatten)]
    pub location: ConfigLocation,
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What can be done with the configuration.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Check both files; list every fault with file:line:column
    Validate,
    /// Show what is in force, every key given and every unit normalised
    Show(ShowArgs),
    /// Say what a key means, what may stand there, and its default
    Explain {
        /// The key with its parents, for example errors.max or sources.prometheus.url
        key: String,
    },
    /// Print the JSON Schema of thresholds.yaml
    Schema,
}

/// What to show.
#[derive(Debug, Clone, Default, Args)]
pub struct ShowArgs {
    /// Show the rules of one workload, as the files give them
    #[arg(long, value_name = "NAMESPACE/KIND/NAME")]
    pub effective: Option<WorkloadId>,
    /// Labels that the workload has
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', requires = "effective")]
    pub labels: Vec<String>,
    /// Annotations that the workload has
    #[arg(long, value_name = "KEY=VALUE", requires = "effective")]
    pub annotation: Vec<String>,
    /// How it is written: yaml or json
    #[arg(short, long, value_name = "FORMAT", default_value = "yaml")]
    pub output: Notation,
}

/// Runs one of the commands; data goes to `out`, everything else to `err`. Returns the exit code.
///
/// # Errors
/// Those of the writers.
pub fn run(
    args: &ConfigArgs,
    env: impl IntoIterator<Item = (String, String)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let path = args.location.path.as_deref();
    match &args.command {
        ConfigCommand::Validate => validate(path, env, out, err),
        ConfigCommand::Show(what) => show(path, what, env, out, err),
        ConfigCommand::Explain { key } => explain(key, out, err),
        ConfigCommand::Schema => schema(out),
    }
}

/// `config validate`: all faults of both files and of the environment, exit code 1; or one line that
/// says what was read.
///
/// # Errors
/// Those of the writers.
pub fn validate(
    path: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    match read_both(path, env) {
        Ok((loaded, thresholds)) => {
            notes(&loaded, err)?;
            let policies = thresholds.policies.len();
            let plural = if policies == 1 { "policy" } else { "policies" };
            writeln!(out, "ok: {policies} {plural}, hash {}", thresholds.hash())?;
            Ok(OK)
        }
        Err(faults) => {
            let count = faults.0.len();
            writeln!(err, "{faults}\n{count} fault{}", if count == 1 { "" } else { "s" })?;
            Ok(ERROR)
        }
    }
}

/// `config show`: what is in force, or the rules of one workload.
///
/// # Errors
/// Those of the writers.
pub fn show(
    path: Option<&Path>,
    what: &ShowArgs,
    env: impl IntoIterator<Item = (String, String)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let (loaded, thresholds) = match read_both(path, env) {
        Ok(both) => both,
        Err(faults) => {
            writeln!(err, "{faults}")?;
            return Ok(ERROR);
        }
    };
    notes(&loaded, err)?;
    let Some(workload) = &what.effective else {
        return show_files(&loaded, &thresholds, what.output, out);
    };
    let (labels, annotations) = match (pairs(&what.labels), pairs(&what.annotation)) {
        (Ok(labels), Ok(annotations)) => (labels, annotations),
        (Err(why), _) | (_, Err(why)) => {
            writeln!(err, "{why}")?;
            return Ok(USAGE);
        }
    };
    let WorkloadId { namespace, kind, name } = workload;
    let found =
        thresholds.rules_for(&Facts { namespace, kind: *kind, name, labels: &labels, annotations: &annotations });
    for fault in &found.faults {
        writeln!(err, "{fault}")?;
    }
    if !found.faults.is_empty() {
        writeln!(err, "with such annotations Lastgood observes at most")?;
    }
    let text = rules_shown(&found.rules, what.output).map_err(io::Error::other)?;
    if what.output == Notation::Yaml {
        let by = match found.rules.policy.as_str() {
            "defaults" => "the defaults".to_owned(),
            policy => format!("policy {policy}"),
        };
        writeln!(out, "# {workload}: {by} of {}", loaded.thresholds.display())?;
    }
    out.write_all(text.as_bytes())?;
    Ok(OK)
}

fn show_files(loaded: &Loaded, thresholds: &Thresholds, notation: Notation, out: &mut dyn Write) -> io::Result<u8> {
    let settings = loaded.settings.shown(notation).map_err(io::Error::other)?;
    let rules = thresholds.shown(notation).map_err(io::Error::other)?;
    match notation {
        Notation::Yaml => {
            let file = loaded.file.as_ref().map_or_else(|| "the defaults".to_owned(), |f| f.display().to_string());
            writeln!(out, "# settings: {file}\n{settings}---")?;
            writeln!(out, "# thresholds: {}, hash {}\n{rules}", loaded.thresholds.display(), thresholds.hash())?;
        }
        Notation::Json => {
            writeln!(out, "{{\"settings\": {}, \"thresholds\": {}}}", settings.trim_end(), rules.trim_end())?;
        }
    }
    Ok(OK)
}

/// `config explain KEY`.
///
/// # Errors
/// Those of the writers.
pub fn explain(key: &str, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let explained = match explain_key(key) {
        Ok(explained) => explained,
        Err(why) => {
            writeln!(err, "{why}")?;
            return Ok(ERROR);
        }
    };
    writeln!(out, "{}   ({})\n  {}", explained.key, explained.file, explained.meaning)?;
    if !explained.allowed.is_empty() {
        writeln!(out, "\nValues    {}", explained.allowed.join(", "))?;
    }
    if let Some(default) = &explained.default {
        writeln!(out, "Default   {default}")?;
    }
    if !explained.keys.is_empty() {
        let width = explained.keys.iter().map(|(k, _)| k.len()).max().unwrap_or(0) + 3;
        writeln!(out, "\nKeys")?;
        for (key, meaning) in &explained.keys {
            writeln!(out, "  {key:width$}{meaning}")?;
        }
    }
    Ok(OK)
}

/// `schema`: the JSON Schema of thresholds.yaml.
///
/// # Errors
/// Those of the writer.
pub fn schema(out: &mut dyn Write) -> io::Result<u8> {
    out.write_all(schema_json().as_bytes())?;
    Ok(OK)
}

/// Reads both files. When the settings are faulty the thresholds beside them are read all the same,
/// so that all faults come at once.
fn read_both(
    path: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<(Loaded, Thresholds), Faults> {
    match Settings::load(path, env) {
        Ok(mut loaded) => {
            let (thresholds, text) = loaded.load_thresholds()?;
            if text.is_none() {
                let file = loaded.thresholds.display();
                loaded.notes.push(format!("there is no {file}, so the default thresholds hold"));
            }
            Ok((loaded, thresholds))
        }
        Err(mut faults) => {
            faults.0.extend(faults_of_thresholds_beside(path).0);
            Err(faults)
        }
    }
}

fn notes(loaded: &Loaded, err: &mut dyn Write) -> io::Result<()> {
    loaded.notes.iter().try_for_each(|note| writeln!(err, "{note}"))
}

fn pairs(texts: &[String]) -> Result<BTreeMap<String, String>, String> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("\"{text}\" is not KEY=VALUE: write it like app=jarvis-api")),
    };
    texts.iter().map(pair).collect()
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;

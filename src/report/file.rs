//! The report's file: its name, and writing it so that a reader sees all of it or nothing.

use super::{Context, ReportError, facts, markdown};
use crate::record::Incident;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Pure. `incident-<environment>-<YYYYMMDD>-<HHMMSS>-<id>.md`, with the time of the verdict (UTC), so that
/// writing the report again replaces it.
pub fn file_name(incident: &Incident, context: &Context) -> String {
    let name = facts::name(incident);
    let id = name.rsplit('-').next().unwrap_or(name);
    format!(
        "incident-{}-{}-{}.md",
        part(markdown::environment(incident, context), 40),
        incident.spec.decided.strftime("%Y%m%d-%H%M%S"),
        part(id, 24)
    )
}

/// Characters that are safe in every file system; never a separator or a dot.
fn part(text: &str, max: usize) -> String {
    let safe: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(max).collect();
    let safe = safe.trim_matches('-');
    if safe.is_empty() { "unknown".into() } else { safe.into() }
}

/// Renders the report and writes it into `folder` (temporary file, fsync, rename, fsync of the folder).
///
/// Blocking: call it where blocking is allowed. A report can be written again at any time.
///
/// # Errors
/// The folder cannot be made or the file cannot be written: read-only, full, broken. No half file is left.
pub fn write(folder: &Path, incident: &Incident, context: &Context) -> Result<PathBuf, ReportError> {
    fs::create_dir_all(folder).map_err(|source| ReportError::Folder { path: folder.to_owned(), source })?;
    let path = folder.join(file_name(incident, context));
    let text = markdown::render(incident, context);
    replace(folder, &path, text.as_bytes()).map_err(|source| ReportError::Write { path: path.clone(), source })?;
    Ok(path)
}

fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Two writers of one report must not share a temporary file.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!(".incident-{}-{number}.tmp", std::process::id()));
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // Some file systems cannot sync a folder; the rename itself has happened.
        let _ = File::open(folder).and_then(|f| f.sync_all());
        Ok(())
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    #[test]
    fn the_name_has_environment_date_time_and_id() {
        let incident = fixtures::verified();
        assert_eq!(file_name(&incident, &fixtures::context()), "incident-production-20261123-143602-4f2a9c.md");
    }

    #[test]
    fn a_name_never_leaves_the_folder() {
        let mut incident = fixtures::verified();
        incident.spec.environment = "../../etc/passwd".into();
        incident.metadata.name = Some("x-../..".into());
        let name = file_name(&incident, &fixtures::context());
        assert_eq!(name, "incident-etc-passwd-20261123-143602-unknown.md");
    }

    #[test]
    fn writing_again_replaces_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let nested = folder.path().join("logs/incidents");
        let mut incident = fixtures::verified();
        let first = write(&nested, &incident, &fixtures::context()).unwrap();
        incident.spec.explanation = "another sentence".into();
        let second = write(&nested, &incident, &fixtures::context()).unwrap();
        assert_eq!(first, second);
        assert_eq!(fs::read_to_string(&second).unwrap(), markdown::render(&incident, &fixtures::context()));
        assert_eq!(fs::read_dir(&nested).unwrap().count(), 1);
    }

    #[test]
    fn two_incidents_of_one_second_get_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let (one, mut two) = (fixtures::verified(), fixtures::verified());
        two.metadata.name = Some("jarvis-api-000000".into());
        let one = write(folder.path(), &one, &fixtures::context()).unwrap();
        let two = write(folder.path(), &two, &fixtures::context()).unwrap();
        assert_ne!(one, two);
        assert!(one.exists() && two.exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_value() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("in-the-way");
        fs::write(&file, "").unwrap();
        let error = write(&file.join("logs"), &fixtures::verified(), &fixtures::context()).unwrap_err();
        assert_eq!(error.label(), "folder");
        assert!(error.to_string().contains("in-the-way/logs"), "{error}");
    }

    #[test]
    fn fault_70_a_file_that_cannot_be_written_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let incident = fixtures::verified();
        // A folder that bears the report's name makes the rename fail on every system, as root too.
        let name = file_name(&incident, &fixtures::context());
        fs::create_dir(folder.path().join(&name)).unwrap();
        let error = write(folder.path(), &incident, &fixtures::context()).unwrap_err();
        assert_eq!(error.label(), "write");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

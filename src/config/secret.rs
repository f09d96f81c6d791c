use std::{io, path::PathBuf};

/// A secret's text. It has no `Debug` and no `Serialize`, so it cannot slip into a log or a report.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; only for building a request.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Where a secret is mounted. Read at each use, so that a rotated secret is taken up.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct SecretFile(pub PathBuf);

impl SecretFile {
    /// Reads it; a trailing line break is not part of a secret.
    ///
    /// # Errors
    /// The error names the path, never the content.
    pub fn read(&self) -> io::Result<Secret> {
        let text = std::fs::read_to_string(&self.0)
            .map_err(|e| io::Error::new(e.kind(), format!("cannot read the secret file {}: {e}", self.0.display())))?;
        Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
    }
}

use serde::{Deserialize, Serialize};
use std::fmt;

/// Names a revision by what is in its pod template, never by its number (numbers move on an undo).
///
/// Live: the first 12 hexadecimal digits of a SHA-256 over the canonical template
/// (see `cluster::template`). In a trace: any string.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Revision(pub String);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Revision {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

//! Pure. What serde found wrong in a tree, where, and on which way there.

use super::{
    fault::suggestion,
    tree::{Entry, Place},
};
use serde::de::{self, Expected, Unexpected};
use std::fmt;

/// What serde found, where, and on which way.
#[derive(Debug)]
pub(crate) struct Wrong(pub(super) Box<What>);

#[derive(Debug, Default)]
pub(crate) struct What {
    pub(super) message: String,
    pub(super) hint: String,
    pub(super) at: Option<Place>,
    /// Positions from the leaf to the root.
    pub(super) path: Vec<usize>,
    /// Keys from the leaf to the root; none for a fault that names its key already.
    pub(super) keys: Vec<String>,
    pub(super) names_its_key: bool,
    pub(super) missing: Option<&'static str>,
}

impl std::ops::Deref for Wrong {
    type Target = What;
    fn deref(&self) -> &What {
        &self.0
    }
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(Box::new(What { message: message.into(), hint: hint.into(), ..What::default() }))
    }

    pub(super) fn inside(mut self, position: usize, key: Option<&str>, at: Place) -> Self {
        self.0.at.get_or_insert(at);
        self.0.path.push(position);
        self.0.keys.extend(key.map(str::to_owned));
        self
    }

    /// Inside a choice, which is kept or cut as a whole.
    pub(super) fn within_choice(mut self, entry: &Entry, at: Place) -> Self {
        self.0.at.get_or_insert(at);
        self.0.path.clear();
        self.0.keys.push(entry.key.clone());
        self
    }

    pub(super) fn misses(&self, gone: &[(Place, String)]) -> bool {
        self.missing.is_some_and(|key| gone.iter().any(|(at, k)| Some(*at) == self.at && k == key))
    }

    pub(super) fn keys(&self) -> String {
        if self.names_its_key {
            return String::new();
        }
        let keys: Vec<&str> = self.keys.iter().rev().map(String::as_str).collect();
        keys.join(".")
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    /// A sentence of ours: `what is wrong; what to do`.
    fn custom<T: fmt::Display>(text: T) -> Self {
        let text = text.to_string();
        match text.rsplit_once("; ") {
            Some((what, todo)) => Self::new(what, todo),
            None => Self::new(text, ""),
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut wrong = Self::new(format!("unknown key \"{}\"", short(field)), suggestion(field, expected));
        wrong.0.names_its_key = true;
        wrong
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let near = suggestion(variant, expected);
        let hint = if near.starts_with("did") { near } else { format!("one of {}", expected.join(", ")) };
        Self::new(format!("\"{}\" is not known here", short(variant)), hint)
    }

    fn missing_field(field: &'static str) -> Self {
        let mut wrong = Self::new(format!("the key \"{field}\" is missing"), "add it");
        wrong.0.missing = Some(field);
        wrong
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {}", plain(found)), "")
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("{} is out of range, expected {expected}", plain(found)), "")
    }
}

fn plain(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Str(s) => format!("\"{}\"", short(s)),
        Unexpected::Unsigned(n) => n.to_string(),
        Unexpected::Signed(n) => n.to_string(),
        Unexpected::Float(n) => n.to_string(),
        Unexpected::Map => "a mapping".into(),
        Unexpected::Seq => "a list".into(),
        other => other.to_string(),
    }
}

/// A text as it may stand in a message: one line, not longer than a line.
pub(crate) fn short(text: &str) -> String {
    let mut out: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    out = out.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(60).is_some() {
        out.push('…');
    }
    out
}

//! Pure. Why the API server refuses a request, in the words and codes of the real one.

use super::resource::{Key, Resource};
use serde_json::{Value, json};
use std::fmt;

/// A refused request.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// The word that clients decide by.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// `details` of the Status object.
    pub details: Value,
}

impl Refusal {
    /// A refusal without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    fn about(code: u16, reason: &'static str, key: &Key, message: impl fmt::Display) -> Self {
        let message = format!("{} \"{}\" {message}", key.resource.qualified(), key.name);
        Self { details: named(key, key.resource.plural()), ..Self::new(code, reason, message) }
    }

    pub(super) fn not_found(key: &Key) -> Self {
        Self::about(404, "NotFound", key, "not found")
    }

    pub(super) fn exists(key: &Key) -> Self {
        Self::about(409, "AlreadyExists", key, "already exists")
    }

    pub(super) fn conflict(key: &Key, why: &str) -> Self {
        let about = Self::about(409, "Conflict", key, why);
        Self {
            message: format!("Operation cannot be fulfilled on {}", about.message.replacen("\" ", "\": ", 1)),
            ..about
        }
    }

    pub(super) fn stale(key: &Key) -> Self {
        Self::conflict(
            key,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub(super) fn forbidden(key: &Key, why: &str) -> Self {
        Self::about(403, "Forbidden", key, format_args!("is forbidden: {why}"))
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// `causes`: field and what is wrong with it.
    pub(super) fn invalid(key: &Key, causes: &[(String, String)]) -> Self {
        let said: Vec<String> = causes.iter().map(|(field, why)| format!("{field}: {why}")).collect();
        let said = if let [one] = &said[..] { one.clone() } else { format!("[{}]", said.join(", ")) };
        let group = key.resource.group();
        let kind =
            if group.is_empty() { key.resource.kind().to_owned() } else { format!("{}.{group}", key.resource.kind()) };
        let mut details = named(key, key.resource.kind());
        details["causes"] = causes
            .iter()
            .map(|(field, why)| {
                let reason = if why.starts_with("Required value") { "FieldValueRequired" } else { "FieldValueInvalid" };
                json!({"reason": reason, "message": why, "field": field})
            })
            .collect();
        Self { details, ..Self::new(422, "Invalid", format!("{kind} \"{}\" is invalid: {said}", key.name)) }
    }

    /// A patch that cannot be applied, among them one whose `test` fails: the real server says no more.
    pub(super) fn unprocessable_patch() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self { details: json!({}), ..Self::new(422, "Invalid", message) }
    }

    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(super) fn no_such_namespace(namespace: &str) -> Self {
        Self::not_found(&Key::new(Resource::Namespaces, "", namespace))
    }

    /// The Status object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}

fn named(key: &Key, kind: &str) -> Value {
    let mut details = json!({"name": key.name, "kind": kind});
    if !key.resource.group().is_empty() {
        details["group"] = key.resource.group().into();
    }
    details
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.message, self.code, self.reason)
    }
}

impl std::error::Error for Refusal {}

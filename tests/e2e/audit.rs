//! The API server's audit log: the oracle for what was written, by whom and when.
use crate::{
    fail::{Context, Result},
    plane::DAEMON,
};
use jiff::Timestamp;
use serde_json::Value;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    fs::File,
    io::{AsyncBufReadExt, BufReader},
};

/// A Deployment of this name is never there; whoever asks for it sets a mark in the log.
pub(crate) const MARK: &str = "a-mark-in-the-audit-log";

/// One finished request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) at: Timestamp,
    pub(crate) user: String,
    pub(crate) verb: String,
    /// `deployments`, `pods/eviction`, …
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) code: u16,
    pub(crate) dry_run: bool,
    /// A watch that begins with everything there is: the first one, or one after 410.
    pub(crate) relists: bool,
    /// The body, for writes to apps and our own objects.
    pub(crate) body: Value,
    /// The object afterwards.
    pub(crate) answer: Value,
}

impl Request {
    pub(crate) fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    pub(crate) fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Whether it writes to a workload (not to its status).
    pub(crate) fn writes_workload(&self) -> bool {
        let kind = self.resource.split('/').next().unwrap_or_default();
        let whole = self.resource == kind || self.resource.ends_with("/scale");
        self.is_write() && whole && matches!(kind, "deployments" | "statefulsets" | "daemonsets")
    }
}

/// Everything the daemon asked for, every write to a workload by anyone, and marks.
#[derive(Default)]
pub(crate) struct Audit {
    requests: Mutex<Vec<Request>>,
}

impl Audit {
    /// Follows the log of an API server, also when it restarts, until the task is dropped.
    pub(crate) async fn follow(self: &Arc<Self>, path: &Path) -> Result<tokio::task::JoinHandle<()>> {
        let mut lines = BufReader::new(File::open(path).await.context(path.display())?);
        let sink = self.clone();
        Ok(tokio::spawn(async move {
            let mut line = String::new();
            loop {
                match lines.read_line(&mut line).await {
                    // A line may be half written: what is there stays in `line` until the rest comes.
                    Ok(n) if n > 0 && line.ends_with('\n') => {
                        let parsed = interesting(&line).then(|| serde_json::from_str(&line).ok()).flatten();
                        if let Some(request) = parsed.and_then(|event| read(&event)) {
                            sink.lock().push(request);
                        }
                        line.clear();
                    }
                    Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }))
    }

    /// The requests that `wanted` selects, in order.
    pub(crate) fn select(&self, wanted: impl Fn(&Request) -> bool) -> Vec<Request> {
        self.lock().iter().filter(|r| wanted(r)).cloned().collect()
    }

    /// What the daemon asked for in a namespace.
    pub(crate) fn by_daemon(&self, namespace: &str, wanted: impl Fn(&Request) -> bool) -> Vec<Request> {
        self.select(|r| is_daemon(&r.user) && r.namespace == namespace && wanted(r))
    }

    /// The patches of the daemon that changed the template of a workload.
    pub(crate) fn undos(&self, namespace: &str, name: &str) -> Vec<Request> {
        self.by_daemon(namespace, |r| {
            r.writes_workload() && r.name == name && r.succeeded() && !r.dry_run && touches_template(&r.body)
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shipped account, or one that a story made beside it (`lastgood-27`).
pub(crate) fn is_daemon(user: &str) -> bool {
    user.starts_with(DAEMON)
}

/// Whether a request body changes the pod template.
pub(crate) fn touches_template(body: &Value) -> bool {
    match body {
        Value::Array(operations) => operations.iter().any(|o| {
            o["op"] != "test" && o["path"].as_str().is_some_and(|p| p == "/spec" || p.starts_with("/spec/template"))
        }),
        _ => !body["spec"]["template"].is_null(),
    }
}

/// A cheap look before parsing: most lines are the controllers' own.
fn interesting(line: &str) -> bool {
    line.contains(DAEMON)
        || ["\"deployments\"", "\"statefulsets\"", "\"daemonsets\""].iter().any(|kind| line.contains(kind))
}

fn read(event: &Value) -> Option<Request> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let object = &event["objectRef"];
    let user = text(&event["user"]["username"]);
    let verb = text(&event["verb"]);
    let mut resource = text(&object["resource"]);
    if let Some(sub) = object["subresource"].as_str() {
        resource = format!("{resource}/{sub}");
    }
    let mut request = Request {
        at: event["requestReceivedTimestamp"].as_str()?.parse().ok()?,
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        code: event["responseStatus"]["code"].as_u64().and_then(|c| c.try_into().ok()).unwrap_or(0),
        dry_run: event["requestURI"].as_str().is_some_and(|u| u.contains("dryRun=")),
        relists: event["stage"] == "ResponseStarted"
            && event["requestURI"].as_str().is_some_and(|u| u.contains("sendInitialEvents=true")),
        body: Value::Null,
        answer: Value::Null,
        user,
        verb,
        resource,
    };
    if !is_daemon(&request.user) && !request.writes_workload() && request.name != MARK {
        return None;
    }
    if is_daemon(&request.user) && request.is_write() {
        request.body = event["requestObject"].clone();
        request.answer = event["responseObject"].clone();
    }
    Some(request)
}

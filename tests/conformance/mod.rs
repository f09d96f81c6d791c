//! What an API server and its controllers must do, as far as Lastgood relies on it: cases against a
//! `kube::Client` only, with the same expectations on the simulated cluster and on a real control plane.
//! Where the two differ, the simulation is wrong.
//!
//! A case is an async function that panics when it does not hold. Each has a namespace of its own.

mod apply;
mod handback;
mod objects;
mod patches;
mod watches;
mod workloads;

use futures::{FutureExt, future::LocalBoxFuture};
use http::{Method, Request};
use kube::{Client, core::Status};
use serde_json::{Value, json};
use std::{panic::AssertUnwindSafe, time::Duration};
use tokio::time::Instant;

/// Longest that controllers may take for one step.
const PATIENCE: Duration = Duration::from_secs(60);

/// One case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    run: fn(Ground) -> LocalBoxFuture<'static, ()>,
}

/// Names cases after their functions.
macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        pub(super) const CASES: &[super::Case] =
            &[$(super::Case { name: stringify!($case), run: |ground| Box::pin($case(ground)) }),+];
    };
}
use cases;

/// Every case.
pub(crate) fn all() -> Vec<&'static Case> {
    [objects::CASES, patches::CASES, watches::CASES, apply::CASES, handback::CASES, workloads::CASES]
        .into_iter()
        .flatten()
        .collect()
}

impl Case {
    /// Plays the case in a new namespace; the error is what did not hold.
    pub(crate) async fn play(&'static self, client: Client) -> Result<(), String> {
        let name = format!("conf-{}", self.name.replace('_', "-")).chars().take(60).collect::<String>();
        let name = name.trim_end_matches('-').to_owned();
        let ground = Ground { client, namespace: name.clone() };
        let namespace = json!({"metadata": {"name": name}});
        ground.post("/api/v1/namespaces", "", &namespace).await.map_err(|s| format!("no namespace: {}", s.message))?;
        let played = AssertUnwindSafe((self.run)(ground.clone())).catch_unwind().await;
        // What it left behind must not disturb the others; that it goes away is a case of its own.
        let _ = ground.delete(&format!("/api/v1/namespaces/{name}")).await;
        played.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_else(|| "panicked".into())
        })
    }
}

/// Where a case plays.
#[derive(Clone)]
pub(crate) struct Ground {
    client: Client,
    namespace: String,
}

/// An object, or why the request was refused.
type Answer = Result<Value, Status>;

impl Ground {
    /// The collection of a kind in the case's namespace: `deployments`, `pods`, …
    fn at(&self, plural: &str) -> String {
        let group = match plural.split(['/', '?']).next().unwrap_or_default() {
            "deployments" | "replicasets" | "statefulsets" | "daemonsets" | "controllerrevisions" => "/apis/apps/v1",
            "leases" => "/apis/coordination.k8s.io/v1",
            "incidents" => "/apis/lastgood.dev/v1",
            "events" => "/apis/events.k8s.io/v1",
            "poddisruptionbudgets" => "/apis/policy/v1",
            _ => "/api/v1",
        };
        format!("{group}/namespaces/{}/{plural}", self.namespace)
    }

    async fn send(&self, method: Method, url: &str, content_type: &str, body: Option<&Value>) -> Answer {
        let bytes = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder().method(method).uri(url).header("content-type", content_type).body(bytes);
        match self.client.request::<Value>(request.expect("a request")).await {
            Ok(object) => Ok(object),
            Err(kube::Error::Api(status)) => Err(*status),
            Err(error) => panic!("{url}: {error}"),
        }
    }

    async fn get(&self, url: &str) -> Answer {
        self.send(Method::GET, url, "application/json", None).await
    }

    /// `manager` may be empty.
    async fn post(&self, url: &str, manager: &str, object: &Value) -> Answer {
        self.send(Method::POST, &managed(url, manager), "application/json", Some(object)).await
    }

    async fn put(&self, url: &str, manager: &str, object: &Value) -> Answer {
        self.send(Method::PUT, &managed(url, manager), "application/json", Some(object)).await
    }

    async fn delete(&self, url: &str) -> Answer {
        self.send(Method::DELETE, url, "application/json", None).await
    }

    async fn json_patch(&self, url: &str, manager: &str, operations: &Value) -> Answer {
        self.send(Method::PATCH, &managed(url, manager), "application/json-patch+json", Some(operations)).await
    }

    async fn merge(&self, url: &str, manager: &str, patch: &Value) -> Answer {
        self.send(Method::PATCH, &managed(url, manager), "application/merge-patch+json", Some(patch)).await
    }

    async fn strategic(&self, url: &str, manager: &str, patch: &Value) -> Answer {
        let content_type = "application/strategic-merge-patch+json";
        self.send(Method::PATCH, &managed(url, manager), content_type, Some(patch)).await
    }

    /// Server-side apply without force.
    async fn apply(&self, url: &str, manager: &str, config: &Value) -> Answer {
        self.send(Method::PATCH, &managed(url, manager), "application/apply-patch+yaml", Some(config)).await
    }

    /// Creates an object of a kind as `tester`; it must be taken.
    async fn create(&self, plural: &str, object: &Value) -> Value {
        taken(self.post(&self.at(plural), "tester", object).await)
    }

    /// Reads an object, which must be there.
    async fn read(&self, place: &str) -> Value {
        taken(self.get(&self.at(place)).await)
    }

    /// The items of a list.
    async fn items(&self, place: &str) -> Vec<Value> {
        let list = self.read(place).await;
        list["items"].as_array().cloned().expect("items")
    }

    /// Waits until `check` says that it holds; it says else what it saw.
    async fn until(&self, what: &str, check: impl AsyncFn() -> Result<(), String>) {
        let deadline = Instant::now() + PATIENCE;
        let mut turn = tokio::time::interval(Duration::from_millis(100));
        loop {
            turn.tick().await;
            match check().await {
                Ok(()) => return,
                Err(seen) => assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}; last seen: {seen}"),
            }
        }
    }

    /// Waits until the object is as `wanted` says.
    async fn until_is(&self, place: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let url = self.at(place);
        self.until(&format!("{place}: {what}"), async || {
            let object = self.get(&url).await.map_err(|s| s.message)?;
            if wanted(&object) { Ok(()) } else { Err(format!("spec {} status {}", object["spec"], object["status"])) }
        })
        .await;
        self.read(place).await
    }
}

fn managed(url: &str, manager: &str) -> String {
    if manager.is_empty() {
        return url.to_owned();
    }
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}fieldManager={manager}")
}

fn taken(answer: Answer) -> Value {
    answer.unwrap_or_else(|status| panic!("refused: {} ({} {})", status.message, status.code, status.reason))
}

fn refused(answer: Answer) -> Status {
    match answer {
        Ok(object) => panic!("it was taken: {object}"),
        Err(status) => status,
    }
}

/// Code and reason of a refusal.
fn code(answer: Answer) -> (u16, String) {
    let status = refused(answer);
    (status.code, status.reason)
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).expect("a version")
}

/// A complete workload: one container `app` on port 8080.
fn workload(kind: &str, name: &str, image: &str) -> Value {
    let labels = json!({"app": name});
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "app", "image": image, "ports": [{"containerPort": 8080}]}],
                },
            },
        },
    });
    if kind == "StatefulSet" {
        object["spec"]["serviceName"] = name.into();
    }
    object
}

fn deployment(name: &str, image: &str) -> Value {
    workload("Deployment", name, image)
}

const TEMPLATE_IMAGE: &str = "/spec/template/spec/containers/0/image";

fn image(object: &Value) -> &str {
    object.pointer(TEMPLATE_IMAGE).and_then(Value::as_str).unwrap_or_default()
}

/// A strategic merge patch that deploys an image.
fn deploys(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}})
}

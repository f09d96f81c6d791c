//! The API server: what a `kube::Client` can ask of the store, the faults on the way, and the audit log.

mod reads;
mod route;
mod watching;
mod writes;

#[cfg(test)]
mod tests;

use super::{
    Fault, Key, Refusal, Resource, Sim, When, World, Written,
    audit::{Asked, Audited},
    lock,
};
use axum::body::Body;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use reads::Form;
use route::{Query, Route};
use serde_json::{Value, json};
use std::{
    io::{Error, ErrorKind},
    sync::Arc,
    task::{Context, Poll},
};
use watching::Watch;
use writes::Write;

/// The API server as one user reaches it.
#[derive(Clone)]
pub(super) struct Front {
    sim: Sim,
    who: Arc<str>,
}

impl Front {
    pub(super) fn new(sim: Sim, who: &str) -> Self {
        Self { sim, who: who.into() }
    }

    /// Takes a request through its faults and crash points.
    async fn carry(self, request: Request<kube::client::Body>) -> Result<Response<Body>, Error> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.map_err(Error::other)?;
        let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap_or_default() };
        let query = Query::of(head.uri.query());
        let route = Route::of(head.uri.path());
        let asked = asked(&self.who, &head, route.as_ref(), &query, &body);
        self.sim.alive(&self.who).await;
        let number = asked.is_write().then(|| {
            let what = format!("{} {}", head.method, asked.url);
            self.sim.faults_quietly(|faults| faults.note(&self.who, Written { what, body: body.clone() }))
        });
        let crash = async |when: When| {
            if let Some(number) = number {
                self.sim.crash_point(&self.who, number, when).await;
            }
        };
        crash(When::BeforeSend).await;
        let fate = self.sim.faults_quietly(|faults| faults.fate(&asked, false));
        match &fate {
            Some(Fault::Refuse(code, later)) => return Ok(refused(&invented(*code, *later))),
            Some(Fault::ResetBefore) => return Err(ErrorKind::ConnectionReset.into()),
            Some(Fault::Delay(time)) => tokio::time::sleep(*time).await,
            Some(Fault::Lost) => std::future::pending().await,
            Some(Fault::Garbage(text)) => return Ok(Response::new(Body::from(text.clone()))),
            _ => {}
        }
        // Somebody who died on the way says nothing any more.
        self.sim.alive(&self.who).await;
        let answer = self.answer(&asked, &head, route.as_ref(), &query, &body);
        crash(When::BeforeAnswer).await;
        match fate {
            Some(Fault::Deny(code)) => return Ok(refused(&invented(code, None))),
            Some(Fault::ResetAfter) => return Err(ErrorKind::ConnectionReset.into()),
            Some(Fault::DelayAnswer(time)) => tokio::time::sleep(time).await,
            Some(Fault::LostAnswer) => std::future::pending().await,
            Some(Fault::Truncated) => {
                let whole = axum::body::to_bytes(answer.into_body(), usize::MAX).await.map_err(Error::other)?;
                return Ok(Response::new(Body::from(whole.slice(..whole.len() / 2))));
            }
            _ => {}
        }
        crash(When::AfterAnswer).await;
        Ok(answer)
    }

    fn answer(
        &self,
        asked: &Asked,
        head: &Parts,
        route: Option<&Route>,
        query: &Query,
        body: &Value,
    ) -> Response<Body> {
        let done = match route {
            Some(route) => self.dispatch(asked, head, route, query, body),
            None => self.elsewhere(head, body),
        };
        let (code, shown) = match &done {
            Ok(Done::Object(code, object)) => (*code, object.clone()),
            Ok(Done::Stream(_)) => (200, Value::Null),
            Err(refusal) => (refusal.code, refusal.status()),
        };
        let is_write = asked.is_write() || asked.dry_run;
        let [body, answer] = [body, &shown].map(|v| if is_write { v.clone() } else { Value::Null });
        let at = self.sim.now();
        lock(&self.sim.0.audit).push(Audited { at, asked: asked.clone(), code, body, answer });
        match done {
            Ok(Done::Stream(watch)) => {
                let lines = futures::stream::unfold(watch, |mut watch| async move {
                    let line = watch.next().await?;
                    Some((Ok::<_, Error>(line), watch))
                });
                json_response(200, Body::from_stream(lines))
            }
            Err(refusal) => refused(&refusal),
            Ok(Done::Object(code, object)) => json_response(code, Body::from(object.to_string())),
        }
    }

    /// Requests about stored objects.
    fn dispatch(
        &self,
        asked: &Asked,
        head: &Parts,
        route: &Route,
        query: &Query,
        body: &Value,
    ) -> Result<Done, Refusal> {
        self.allowed(asked, route)?;
        let form = Form::of(head.headers.get(header::ACCEPT));
        if route.resource.is_custom() && !self.sim.with(|world| is_served(world, route.resource)) {
            return Err(no_such_path());
        }
        if asked.verb == "watch" {
            return Ok(Done::Stream(Box::new(Watch::open(&self.sim, asked, route, query, form)?)));
        }
        if head.method == Method::GET {
            let quorum = query.get("resourceVersion").is_none();
            let object = self.sim.read(&self.who, quorum, |store| match route.key() {
                Ok(key) => reads::version(store, query).and_then(|_| reads::get(store, &key, form)),
                Err(_) => reads::list(store, route, query, form),
            })?;
            return Ok(Done::Object(200, object));
        }
        let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or_default();
        let manager = query.get("fieldManager").map_or_else(|| user_agent(head), str::to_owned);
        let write = Write { route, query, manager: &manager, body, form };
        let (code, object) = self.sim.with(|world| {
            let store = &mut world.store;
            match (&head.method, &route.name, route.subresource.as_deref()) {
                (&Method::POST, None, _) => write.create(store),
                (&Method::POST, Some(_), Some("eviction")) if route.resource == Resource::Pods => write.evict(store),
                (&Method::PUT, Some(_), _) => write.replace(store),
                (&Method::PATCH, Some(_), _) => write.patch(store, content_type),
                (&Method::DELETE, Some(_), None) => write.delete(store),
                (&Method::DELETE, None, _) => write.delete_all(store),
                _ => Err(Refusal::new(
                    405,
                    "MethodNotAllowed",
                    "the server does not allow this method on the requested resource",
                )),
            }
        })?;
        Ok(Done::Object(code, object))
    }

    fn allowed(&self, asked: &Asked, route: &Route) -> Result<(), Refusal> {
        let mut resource = route.resource.qualified();
        if let Some(subresource) = &route.subresource {
            resource = format!("{resource}/{subresource}");
        }
        if !lock(&self.sim.0.faults).is_denied(&self.who, asked.verb, &resource) {
            return Ok(());
        }
        let place = match &route.namespace {
            Some(namespace) => format!("in the namespace {namespace:?}"),
            None => "at the cluster scope".to_owned(),
        };
        let key = Key::new(route.resource, asked.namespace.clone(), asked.name.clone());
        let why = format!(
            "User {:?} cannot {} resource {:?} in API group {:?} {place}",
            self.who,
            asked.verb,
            route.resource.plural(),
            route.resource.group()
        );
        Err(Refusal::forbidden(&key, &why))
    }

    /// Requests that are about nothing stored.
    fn elsewhere(&self, head: &Parts, body: &Value) -> Result<Done, Refusal> {
        match (&head.method, head.uri.path()) {
            (&Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews") => {
                let asked = &body["spec"]["resourceAttributes"];
                let text = |field: &str| asked[field].as_str().unwrap_or_default();
                let mut resource = text("resource").to_owned();
                for (sign, field) in [('.', "group"), ('/', "subresource")] {
                    if !text(field).is_empty() {
                        resource = format!("{resource}{sign}{}", text(field));
                    }
                }
                let allowed = !lock(&self.sim.0.faults).is_denied(&self.who, text("verb"), &resource);
                let mut review = body.clone();
                review["status"] = json!({"allowed": allowed});
                Ok(Done::Object(201, review))
            }
            (&Method::GET, "/version") => Ok(Done::Object(
                200,
                json!({
                    "major": "1", "minor": "37", "gitVersion": "v1.37.2", "gitCommit": "", "gitTreeState": "clean",
                    "buildDate": "", "goVersion": "", "compiler": "gc", "platform": "linux/amd64",
                }),
            )),
            _ => Err(no_such_path()),
        }
    }
}

/// What a request leads to.
enum Done {
    Object(u16, Value),
    Stream(Box<Watch>),
}

/// Whether a CustomResourceDefinition of the kind is installed.
fn is_served(world: &World, resource: Resource) -> bool {
    let crd = Key::new(Resource::CustomResourceDefinitions, "", resource.qualified());
    world.store.get(&crd).is_some()
}

fn no_such_path() -> Refusal {
    Refusal::new(404, "NotFound", "404 page not found")
}

fn asked(who: &str, head: &Parts, route: Option<&Route>, query: &Query, body: &Value) -> Asked {
    let named = route.is_some_and(|r| r.name.is_some());
    let verb = match head.method.as_str() {
        "GET" if query.is("watch") => "watch",
        "GET" if named => "get",
        "GET" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if named => "delete",
        "DELETE" => "deletecollection",
        _ => "other",
    };
    let of = |part: fn(&Route) -> Option<&String>| route.and_then(part).cloned().unwrap_or_default();
    let created = || body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    Asked {
        who: who.to_owned(),
        verb,
        resource: route.map(|r| r.resource),
        subresource: of(|r| r.subresource.as_ref()),
        namespace: of(|r| r.namespace.as_ref()),
        name: if named || verb != "create" { of(|r| r.name.as_ref()) } else { created() },
        dry_run: query.get("dryRun").is_some(),
        url: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
    }
}

/// Without a manager's name, the program's name is taken.
fn user_agent(head: &Parts) -> String {
    let agent = head.headers.get(header::USER_AGENT).and_then(|a| a.to_str().ok()).unwrap_or("unknown");
    agent.split('/').next().unwrap_or(agent).to_owned()
}

/// An answer that only a fault gives.
fn invented(code: u16, later: Option<u32>) -> Refusal {
    let (reason, message) = match code {
        401 => ("Unauthorized", "Unauthorized"),
        403 => ("Forbidden", "forbidden"),
        409 => {
            ("Conflict", "the object has been modified; please apply your changes to the latest version and try again")
        }
        410 => ("Expired", "too old resource version"),
        429 => ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504 => ("Timeout", "request did not complete within the allotted timeout"),
        _ => ("InternalError", "an error on the server has prevented the request from succeeding"),
    };
    let details = later.map_or(Value::Null, |seconds| json!({"retryAfterSeconds": seconds}));
    Refusal { details, ..Refusal::new(code, reason, message) }
}

fn json_response(code: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refused(refusal: &Refusal) -> Response<Body> {
    if *refusal == no_such_path() {
        // The one answer that is no Status.
        let mut response = json_response(404, Body::from("404 page not found\n"));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        return response;
    }
    let mut response = json_response(refusal.code, Body::from(refusal.status().to_string()));
    if let Some(seconds) = refusal.details["retryAfterSeconds"].as_u64() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

impl tower::Service<Request<kube::client::Body>> for Front {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        Box::pin(self.clone().carry(request))
    }
}

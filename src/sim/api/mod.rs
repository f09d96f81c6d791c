//! The API server: what a `kube::Client` can ask of the store.

mod route;
mod watching;

use super::{Manager, Refusal, Sim};
use axum::body::Body;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use route::{Query, Route};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

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

    async fn answer(self, request: Request<kube::client::Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let query = Query::of(head.uri.query());
        let Ok(body) = body.collect_bytes().await else { return refused(&Refusal::bad_request("no body")) };
        let Some(route) = Route::of(head.uri.path()) else {
            return refused(&Refusal::new(404, "NotFound", "404 page not found"));
        };
        if head.method == Method::GET && query.is("watch") {
            return match watching::watch(&self.sim, &route, &query) {
                Ok(body) => Response::new(body),
                Err(refusal) => refused(&refusal),
            };
        }
        let done = self.sim.with(|world| {
            let manager = query.get("fieldManager").unwrap_or(&self.who);
            match (&head.method, &route.name) {
                (&Method::GET, Some(_)) => {
                    let key = route.key()?;
                    world.store.get(&key).cloned().ok_or_else(|| Refusal::not_found(&key))
                }
                (&Method::GET, None) => {
                    let items: Vec<Value> =
                        world.store.list(route.resource, route.namespace.as_deref()).map(|(_, o)| o.clone()).collect();
                    Ok(json!({
                        "apiVersion": route.resource.api_version(), "kind": format!("{}List", route.resource.kind()),
                        "metadata": {"resourceVersion": world.store.revision().to_string()}, "items": items,
                    }))
                }
                (&Method::POST, None) => {
                    let object = serde_json::from_slice(&body).map_err(|e| Refusal::bad_request(e.to_string()))?;
                    world.store.create(
                        route.resource,
                        route.namespace.as_deref().unwrap_or_default(),
                        object,
                        Manager(manager),
                    )
                }
                (&Method::DELETE, Some(_)) => {
                    let deleted = world.store.delete(&route.key()?)?;
                    Ok(deleted.unwrap_or_else(|| json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})))
                }
                _ => Err(Refusal::new(405, "MethodNotAllowed", "not yet")),
            }
        });
        match done {
            Ok(object) => json_response(200, &object),
            Err(refusal) => refused(&refusal),
        }
    }
}

fn json_response(code: u16, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

fn refused(refusal: &Refusal) -> Response<Body> {
    json_response(refusal.code, &refusal.status())
}

impl tower::Service<Request<kube::client::Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let front = self.clone();
        Box::pin(async move { Ok(front.answer(request).await) })
    }
}

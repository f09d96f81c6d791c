//! Pure. What a URL asks for.

use crate::sim::{Key, Refusal, Resource};
use std::collections::BTreeMap;

/// The place that a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) resource: Resource,
    /// `None`: all namespaces.
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
}

impl Route {
    /// The place of a path like `/apis/apps/v1/namespaces/shop/deployments/web/status`.
    pub(super) fn of(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/').filter(|p| !p.is_empty());
        let (group, version) = match parts.next()? {
            "api" => ("", parts.next()?),
            "apis" => (parts.next()?, parts.next()?),
            _ => return None,
        };
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match &rest[..] {
            // `/namespaces/x` itself and its `status` are about the namespace.
            ["namespaces", namespace, inside @ ..] if !matches!(inside, [] | ["status" | "finalize"]) => {
                (Some((*namespace).to_owned()), inside)
            }
            all => (None, all),
        };
        let (plural, rest) = rest.split_first()?;
        let resource = Resource::of_url(group, version, plural)?;
        let name = rest.first().map(|name| (*name).to_owned());
        let subresource = rest.get(1..).filter(|s| !s.is_empty()).map(|s| s.join("/"));
        Some(Self { resource, namespace, name, subresource })
    }

    /// The object.
    pub(super) fn key(&self) -> Result<Key, Refusal> {
        let name = self.name.clone().ok_or_else(|| {
            Refusal::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        })?;
        Ok(Key::new(self.resource, self.namespace.clone().unwrap_or_default(), name))
    }
}

/// The parameters of a request.
#[derive(Debug, Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn of(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect(),
        )
    }

    /// A parameter that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let parse =
            |text: &str| text.parse().map_err(|_| Refusal::bad_request(format!("{name}: invalid value {text:?}")));
        self.get(name).map(parse).transpose()
    }
}

/// Undoes `+` and `%xx`.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
    while i < bytes.len() {
        let hex = (bytes[i] == b'%').then(|| text.get(i + 1..i + 3)).flatten();
        match (bytes[i], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (_, Some(byte)) => {
                out.push(byte);
                i += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_object() {
        let route = Route::of("/apis/apps/v1/namespaces/shop/deployments/web/status").expect("a route");
        assert_eq!(route.key().expect("a name"), Key::new(Resource::Deployments, "shop", "web"));
        assert_eq!(route.subresource.as_deref(), Some("status"));
        let route = Route::of("/api/v1/namespaces/shop").expect("a route");
        assert_eq!((route.resource, route.name.as_deref()), (Resource::Namespaces, Some("shop")));
        let route = Route::of("/api/v1/namespaces/shop/pods").expect("a route");
        assert_eq!((route.resource, route.name, route.namespace.as_deref()), (Resource::Pods, None, Some("shop")));
        assert_eq!(Route::of("/apis/apps/v1/deployments").and_then(|r| r.namespace), None);
        assert_eq!(Route::of("/apis/nobody.example/v1/things"), None);
    }

    #[test]
    fn parameters_are_decoded() {
        let query = Query::of(Some("labelSelector=app%3Dweb%2Ctier+in+%28a%29&watch=true&limit=5&x="));
        assert_eq!(query.get("labelSelector"), Some("app=web,tier in (a)"));
        assert!(query.is("watch") && query.get("x").is_none());
        assert_eq!(query.number("limit"), Ok(Some(5)));
    }
}

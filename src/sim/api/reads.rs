//! Gets and lists.

use super::route::{Query, Route};
use crate::sim::{Key, Refusal, Store, selector::Selector};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// How objects are to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
}

impl Form {
    pub(super) fn of(accept: Option<&http::HeaderValue>) -> Self {
        let accept = accept.and_then(|a| a.to_str().ok()).unwrap_or_default();
        if accept.contains("as=PartialObjectMetadata") { Self::Metadata } else { Self::Whole }
    }

    pub(super) fn show(self, object: &Value) -> Value {
        match self {
            Self::Whole => object.clone(),
            Self::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
            }),
        }
    }
}

pub(super) fn get(store: &Store, key: &Key, form: Form) -> Result<Value, Refusal> {
    store.get(key).map(|object| form.show(object)).ok_or_else(|| Refusal::not_found(key))
}

/// The version that a request wants at least; refused when it is in the future.
pub(super) fn version(store: &Store, query: &Query) -> Result<u64, Refusal> {
    let wanted = query.number("resourceVersion")?.unwrap_or(0);
    let current = store.revision();
    if wanted > current {
        let message = format!("Too large resource version: {wanted}, current: {current}");
        let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
        let details = json!({"causes": causes, "retryAfterSeconds": 1});
        return Err(Refusal { details, ..Refusal::new(504, "Timeout", message) });
    }
    Ok(wanted)
}

pub(super) fn list(store: &Store, route: &Route, query: &Query, form: Form) -> Result<Value, Refusal> {
    let selector = Selector::of_request(query.get("labelSelector"), query.get("fieldSelector"))?;
    let namespace = route.namespace.as_deref();
    let limit = query.number("limit")?.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let token = query.get("continue").map(Token::read).transpose()?;
    if token.is_some() && query.get("resourceVersion").is_some_and(|v| v != "0") {
        return Err(Refusal::bad_request("specifying resource version is not allowed when using continue"));
    }
    let wanted = version(store, query)?;
    let exact = query.get("resourceVersionMatch") == Some("Exact");
    let revision = match &token {
        Some(token) => token.revision,
        None if exact => wanted,
        None => store.revision(),
    };
    let old: Option<BTreeMap<Key, Arc<Value>>> = if revision == store.revision() {
        None
    } else {
        Some(store.list_at(revision, route.resource, namespace).ok_or_else(|| {
            Refusal::expired(if exact {
                "The resourceVersion for the provided list is too old."
            } else {
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter."
            })
        })?)
    };
    let all: Box<dyn Iterator<Item = (&Key, &Value)>> = match &old {
        Some(old) => Box::new(old.iter().map(|(key, object)| (key, object.as_ref()))),
        None => Box::new(store.list(route.resource, namespace)),
    };
    let after = token.map(|t| (t.namespace, t.name));
    let mut found = all
        .filter(|(key, _)| after.as_ref().is_none_or(|(ns, name)| (&key.namespace, &key.name) > (ns, name)))
        .filter(|(_, object)| selector.selects(object));
    let page: Vec<(&Key, &Value)> = found.by_ref().take(if limit == 0 { usize::MAX } else { limit }).collect();
    let rest = found.count();
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), revision.to_string().into());
    if let Some((last, _)) = page.last().filter(|_| rest > 0) {
        let token = Token { revision, namespace: last.namespace.clone(), name: last.name.clone() };
        metadata.insert("continue".into(), token.write().into());
        if selector.is_empty() {
            metadata.insert("remainingItemCount".into(), rest.into());
        }
    }
    let items: Vec<Value> = page
        .into_iter()
        .map(|(_, object)| {
            let mut item = form.show(object);
            // Items of a typed list do not repeat what the list says.
            if form == Form::Whole && !route.resource.is_custom() {
                let item = item.as_object_mut();
                item.into_iter().for_each(|map| map.retain(|key, _| key != "kind" && key != "apiVersion"));
            }
            item
        })
        .collect();
    let (kind, api_version) = match form {
        Form::Whole => (format!("{}List", route.resource.kind()), route.resource.api_version()),
        Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
    };
    Ok(json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items}))
}

/// Where a list goes on.
struct Token {
    revision: u64,
    namespace: String,
    name: String,
}

impl Token {
    /// Hexadecimal, so that nobody is tempted to read it.
    fn write(&self) -> String {
        let text = format!("{}/{}/{}", self.revision, self.namespace, self.name);
        text.bytes().map(|b| format!("{b:02x}")).collect()
    }

    fn read(token: &str) -> Result<Self, Refusal> {
        let byte = |i: usize| token.get(i..i + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let bytes: Option<Vec<u8>> = (0..token.len()).step_by(2).map(byte).collect();
        let read = || {
            let text = String::from_utf8(bytes?).ok()?;
            let mut parts = text.splitn(3, '/');
            let revision = parts.next()?.parse().ok()?;
            Some(Self { revision, namespace: parts.next()?.to_owned(), name: parts.next()?.to_owned() })
        };
        read().ok_or_else(|| Refusal::bad_request("continue key is not valid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Manager, Resource};
    use jiff::Timestamp;

    #[test]
    fn a_list_in_pages_stands_still_until_its_version_is_forgotten() {
        let mut store = Store::new(Timestamp::UNIX_EPOCH, 1);
        let config = |name: &str| json!({"metadata": {"name": name}});
        for name in ["a", "b", "c"] {
            store.create(Resource::ConfigMaps, "n", config(name), Manager("t")).expect("created");
        }
        let route = Route::of("/api/v1/namespaces/n/configmaps").expect("a route");
        let page = list(&store, &route, &Query::of(Some("limit=2")), Form::Whole).expect("a page");
        assert_eq!(page["metadata"]["remainingItemCount"], 1);
        store.remove(&Key::new(Resource::ConfigMaps, "n", "c")).expect("removed");
        let next = format!("limit=2&continue={}", page["metadata"]["continue"].as_str().expect("a token"));
        let rest = list(&store, &route, &Query::of(Some(&next)), Form::Whole).expect("a page");
        assert_eq!(rest["items"][0]["metadata"]["name"], "c", "as it was when the list began");
        store.forget();
        assert_eq!(list(&store, &route, &Query::of(Some(&next)), Form::Whole).map_err(|r| r.code), Err(410));
    }
}
